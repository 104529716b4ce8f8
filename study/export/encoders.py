"""Encoders as files: writing each task's best encoder to the study's folder, and loading it from any of its forms.

`OUTPUT/NAME/encoders/TASK/` contains `encoder.pt2` (a `torch.export` program for any number of images),
`state_dict.pt` (the weights), `example.npy` (images of the training data set) and `encoder.json` (how to build the
network).
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analysis.records import ENCODERS
from study.tracking.state import TrackingError
from trainables import files, plugins
from trainables.data.intensity import Intensity
from trainables.encoders import ENCODERS as ENCODER_NAMES
from trainables.encoders import Encoder, build_encoder
from trainables.errors import ConfigError, UserError, first_line

PROGRAM, WEIGHTS, EXAMPLE, METADATA = "encoder.pt2", "state_dict.pt", "example.npy", "encoder.json"
READING = "reading.json"  # extra file in the program
_SHAPE = ("width", "image_size", "in_channels", "input_size", "mean", "std")  # arguments of `build_encoder`
MODEL_URIS = ("models:/", "runs:/")


@dataclass(frozen=True)
class Reading:
    """How the files of a data set became images in [0, 1]; new images are read like it.

    Attributes:
        stack: Pages that are read of a file with several; see `ImageReader`.
        intensity: Windows of images of more than 8 bits; None if the data set had none.
        resize: How an image became a square, `crop` or `squash`.
    """

    stack: str = "first"
    intensity: Intensity | None = None
    resize: str = "crop"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `from_dict` is the inverse."""
        intensity = None if self.intensity is None else self.intensity.to_dict()
        return {"stack": self.stack, "intensity": intensity, "resize": self.resize}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reading:
        """Return the Reading of a dict from `to_dict`; the defaults for an encoder from before it was stored."""
        intensity = values.get("intensity")
        windows = None if intensity is None else Intensity.from_dict(intensity)
        return cls(values.get("stack", "first"), windows, values.get("resize", "crop"))


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder loaded from a file or from MLflow.

    Attributes:
        features: Function from float images [N, C, S, S] in [0, 1], any N, to features [N, D].
        image_size: Side S of the images in px.
        in_channels: Channels C of the images.
        reading: How files become such images.
    """

    features: Callable[[Tensor], Tensor]
    image_size: int
    in_channels: int = 3
    reading: Reading = Reading()


def write_encoder(folder: Path, encoder: Encoder, metadata: dict[str, Any], example: np.ndarray) -> None:
    """Write an encoder's four files, each atomically, `encoder.json` last.

    Args:
        folder: Folder to write to.
        encoder: The encoder; it is not changed.
        metadata: `name`, `width`, `image_size` and so on as arguments of `build_encoder`, `reading` as from
            `Reading.to_dict`, and further facts for the reader.
        example: Images of the training data set, uint8, uint16 or float32 [N, C, S, S].

    Raises:
        StorageError: A file cannot be written.
    """
    encoder = copy.deepcopy(encoder).to("cpu", torch.float32).eval().requires_grad_(False)
    weights, program, images = io.BytesIO(), io.BytesIO(), io.BytesIO()
    metadata = metadata | {"feature_dim": encoder.feature_dim, "in_channels": encoder.in_channels}
    torch.save(encoder.state_dict(), weights)
    reading = json.dumps(metadata.get("reading", {}))
    torch.export.save(_export(encoder, int(metadata["image_size"])), program, extra_files={READING: reading})
    np.save(images, example, allow_pickle=False)
    for name, content in ((WEIGHTS, weights), (PROGRAM, program), (EXAMPLE, images)):
        files.write(folder / name, content.getvalue())
    files.write(folder / METADATA, json.dumps(metadata, indent=2).encode())


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return the content of an encoder's `encoder.json`; empty if the folder does not contain a complete encoder."""
    try:
        return json.loads((folder / METADATA).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}


def read_encoder(folder: Path) -> Encoder:
    """Return the encoder that `write_encoder` wrote to `STUDY/encoders/TASK`, in eval mode.

    The plug-in of an encoder that is not of this package is run from the study's folder.

    Raises:
        UserError: Its files cannot be read, or do not match each other.
    """
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        shape = {key: metadata[key] for key in _SHAPE if key in metadata}
        if metadata["name"] not in ENCODER_NAMES.built_in:
            plugins.load_recorded(metadata.get("plugins", []), folder.resolve().parents[1])
        encoder = build_encoder(metadata["name"], **shape)
        encoder.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"{folder}: its {METADATA} and {WEIGHTS} cannot be read or do not match: {first_line(error)}"
        ) from error
    return encoder.eval().requires_grad_(False)


def read_example(folder: Path) -> np.ndarray:
    """Return the example images stored with an encoder, uint8, uint16 or float32 [N, C, S, S].

    Raises:
        UserError: The file cannot be read.
    """
    try:
        return np.load(folder / EXAMPLE, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{folder / EXAMPLE} cannot be read: {first_line(error)}") from error


def load_encoder(model: str, *, task: str | None = None, tracking_uri: str | None = None) -> LoadedEncoder:
    """Load an encoder from MLflow, from a study's folder, or from an exported file.

    An encoder in a study's folder is built from its weights, loaded with `weights_only`, which cannot run code. If a
    plug-in registered its architecture, the plug-in's source in the study's folder is run first. A `.pt2` file or an
    MLflow model can run code when it is opened, because PyTorch unpickles parts of it: open only files that you trust.

    Args:
        model: MLflow model URI, folder of a study or an encoder, or path of an exported file.
        task: Task whose encoder to take from a study's folder.
        tracking_uri: MLflow store; None for the default.

    Raises:
        ConfigError: `model` is not one of these, or the study has no encoder of `task`.
        UserError: A file cannot be read.
        TrackingError: MLflow does not have the model.
    """
    path = files.expanded(model)
    in_mlflow = model.startswith(MODEL_URIS)
    if task is not None and (in_mlflow or path.is_file() or (path / METADATA).is_file()):
        raise ConfigError(f"--task {task}: {model} is one encoder; a task selects one in a study's folder")
    if in_mlflow:
        return _from_mlflow(model, tracking_uri)
    if path.is_file():
        return _from_weights(path.parent) if path.name == WEIGHTS else _from_program(path)
    if (path / METADATA).is_file():
        return _from_weights(path)
    if (path / ENCODERS).is_dir():
        tasks = sorted(each.parent.name for each in (path / ENCODERS).glob(f"*/{METADATA}"))
        if task not in tasks:
            given = "--task is missing" if task is None else f"--task {task}"
            raise ConfigError(f"{given}: {path} has encoders of {', '.join(tasks)}; name one of them")
        return _from_weights(path / ENCODERS / str(task))
    raise ConfigError(
        f"{model} is not an encoder: give an MLflow model ({' or '.join(MODEL_URIS)}...), the folder of a finished "
        f"study, with --task, or an exported file such as STUDY/{ENCODERS}/TASK/{PROGRAM}"
    )


def _export(encoder: Encoder, image_size: int) -> torch.export.ExportedProgram:
    """Return an encoder in eval mode as a program for float images [N, C, S, S] of this side and any N."""
    example = torch.zeros(
        2, encoder.in_channels, image_size, image_size
    )  # torch.export would make a batch size of one a constant
    return torch.export.export(encoder, (example,), dynamic_shapes=({0: torch.export.Dim("n_images")},))


def _from_weights(folder: Path) -> LoadedEncoder:
    encoder, metadata = read_encoder(folder), read_metadata(folder)
    reading = Reading.from_dict(metadata.get("reading", {}))
    return LoadedEncoder(encoder, metadata["image_size"], encoder.in_channels, reading)


def _from_program(path: Path) -> LoadedEncoder:
    extra = {READING: ""}  # filled where the file has it
    try:
        program = torch.export.load(path, extra_files=extra)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not a torch.export program that can be read: {first_line(error)}") from error
    if program.example_inputs is None or not program.example_inputs[0]:
        raise UserError(f"{path}: the program does not record the size of its images; export it with `write_encoder`")
    _, in_channels, image_size, _ = program.example_inputs[0][0].shape
    return LoadedEncoder(
        program.module(), image_size, in_channels, Reading.from_dict(json.loads(extra[READING] or "{}"))
    )


@contextlib.contextmanager
def _process_store(tracking_uri: str) -> Iterator[None]:
    """Give the whole process a store inside this block; MLflow sets MLFLOW_TRACKING_URI as well."""
    import mlflow

    before, variable = mlflow.get_tracking_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        if variable is not None:
            os.environ["MLFLOW_TRACKING_URI"] = variable


def _from_mlflow(uri: str, tracking_uri: str | None) -> LoadedEncoder:
    import mlflow.pytorch

    from study.tracking.store import UNREACHABLE
    from study.tracking.sync import default_tracking_uri, mlflow_environment

    try:
        with _process_store(tracking_uri or default_tracking_uri()), mlflow_environment():
            info = mlflow.models.get_model_info(uri)
            module = mlflow.pytorch.load_model(uri)
    except (*UNREACHABLE, ImportError) as error:  # SQLAlchemy imports the driver of a database when it connects
        raise TrackingError(f"MLflow has no model {uri} that can be read: {first_line(error)}") from error
    signature = info.signature
    shape: tuple[int, ...] = signature.inputs.inputs[0].shape if signature and signature.inputs.is_tensor_spec() else ()
    if len(shape) != 4:
        raise ConfigError(f"{uri}: its signature does not take images [N, C, S, S], so it is not an encoder of a study")
    reading = Reading.from_dict((info.metadata or {}).get("reading", {}))
    return LoadedEncoder(module, int(shape[-1]), int(shape[1]), reading)
