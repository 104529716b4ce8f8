"""Encoders as files: each task's best one in the study's folder, and what one is stored as turned back into a function.

`OUTPUT/NAME/encoders/TASK/` holds `encoder.pt2` (a `torch.export` program for any number of images), `state_dict.pt`
(weights alone), `example.npy` (images of those that it learned from) and `encoder.json` (how to build the network).
"""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.records import ENCODERS
from study.tracking.state import TrackingError
from trainables import files
from trainables.encoders import Encoder, build_encoder
from trainables.errors import ConfigError, UserError

PROGRAM, WEIGHTS, EXAMPLE, ABOUT = "encoder.pt2", "state_dict.pt", "example.npy", "encoder.json"
MODEL_URIS = ("models:/", "runs:/")


@dataclass(frozen=True)
class Loaded:
    """An encoder that was stored: float images [N, 3, S, S] in [0, 1], any N, to features [N, D]; `image_size` is S."""

    features: Callable[[Tensor], Tensor]
    image_size: int


def write_encoder(folder: Path, encoder: Encoder, about: dict[str, Any], example: np.ndarray) -> None:
    """Write an encoder's four files to `folder`, each whole or not at all, `encoder.json` last.

    about: `name`, `width` and `image_size` as `build_encoder` takes them, and whatever else is worth knowing.
    example: uint8 images [n, 3, S, S]. Raises StorageError where they cannot be written.
    """
    encoder = copy.deepcopy(encoder).to("cpu", torch.float32).eval().requires_grad_(False)
    weights, program, images = io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save(encoder.state_dict(), weights)
    torch.export.save(exported(encoder, int(about["image_size"])), program)
    np.save(images, example, allow_pickle=False)
    for name, content in ((WEIGHTS, weights), (PROGRAM, program), (EXAMPLE, images)):
        files.write(folder / name, content.getvalue())
    files.write(folder / ABOUT, json.dumps(about | {"feature_dim": encoder.feature_dim}, indent=2).encode())


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return what an encoder's folder says of it, nothing where it holds no whole encoder."""
    try:
        return json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def read_encoder(folder: Path) -> Encoder:
    """Return the encoder that `write_encoder` wrote, in evaluation mode. Raises UserError for files that do not fit."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        encoder = build_encoder(about["name"], width=about["width"], image_size=about["image_size"])
        encoder.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{folder}: its {ABOUT} and {WEIGHTS} cannot be read or do not fit: {_line(error)}") from error
    return encoder.eval().requires_grad_(False)


def read_example(folder: Path) -> np.ndarray:
    """Return the images beside an encoder, uint8 [n, 3, S, S]. Raises UserError for a file that cannot be read."""
    try:
        return np.load(folder / EXAMPLE, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{folder / EXAMPLE} cannot be read: {_line(error)}") from error


def exported(encoder: nn.Module, image_size: int) -> torch.export.ExportedProgram:
    """Return the encoder, in evaluation mode, as a program for float images [N, 3, S, S] of this side and any N."""
    example = torch.zeros(2, 3, image_size, image_size)  # torch.export takes a batch of one for a constant
    return torch.export.export(encoder, (example,), dynamic_shapes=({0: torch.export.Dim("n_images")},))


def load_encoder(model: str, *, task: str | None = None, tracking_uri: str | None = None) -> Loaded:
    """Return the encoder that `model` names: an MLflow model URI, a study's folder with `task`, or an exported file.

    An encoder of a study's folder is built from its weights, loaded with `weights_only`, and runs no code of the file.
    A `.pt2` file, as MLflow's models are, can: PyTorch unpickles what its archive says it should. Open your own alone.
    Raises ConfigError for what is none of these or has no such task, UserError for a file that cannot be read, and
    TrackingError where MLflow does not have the model.
    """
    if model.startswith(MODEL_URIS):
        if task is not None:
            raise ConfigError(f"--task {task}: {model} is one model already; a task chooses within a study's folder")
        return _from_mlflow(model, tracking_uri)
    path = Path(model).expanduser()
    if path.is_file():
        return _from_weights(path.parent) if path.name == WEIGHTS else _from_program(path)
    if (path / ABOUT).is_file():
        return _from_weights(path)
    if (path / ENCODERS).is_dir():
        tasks = sorted(each.parent.name for each in (path / ENCODERS).glob(f"*/{ABOUT}"))
        if task not in tasks:
            given = "--task is missing" if task is None else f"--task {task}"
            raise ConfigError(f"{given}: {path} has encoders of {', '.join(tasks)}; name one of them")
        return _from_weights(path / ENCODERS / str(task))
    raise ConfigError(
        f"{model} is no encoder: give an MLflow model ({' or '.join(MODEL_URIS)}...), the folder of a study that has "
        f"ended, with --task, or an exported file such as STUDY/{ENCODERS}/TASK/{PROGRAM}"
    )


def _from_weights(folder: Path) -> Loaded:
    return Loaded(read_encoder(folder), read_metadata(folder)["image_size"])


def _from_program(path: Path) -> Loaded:
    try:
        program = torch.export.load(path)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: no program of torch.export that can be read: {_line(error)}") from error
    if program.example_inputs is None or not program.example_inputs[0]:
        raise UserError(f"{path}: the program does not say what images it takes; export it with `write_encoder`")
    return Loaded(program.module(), program.example_inputs[0][0].shape[-1])


def _from_mlflow(uri: str, tracking_uri: str | None) -> Loaded:
    import mlflow.pytorch
    from mlflow import MlflowException

    from study.tracking.sync import default_tracking_uri, mlflow_environment

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri or default_tracking_uri())
    try:
        with mlflow_environment():
            signature = mlflow.models.get_model_info(uri).signature
            module = mlflow.pytorch.load_model(uri)
    except (MlflowException, OSError) as error:
        raise TrackingError(f"MLflow has no model {uri} that can be read: {_line(error)}") from error
    finally:
        mlflow.set_tracking_uri(before)
    shape: tuple[int, ...] = signature.inputs.inputs[0].shape if signature and signature.inputs.is_tensor_spec() else ()
    if len(shape) != 4:
        raise ConfigError(f"{uri}: its signature takes no images [N, 3, S, S], so it is no encoder of a study")
    return Loaded(module, int(shape[-1]))


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
