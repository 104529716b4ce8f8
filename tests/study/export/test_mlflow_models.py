"""Encoders as registered models of MLflow, in a file and on a server."""

from __future__ import annotations

import getpass
from pathlib import Path

import mlflow.pyfunc
import mlflow.pytorch
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from study.export.mlflow_models import log_model
from study.tracking.state import TrackingError
from study.tracking.sync import sync
from tests.conftest import CORE
from tests.study.mlflow_stores import runs_by_key, stored_points
from tests.study.tracked_journals import START, study_events, trial, write


@pytest.mark.parametrize("where", ["sqlite", pytest.param("server", marks=CORE)])
def test_a_registered_model_gives_the_same_features(
    where: str, folder: Path, store: str, request: pytest.FixtureRequest
) -> None:
    uri = store if where == "sqlite" else request.getfixturevalue("server").url
    write(folder, study_events("models"))
    sync(folder, uri)
    encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder(torch.rand(16, 3, 16, 16))  # moves the running statistics away from their defaults
    example = np.random.default_rng(0).integers(0, 256, (1, 3, 16, 16), dtype=np.uint8)
    values = {"trial_id": trial(0).trial_id, "encoder": encoder, "example": example, "name": "v1.0-rotation"}
    model = log_model(folder, uri, **values, step=250)
    assert model == "models:/v1.0-rotation/1"
    assert log_model(folder, uri, **values) == model
    assert encoder.training
    other = log_model(folder, uri, **{**values, "trial_id": trial(0, "confirm", seed=1).trial_id})
    assert other == "models:/v1.0-rotation/2"

    mlflow.set_tracking_uri(uri)
    try:
        loaded, served = mlflow.pytorch.load_model(model), mlflow.pyfunc.load_model(model)
    finally:
        mlflow.set_tracking_uri(None)
    images = torch.rand(5, 3, 16, 16)  # another batch size than the example's
    with torch.no_grad():
        expected = encoder.eval()(images)
        torch.testing.assert_close(loaded(images), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(served.predict(images.numpy()), expected.numpy(), atol=1e-6)
    assert served.metadata.signature.inputs.inputs[0].shape == (-1, 3, 16, 16)
    run = runs_by_key(uri, "models")[trial(0).trial_id]
    assert [output.step for output in run.outputs.model_outputs] == [250]


def test_a_study_begun_afresh_registers_its_own_model_of_the_same_trial(folder: Path, store: str) -> None:
    values = {"encoder": nn.Flatten(), "example": np.zeros((2, 3, 4, 4), dtype=np.uint8), "name": "s-rotation"}
    models = []
    for start in (START, START + 5000):
        (folder / "journal.jsonl").unlink(missing_ok=True)
        write(folder, study_events(), start=start)
        sync(folder, store)
        models.append(log_model(folder, store, trial_id=trial(0).trial_id, **values))
    assert models == ["models:/s-rotation/1", "models:/s-rotation/2"]
    client = MlflowClient(tracking_uri=store)
    assert client.get_model_version_by_alias("s-rotation", "best").version == 2
    runs = {version.run_id for version in client.search_model_versions("name = 's-rotation'")}
    assert len(runs) == 2


def test_a_model_whose_files_are_refused_leaves_nothing_behind(
    folder: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    write(folder, study_events())
    sync(folder, store)
    values = {"encoder": nn.Flatten(), "example": np.zeros((2, 3, 4, 4), dtype=np.uint8), "name": "s-rotation"}
    monkeypatch.setattr(MlflowClient, "log_model_artifacts", refuse)
    for _ in range(2):
        with pytest.raises(TrackingError, match=r"did not accept model s-rotation of trial .*Permission denied"):
            log_model(folder, store, trial_id=trial(0).trial_id, **values)
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("small-data")
    assert experiment is not None
    assert client.search_logged_models([experiment.experiment_id]) == []


def test_a_model_says_what_it_is_who_made_it_what_it_saw_and_how_good_it_is(folder: Path, store: str) -> None:
    write(folder, study_events())
    sync(folder, store)
    encoder, example = nn.Flatten(), np.zeros((2, 3, 4, 4), dtype=np.uint8)
    values = {"encoder": encoder, "example": example, "name": "m"}
    points = stored_points(store)
    log_model(folder, store, trial_id=trial(0).trial_id, **values)
    log_model(folder, store, trial_id=trial(0, "confirm", seed=1).trial_id, **values)
    assert stored_points(store) == points
    client = MlflowClient(tracking_uri=store)
    assert client.get_registered_model("m").description.startswith("Encoders of m")
    version = client.get_model_version_by_alias("m", "best")
    assert (int(version.version), version.description[:12]) == (2, "Float images")
    (output,) = client.get_run(version.run_id).outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert model.tags["mlflow.user"] == getpass.getuser()
    assert model.params["lr"] == "0.001"
    found = {metric.key: metric for metric in model.metrics}
    assert found["probe/shapes/linear"].value == 0.61
    assert found["val/accuracy"].dataset_name == "shapes validation"
    assert "train/loss" not in found


def test_a_model_of_an_unknown_trial_is_refused(folder: Path, store: str) -> None:
    write(folder, study_events())
    sync(folder, store)
    with pytest.raises(TrackingError, match="no trial nowhere"):
        log_model(folder, store, trial_id="nowhere", encoder=nn.Flatten(), example=np.zeros((2, 3, 4, 4)), name="m")
