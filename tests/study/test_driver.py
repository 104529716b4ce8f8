"""A whole tiny study on a real local Ray: what it leaves behind, and what running it again does."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import filelock
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

import analysis
from analysis.records import (
    FINISHED,
    JOURNAL_FILE,
    Event,
    PhaseEnded,
    PhaseStarted,
    Report,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialEvent,
    TrialStarted,
    read,
    to_line,
)
from study import driver
from study.config import strict_yaml
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.driver import Outcome, run_study
from study.execution import cluster, memory, resources
from study.folder import open_folder
from study.plan.history import History
from study.plan.ranking import ranked
from tests.conftest import REPOSITORY
from tests.study.mlflow_stores import eventually, stored_points
from tests.study.studies import splits_of, tiny
from trainables.encoders import calibration_images, recalibrated
from trainables.errors import ConfigError, DataError
from trainables.ray_adapter.storage import CheckpointStore
from trainables.ray_adapter.trainable import trained_encoder
from trainables.trial import ONLINE_PROBES

PHASES = ["baselines", "search", "confirm", "evaluate"]


@dataclasses.dataclass
class Ran:
    """A study that has run to its end, and the MLflow store that it was tracked in."""

    config: StudyConfig
    output: Path
    outcome: Outcome
    heard: list[Event]

    @property
    def store(self) -> str:
        assert self.config.tracking_uri is not None
        return self.config.tracking_uri


@pytest.fixture(scope="module")
def ran(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """A study of one task, from its baselines to its report. Not to be changed."""
    root, heard = tmp_path_factory.mktemp("ran"), []
    config = tiny(tracking_uri=f"sqlite:///{root}/mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)  # where MLflow puts the artifacts of such a store
        outcome = run_study(config, root / "out", listeners=[heard.append])
        yield Ran(config, root / "out", outcome, heard)


def trial_events(folder: Path) -> list[TrialEvent]:
    return list(read(folder, TrialEvent))


@pytest.mark.core
@pytest.mark.slow
def test_a_study_says_where_its_results_are_and_what_it_chose(ran: Ran):
    outcome = ran.outcome
    assert outcome.folder == ran.output / "tiny"
    assert outcome.tracked
    assert outcome.failed == []
    choice = outcome.chosen["rotation"]
    assert (choice["metric"], choice["mode"], len(choice["values"])) == (ONLINE_PROBES[0], "max", 2)


@pytest.mark.core
@pytest.mark.slow
def test_a_study_leaves_its_configuration_results_report_and_checkpoints(ran: Ran):
    folder = ran.outcome.folder
    assert check_config(strict_yaml.load((folder / "study.yaml").read_text())) == ran.config
    runs, curves = pd.read_parquet(folder / "runs.parquet"), pd.read_parquet(folder / "curves.parquet")
    assert set(runs["phase"]) == set(PHASES)
    assert set(runs["status"]) == {FINISHED}
    trained = runs[runs["phase"].isin(["search", "confirm"])]
    assert set(curves["trial_id"]) == set(trained["trial_id"])
    for key in trained["trial_id"]:
        assert list((folder / "checkpoints" / key).glob("step-*6.pt"))
    page = (folder / "report.html").read_text()
    assert ran.outcome.report == folder / "report.html"
    assert "<html" in page
    assert "rotation" in page


@pytest.mark.core
@pytest.mark.slow
def test_every_probe_keeps_its_images_in_the_journal_and_in_mlflow(ran: Ran, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ran.output.parent)  # where the artifacts are
    study, tracked = analysis.load(ran.outcome.folder), analysis.load(ran.store, study="tiny")
    [name] = [name for name in study.runs if re.fullmatch(r"probe/[^/]+/linear", name)]
    probed = study.runs.dropna(subset=name)
    assert len(probed) > 3
    for trial_id, accuracy in zip(probed["trial_id"], probed[name], strict=True):
        correct = study.per_image.contributions(trial_id, name)
        assert correct is not None
        assert correct.mean() == pytest.approx(accuracy, abs=1e-6)
        np.testing.assert_array_equal(tracked.per_image.contributions(trial_id, name), correct)


@pytest.mark.core
@pytest.mark.slow
def test_the_recommended_study_is_valid_and_holds_what_was_chosen(ran: Ran):
    recommended = check_config(strict_yaml.load((ran.outcome.folder / "recommended.yaml").read_text()))
    assert recommended.base_trial("rotation", "search").lr == ran.outcome.chosen["rotation"]["config"]["lr"]


@pytest.mark.core
@pytest.mark.slow
def test_the_journal_tells_the_phases_in_order_and_every_trial_once(ran: Ran):
    events = list(read(ran.outcome.folder))
    assert [event.phase for event in events if isinstance(event, PhaseEnded)] == PHASES
    assert isinstance(events[-1], StudyEnded)
    for kind in (TrialStarted, TrialEnded):
        assert set(Counter(event.trial_id for event in events if isinstance(event, kind)).values()) == {1}
    started = events[0]
    assert isinstance(started, StudyStarted)
    assert started.config_hash == ran.config.config_hash
    assert started.datasets["shapes"]["fingerprint"] == splits_of("shapes", ran.config.max_train).fingerprint
    assert {"torch", "ray", "python"} <= set(started.versions)
    assert ran.heard == events


@pytest.mark.core
@pytest.mark.slow
def test_the_test_split_is_probed_in_the_evaluation_and_nowhere_else(ran: Ran):
    runs = pd.read_parquet(ran.outcome.folder / "runs.parquet")
    assert set(runs.loc[runs["probe_split"] == "test", "phase"]) == {"evaluate"}
    evaluated = runs[runs["phase"] == "evaluate"]
    assert evaluated["probe/shapes/linear"].notna().all()
    assert Counter(evaluated["task"]) == {"rotation": 2, "random_init": 2, "raw_pixels": 1}


@pytest.mark.core
@pytest.mark.slow
def test_mlflow_holds_the_study_its_phases_and_their_trials_nested(ran: Ran):
    client = MlflowClient(tracking_uri=ran.store)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    parents = {run.info.run_id: runs.get(run.data.tags.get("mlflow.parentRunId", "")) for run in runs.values()}
    kinds = Counter(run.data.tags["pretext.kind"] for run in runs.values())
    assert kinds == {"study": 1, "phase": 4, "trial": len(History.read(ran.outcome.folder).trials)}
    for key, run in runs.items():
        above = parents[key]
        expected = {"study": None, "phase": None, "trial": "phase"}[run.data.tags["pretext.kind"]]
        assert (above.data.tags["pretext.kind"] if above else None) == expected
        assert run.info.status == "FINISHED"
    study = next(run for run in runs.values() if run.data.tags["pretext.kind"] == "study")
    stored = {item.path for item in client.list_artifacts(study.info.run_id)}
    assert {"study.yaml", "report.html", "runs.parquet", "curves.parquet", "recommended.yaml"} <= stored


@pytest.mark.core
@pytest.mark.slow
def test_the_registered_model_gives_the_features_of_the_best_checkpoint(ran: Ran):
    choice, splits = ran.outcome.chosen["rotation"], splits_of("shapes", ran.config.max_train)
    trials = History.read(ran.outcome.folder).trials
    best = ranked([trials[key] for key in choice["trial_ids"]], choice["metric"], choice["mode"])[0].trial.trial_id
    assert trials[best].value(choice["metric"]) == max(choice["values"])
    trial = trials[best].trial.replace(init_from=best)
    encoder = trained_encoder(trial, CheckpointStore(str(ran.outcome.folder.resolve() / "checkpoints")), splits)
    images = splits.test.images[:5].astype(np.float32) / 255
    with torch.no_grad():
        expected = recalibrated(encoder, calibration_images(splits, torch.device("cpu")))(torch.from_numpy(images))
    client = MlflowClient(tracking_uri=ran.store)
    (version,) = client.search_model_versions("name = 'tiny-rotation'")
    assert version.tags["pretext.trial_id"] == best
    features = mlflow.pyfunc.load_model(version.source).predict(images)
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.core
@pytest.mark.slow
def test_running_a_finished_study_again_runs_no_trial_and_stores_nothing_twice(ran: Ran):
    before, points = trial_events(ran.outcome.folder), stored_points(ran.store, "tiny")
    outcome = run_study(ran.config, ran.output)
    assert outcome.chosen == ran.outcome.chosen
    assert trial_events(ran.outcome.folder) == before
    assert stored_points(ran.store, "tiny") == points
    assert set(points.values()) == {1}
    assert len(MlflowClient(tracking_uri=ran.store).search_model_versions("name = 'tiny-rotation'")) == 1


@pytest.mark.core
@pytest.mark.slow
def test_a_study_whose_last_phase_was_lost_runs_that_phase_alone(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts of such a store
    folder = tmp_path / "tiny"
    shutil.copytree(ran.outcome.folder, folder, ignore=shutil.ignore_patterns("mlflow.json", "report.html"))
    events = list(read(folder))
    lost = events.index(next(event for event in read(folder, PhaseStarted) if event.phase == "evaluate"))
    (folder / JOURNAL_FILE).write_bytes(b"".join(map(to_line, events[:lost])))
    config = tiny(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    outcome = run_study(config, tmp_path)
    began = [event.phase for event in list(read(folder))[lost:] if isinstance(event, TrialStarted)]
    assert set(began) == {"evaluate"}
    assert outcome.chosen == ran.outcome.chosen
    assert outcome.report.is_file()
    results = [record.results for record in History.read(ran.outcome.folder).of("evaluate")]
    assert sorted(map(str, results)) == sorted(str(record.results) for record in History.read(folder).of("evaluate"))


@pytest.mark.core
@pytest.mark.slow
def test_another_configuration_under_the_same_name_is_refused_with_the_difference(ran: Ran):
    other = tiny(tracking_uri=ran.store, budget_steps=9)
    with pytest.raises(ConfigError, match=r"(?s)another configuration:.*-budget_steps: 6\n\+budget_steps: 9"):
        run_study(other, ran.output)
    assert check_config(strict_yaml.load((ran.outcome.folder / "study.yaml").read_text())) == ran.config


@pytest.mark.core
@pytest.mark.slow
def test_a_study_that_is_running_is_refused_to_a_second_driver(ran: Ran):
    with (
        filelock.FileLock(ran.output / ".tiny.lock", thread_local=False),
        pytest.raises(ConfigError, match="another process is running this study"),
    ):
        run_study(ran.config, ran.output)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study's folder with a configuration and something else in it."""
    path = open_folder(tiny(), tmp_path)
    (path / "results").write_text("valuable")
    return path


def test_fresh_moves_an_earlier_study_aside_whatever_its_configuration(folder: Path):
    assert open_folder(tiny(budget_steps=9), folder.parent, fresh=True) == folder
    assert not (folder / "results").exists()
    (aside,) = folder.parent.glob("tiny.*")
    assert (aside / "results").read_text() == "valuable"


def test_where_files_lie_may_change_under_the_same_name(folder: Path):
    open_folder(tiny(storage="/elsewhere", resources={"cpu": 2}), folder.parent)
    assert (folder / "results").exists()
    assert strict_yaml.load((folder / "study.yaml").read_text())["storage"] == "/elsewhere"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"n_images": 10_000}, ConfigError),
        ({"dataset": "nowhere"}, DataError),
        ({"resources": {"cpu": 3}}, ConfigError),
        ({"encoder": {"name": "conv4", "width": 128}}, ConfigError),
    ],
    ids=["impossible plan", "missing data", "no such node", "too little memory"],
)
def test_a_study_that_cannot_run_leaves_the_folder_as_it_was_even_with_fresh(
    folder: Path, changes: dict, error: type, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cluster, "connect", lambda **options: None)
    monkeypatch.setattr(cluster, "is_multi_node", lambda: False)
    monkeypatch.setattr(cluster, "is_private", lambda: True)
    monkeypatch.setattr(resources, "_has_autoscaler", lambda: False)
    two_cores = {"Alive": True, "Resources": {"CPU": 2}, "Labels": {}}
    monkeypatch.setattr(resources.ray, "nodes", lambda: [two_cores])
    monkeypatch.setattr(memory, "get_used_memory", lambda: memory.get_system_memory() - 10_000_000)
    with pytest.raises(error):
        run_study(tiny(**changes), folder.parent, fresh=True)
    assert (folder / "results").read_text() == "valuable"
    assert list(folder.parent.glob("tiny.*")) == []


def test_a_study_runs_on_the_data_that_it_is_given(folder: Path):
    given = {"nowhere": splits_of("nowhere", 150)}
    with pytest.raises(ConfigError, match="n_images = 10000, but nowhere has 121 training images"):
        run_study(tiny(dataset="nowhere", n_images=10_000), folder.parent, datasets=given)


def trained_reports(folder: Path) -> int:
    """Return how many reports, but for those of untrained networks, are in a journal."""
    return sum(report.step > 0 for report in read(folder, Report))


def started(command: list[str], folder: Path, count: int) -> subprocess.Popen[str]:
    """Start a study in a process of its own, and return once its journal has so many reports."""
    process = subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def far_enough() -> bool:
        assert process.poll() is None, process.stdout.read()
        return trained_reports(folder / "out" / "tiny") >= count

    eventually(far_enough, timeout_s=120)
    return process


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interrupted_and_then_killed_driver_is_continued_by_the_same_command(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import ray

    monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
    config = tiny(budget_steps=60, search={"num_samples": 4, "scheduler": "none"}, tracking_uri="sqlite:///mlflow.db")
    (tmp_path / "tiny.yaml").write_text(config.to_yaml())
    command = [sys.executable, str(REPOSITORY / "study" / "run.py"), "tiny.yaml", "--output", "out"]
    folder = tmp_path / "out" / "tiny"

    # Some reports into the search, as Ctrl-C and `kill` do it.
    interrupted = started(command, tmp_path, 5)
    interrupted.send_signal(signal.SIGTERM)
    said, _ = interrupted.communicate(timeout=120)
    assert interrupted.returncode == 130, said
    assert f"to resume, run: {shlex.join(command)}" in said

    # Without any chance to tidy up, one trial and some reports later.
    killed = started(command, tmp_path, trained_reports(folder) + 25)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    before = History.read(folder)
    ended = [key for key, record in before.trials.items() if record.ended]
    length = sum(1 for _ in read(folder))
    assert "search" not in before.outcomes
    assert any(record.trial.phase == "search" and record.ended for record in before.trials.values())

    finished = subprocess.run(
        [*command, "--json"], cwd=tmp_path, text=True, capture_output=True, timeout=240, check=False
    )
    assert finished.returncode == 0, finished.stderr
    outcome = json.loads(finished.stdout)
    assert (outcome["failed"], list(outcome["chosen"])) == ([], ["rotation"])

    after = list(read(folder))
    assert not [event for event in after[length:] if isinstance(event, TrialEvent) and event.trial_id in ended]
    ends = Counter(event.trial_id for event in read(folder, TrialEnded))
    points = Counter((report.trial_id, report.step) for report in read(folder, Report))
    assert set(ends.values()) == set(points.values()) == {1}
    history = History.read(folder)
    assert set(ends) == set(history.trials)
    assert len(history.of("search")) == 4
    for key, record in history.trials.items():
        if record.trial.task == "rotation" and not record.trial.init_from:
            assert sorted(step for trial, step in points if trial == key) == list(range(0, 61, 3))
    stored = stored_points(tmp_path / "mlflow.db", "tiny")
    assert set(stored.values()) == {1}
    assert sum(name == "lr" for _, name, _ in stored) == sum(step > 0 for _, step in points)


@pytest.mark.parametrize("simulate", [False, True])
def test_without_segmentation_the_images_have_labels_alone(simulate: bool):
    config = check_config({"name": "demo", "max_train": 50, "simulate": simulate})
    (splits,) = driver.load_datasets(config).values()
    assert splits.masked
    (splits,) = driver.load_datasets(
        check_config({**config.model_dump(), "evaluate": {"segmentation": False}})
    ).values()
    assert splits.labeled
    assert not splits.masked
