"""Encoders as MLflow models, registered as `STUDY-TASK`: loadable by name, without this package and without pickle."""

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow.pytorch
import numpy as np
import torch
from mlflow import MlflowClient, MlflowException
from mlflow.entities import LoggedModel, LoggedModelOutput, Run
from mlflow.models import Model, infer_signature
from torch import nn

from analysis.data.mlflow_names import model_in_mlflow
from analysis.records import ENCODERS
from study.export.encoders import read_encoder, read_example, read_metadata
from study.tracking.metadata import source_tags
from study.tracking.state import TrackingError, TrackingState
from study.tracking.store import UNREACHABLE, artifact_errors
from study.tracking.sync import default_tracking_uri, mlflow_environment, run_id_of, sync
from trainables.data.table import to_float
from trainables.errors import first_line

TRIAL_TAG = "pretext.trial_id"
BEST = "best"  # alias of the newest version: `models:/STUDY-TASK@best`
PARAMS = (
    "task",
    "encoder",
    "width",
    "dataset",
    "n_images",
    "lr",
    "batch_size",
    "augmentation_strength",
    "budget_steps",
)


def log_models(folder: Path, tracking_uri: str | None) -> list[str]:
    """Log the encoders in a study's folder and register them as `STUDY-TASK`.

    The files of encoders that are registered already are not read.

    Args:
        folder: Folder of a study.
        tracking_uri: MLflow store; None for the default.

    Returns:
        One `models:/NAME/VERSION` URI per encoder.

    Raises:
        TrackingError: MLflow cannot be reached.
        UserError: A file of an encoder is broken.
    """
    stored = {path: metadata for path in sorted((folder / ENCODERS).glob("*/")) if (metadata := read_metadata(path))}
    names = {path: f"{metadata['study']}-{path.name}" for path, metadata in stored.items()}
    registered = {path: _registered(folder, tracking_uri, names[path], stored[path]["trial_id"]) for path in stored}
    if None in registered.values():
        sync(folder, tracking_uri)
    problems = []
    for path, metadata in stored.items():
        try:
            registered[path] = registered[path] or log_model(
                folder,
                tracking_uri,
                trial_id=metadata["trial_id"],
                encoder=read_encoder(path),
                example=read_example(path),
                name=names[path],
                step=metadata["step"],
                reading=metadata.get("reading"),
            )
        except TrackingError as error:  # the others may be accepted
            problems.append(str(error))
    if problems:
        raise TrackingError("; ".join(problems))
    return [uri for uri in registered.values() if uri is not None]


def log_model(
    folder: Path,
    tracking_uri: str | None,
    *,
    trial_id: str,
    encoder: nn.Module,
    example: np.ndarray,
    name: str,
    step: int = 0,
    reading: Mapping[str, Any] | None = None,
) -> str:
    """Log an encoder under its trial's run and register it, unless the trial's model is registered already.

    The model maps float32 images [N, C, S, S] in [0, 1], any N, to features, as `encoder` does in eval mode. It is
    stored as a `torch.export` graph: MLflow refuses to unpickle by default, and a graph needs no code of this package.

    Args:
        folder: Folder of a study that has been synced with MLflow.
        tracking_uri: MLflow store; None for the default.
        trial_id: Trial that trained the encoder.
        encoder: The encoder; it is not changed.
        example: Images [N, C, S, S], uint8, uint16 or float32 in [0, 1].
        name: Name to register the model as.
        step: Optimizer step of the weights.
        reading: How files become such images, from `Reading.to_dict`; stored in the model's metadata.

    Returns:
        The `models:/NAME/VERSION` URI of the model.

    Raises:
        TrackingError: MLflow cannot be reached, or does not know the trial.
        ValueError: `example` does not have the shape of images.
    """
    if (model_uri := _registered(folder, tracking_uri, name, trial_id)) is not None:
        return model_uri
    run_id, uri = run_id_of(folder, tracking_uri, trial_id)
    shape = ", ".join(map(str, example.shape[1:]))
    description = f"Float images [n, {shape}] in [0, 1] to features, after {step} steps of trial {trial_id}."
    with _tracking_errors(f"MLflow did not accept model {name} of trial {trial_id}"):
        client = MlflowClient(tracking_uri=uri)
        model = _log(client, run_id, encoder, example, name=name, trial_id=trial_id, step=step, reading=reading)
        return f"models:/{name}/{_register(client, name, model, run_id, trial_id, description)}"


def _registered(folder: Path, tracking_uri: str | None, name: str, trial_id: str) -> str | None:
    """Return the `models:/NAME/VERSION` URI of the model of a trial's run; None if it is not registered.

    The trial's id alone does not identify it: a study that begins again, perhaps on other images, has the same ids.
    """
    uri = tracking_uri or default_tracking_uri()
    state = TrackingState.of(folder, uri)
    if state is None or (run_id := state.runs.get(f"trial/{trial_id}")) is None:
        return None
    with _tracking_errors(f"cannot look up model {name} of trial {trial_id} in MLflow"):
        client = MlflowClient(tracking_uri=uri)
        found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return f"models:/{name}/{min(int(version.version) for version in found)}" if found else None


@contextlib.contextmanager
def _tracking_errors(message: str) -> Iterator[None]:
    """Turn errors of MLflow into a TrackingError that begins with `message`."""
    try:
        with mlflow_environment():
            yield
    except UNREACHABLE as error:
        raise TrackingError(f"{message}: {first_line(error)}") from error


def _log(
    client: MlflowClient,
    run_id: str,
    encoder: nn.Module,
    example: np.ndarray,
    *,
    name: str,
    trial_id: str,
    step: int,
    reading: Mapping[str, Any] | None,
) -> LoggedModel:
    """Store the model under a given run; `mlflow.pytorch.log_model` can only use the process's active run."""
    run = client.get_run(run_id)
    model = client.create_logged_model(
        run.info.experiment_id,
        name=model_in_mlflow(name),
        source_run_id=run_id,
        tags={TRIAL_TAG: trial_id, **source_tags()},
        params={param: value for param, value in run.data.params.items() if param in PARAMS},
        model_type="encoder",
    )
    with _deleted_if_incomplete(client, model.model_id), tempfile.TemporaryDirectory() as temporary:
        path = str(Path(temporary) / "model")
        metadata = None if reading is None else {"reading": dict(reading)}
        form = Model(model.artifact_location, run_id, model_uuid=model.model_id, metadata=metadata)
        _save(encoder, example, path, form)
        with artifact_errors():
            client.log_model_artifacts(model.model_id, path)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
    _log_metrics(client, run, model.model_id)
    return client.finalize_logged_model(model.model_id, "READY")


@contextlib.contextmanager
def _deleted_if_incomplete(client: MlflowClient, model_id: str) -> Iterator[None]:
    """Delete a model whose files could not be stored: each further attempt creates another one."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(*UNREACHABLE):
            client.delete_logged_model(model_id)
        raise


def _log_metrics(client: MlflowClient, run: Run, model_id: str) -> None:
    """Give a model the last validation and probe values of its run, and the data set that they were measured on."""
    given = [item.dataset for item in run.inputs.dataset_inputs] if run.inputs else []
    dataset = given[-1] if given else None
    for metric in run.data.metrics:
        if metric.startswith(("val/", "probe/")):
            last = max(client.get_metric_history(run.info.run_id, metric), key=lambda each: (each.step, each.timestamp))
            client.log_metric(  # the run has this point already and does not store it twice
                *(run.info.run_id, metric, last.value, last.timestamp, last.step),
                dataset_name=dataset.name if dataset else None,
                dataset_digest=dataset.digest if dataset else None,
                model_id=model_id,
            )


def _save(encoder: nn.Module, example: np.ndarray, path: str, model: Model) -> None:
    """Save an encoder as an MLflow model for the CPU, with signature and input example, to the folder `path`."""
    if example.ndim != 4 or len(example) == 0:
        raise ValueError(f"the example must be images [n, C, S, S], not {example.shape}")
    example = to_float(torch.from_numpy(np.array(example[:2]))).numpy()
    if len(example) == 1:
        example = np.repeat(example, 2, axis=0)  # torch.export would make a batch size of one a constant
    encoder = copy.deepcopy(encoder).to("cpu", torch.float32).eval().requires_grad_(False)
    features = encoder(torch.from_numpy(example)).numpy()
    mlflow.pytorch.save_model(
        encoder,
        path,
        mlflow_model=model,
        signature=infer_signature(example, features),
        input_example=example,
        serialization_format="pt2",
        # Explicit, because MLflow would otherwise load the model in a fresh process to infer the requirements.
        pip_requirements=[f"torch=={torch.__version__.split('+')[0]}"],
    )


def _register(client: MlflowClient, name: str, model: LoggedModel, run_id: str, trial_id: str, description: str) -> str:
    about = f"Encoders of {name}: the best confirmed trial of each study of that name. The newest is {name}@{BEST}."
    try:
        client.create_registered_model(name, description=about)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # By location, because MLflow looks a `models:/` source up in the process's global store, not in this client's.
    version = client.create_model_version(
        name,
        model.artifact_location,
        run_id,
        tags={TRIAL_TAG: trial_id},
        model_id=model.model_id,
        description=description,
    )
    client.set_registered_model_alias(name, BEST, version.version)
    link = json.dumps([{"name": name, "version": version.version}])
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": link})  # the UI links models by this tag
    return str(version.version)
