"""Encoders as MLflow models, registered as `STUDY-TASK`: loadable by name, without this package and without pickle."""

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow.pytorch
import numpy as np
import torch
from mlflow import MlflowClient, MlflowException
from mlflow.entities import LoggedModel, LoggedModelOutput
from mlflow.models import Model, infer_signature
from torch import nn

from analysis.records import ENCODERS
from study.export.encoders import read_encoder, read_example, read_metadata
from study.tracking.runs import UNREACHABLE
from study.tracking.sync import TrackingError, default_tracking_uri, mlflow_environment, run_id_of, sync

TRIAL_TAG = "pretext.trial_id"


def log_models(folder: Path, tracking_uri: str | None) -> list[str]:
    """Log the encoders of a study's folder, registered as `STUDY-TASK`; return their `models:/NAME/VERSION` URIs.

    Those that are there are left alone, and their files unread. Raises TrackingError where MLflow is away, UserError
    where a file is broken.
    """
    stored = {own: about for own in sorted((folder / ENCODERS).glob("*/")) if (about := read_metadata(own))}
    names = {own: f"{about['study']}-{own.name}" for own, about in stored.items()}
    logged = {own: _registered(tracking_uri, names[own], about["trial_id"]) for own, about in stored.items()}
    if None in logged.values():
        sync(folder, tracking_uri)
    return [
        logged[own]
        or _store(
            folder,
            tracking_uri,
            trial_id=about["trial_id"],
            encoder=read_encoder(own),
            example=read_example(own),
            name=names[own],
            step=about["step"],
        )
        for own, about in stored.items()
    ]


def log_model(
    folder: Path,
    tracking_uri: str | None,
    *,
    trial_id: str,
    encoder: nn.Module,
    example: np.ndarray,
    name: str,
    step: int = 0,
) -> str:
    """Log an encoder under its trial's run, register it as `name`, and return its `models:/NAME/VERSION` URI.

    The model maps float32 images [n, 3, S, S] in [0, 1], any n, to features, as `encoder` does in eval mode. It is
    stored as a `torch.export` graph: MLflow refuses to unpickle by default, and a graph needs no code of ours.
    A trial's model is registered once; asked again, this returns the version that is there.

    example: images [n, 3, S, S], uint8 or float32 in [0, 1]. step: optimizer step that the weights come from.
    Raises TrackingError where MLflow is away or does not know the trial.
    """
    if (model := _registered(tracking_uri, name, trial_id)) is not None:
        return model
    sync(folder, tracking_uri)
    return _store(folder, tracking_uri, trial_id=trial_id, encoder=encoder, example=example, name=name, step=step)


def _registered(tracking_uri: str | None, name: str, trial_id: str) -> str | None:
    """Return the `models:/NAME/VERSION` URI of a trial's model, None where MLflow has none.

    Raises TrackingError where MLflow is away.
    """
    with _talking(f"MLflow would not say whether it has model {name} of trial {trial_id}"):
        client = MlflowClient(tracking_uri=tracking_uri or default_tracking_uri())
        found = client.search_model_versions(f"name = '{name}' and tags.`{TRIAL_TAG}` = '{trial_id}'")
    return f"models:/{name}/{min(int(version.version) for version in found)}" if found else None


def _store(
    folder: Path,
    tracking_uri: str | None,
    *,
    trial_id: str,
    encoder: nn.Module,
    example: np.ndarray,
    name: str,
    step: int,
) -> str:
    run_id, uri = run_id_of(folder, tracking_uri, trial_id)
    side = example.shape[-1]
    what = f"Float images [n, 3, {side}, {side}] in [0, 1] to features, after {step} steps of trial {trial_id}."
    with _talking(f"MLflow would not take model {name} of trial {trial_id}"):
        client = MlflowClient(tracking_uri=uri)
        model = _log(client, run_id, encoder, example, name=name, trial_id=trial_id, step=step)
        return f"models:/{name}/{_register(client, name, model, run_id, trial_id, what)}"


@contextlib.contextmanager
def _talking(refusal: str) -> Iterator[None]:
    """Raise TrackingError that begins with `refusal` where MLflow is away or says no."""
    try:
        with mlflow_environment():
            yield
    except UNREACHABLE as error:
        line = str(error).partition("\n")[0]
        raise TrackingError(f"{refusal}: {line}") from error


def _log(
    client: MlflowClient, run_id: str, encoder: nn.Module, example: np.ndarray, *, name: str, trial_id: str, step: int
) -> LoggedModel:
    """Store the model under the run. `mlflow.pytorch.log_model` would do it to the process's one active run."""
    experiment_id = client.get_run(run_id).info.experiment_id
    tags = {TRIAL_TAG: trial_id}
    model = client.create_logged_model(experiment_id, name=name, source_run_id=run_id, tags=tags, model_type="encoder")
    with tempfile.TemporaryDirectory() as temporary:
        path = str(Path(temporary) / "model")
        save(encoder, example, path, Model(model.artifact_location, run_id, model_uuid=model.model_id))
        client.log_model_artifacts(model.model_id, path)
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
    return client.finalize_logged_model(model.model_id, "READY")


def _register(client: MlflowClient, name: str, model: LoggedModel, run_id: str, trial_id: str, description: str) -> str:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # By its location: a `models:/` source would be looked up in the process's global store, whatever this client's.
    version = client.create_model_version(
        name,
        model.artifact_location,
        run_id,
        tags={TRIAL_TAG: trial_id},
        model_id=model.model_id,
        description=description,
    )
    link = json.dumps([{"name": name, "version": version.version}])
    client.set_logged_model_tags(model.model_id, {"mlflow.modelVersions": link})  # as the UI links them
    return str(version.version)


def save(encoder: nn.Module, example: np.ndarray, path: str, model: Model | None = None) -> None:
    """Save an encoder to the folder `path` as an MLflow model with signature and input example, on the CPU.

    example: as in `log_model`. Raises ValueError for an example that is no batch of images.
    """
    if example.ndim != 4 or len(example) == 0:
        raise ValueError(f"the example must be images [n, 3, S, S], not {example.shape}")
    if example.dtype == np.uint8:
        example = example / np.float32(255)
    example = np.ascontiguousarray(example, dtype=np.float32)[:2]
    if len(example) == 1:
        example = np.repeat(example, 2, axis=0)  # torch.export takes a batch of one for a constant
    encoder = copy.deepcopy(encoder).to("cpu", torch.float32).eval().requires_grad_(False)
    features = encoder(torch.from_numpy(example)).numpy()
    mlflow.pytorch.save_model(
        encoder,
        path,
        mlflow_model=model,
        signature=infer_signature(example, features),
        input_example=example,
        serialization_format="pt2",
        # Stated, since MLflow would otherwise find them out by loading the model in a fresh process.
        pip_requirements=[f"torch=={torch.__version__.split('+')[0]}"],
    )
