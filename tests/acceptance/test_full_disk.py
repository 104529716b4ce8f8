"""A disk that is full: one line says where and what to do, and the same command finishes once there is room."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from analysis.records import FINISHED, JOURNAL_FILE, TrialEvent
from study.config.schema import StudyConfig
from study.driver import Outcome, run_study
from study.plan.history import History
from study.tracking.sync import TrackingError, sync
from tests.acceptance.small_disks import small_disk
from tests.acceptance.studies import DriverProcess, assert_mlflow_equals_journal, assert_whole, simulated
from tests.study.mlflow_stores import runs_by_key
from trainables.errors import StorageError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NO_ROOM = "No space left on device; make room there, then run the same command again to resume"
PLENTY_KIB = 64 * 1024
RESULTS = {"study.yaml", "runs.parquet", "curves.parquet", "report.html", "recommended.yaml"}


def small(**changes: Any) -> StudyConfig:
    """A study of some thirty simulated trials."""
    return simulated("full", num_samples=24, report_every=25, **changes)


@pytest.fixture
def joined(local_ray: None) -> dict[str, str]:
    """The environment of a driver that joins the tests' own Ray."""
    import ray

    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}


def run_here(study: DriverProcess, working_directory: Path | None = None) -> Outcome:
    """Run the study in this process, which is quicker to start than one of its own."""
    with contextlib.chdir(working_directory or study.root):
        return run_study(study.config, study.root / "out")


def assert_finished_by_running_again(study: DriverProcess) -> None:
    """What had ended is not run again, nothing failed for want of room, and everything is there, once."""
    before = History.read(study.folder)
    ended = [key for key, record in before.trials.items() if record.ended]
    assert not before.failed()
    known = len(study.events())
    assert run_here(study).failed == []
    assert not [event for event in study.events()[known:] if isinstance(event, TrialEvent) and event.trial_id in ended]
    assert_whole(study)
    assert_mlflow_equals_journal(study)
    assert not list(study.folder.glob(".*"))  # nothing half written is left


def test_a_journal_that_finds_no_room_ends_the_study_with_one_line_and_is_continued(
    joined: dict[str, str], tmp_path: Path
):
    study = DriverProcess(tmp_path, small(storage=str(tmp_path / "checkpoints")), joined)
    with small_disk(tmp_path / "out", kib=80) as disk:
        exit_code, said = study.run(), study.log()
        assert exit_code == 2, said
        assert [line for line in said.splitlines() if "error" in line] == [f"error: out/full/journal.jsonl: {NO_ROOM}"]
        assert "Traceback" not in said
        assert 3 < len(History.read(study.folder).trials) < 29
        disk.leave(PLENTY_KIB)
        assert_finished_by_running_again(study)


def test_checkpoints_that_find_no_room_are_no_failure_of_their_trials(
    local_ray: None, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    with small_disk(tmp_path / "disk", kib=100) as disk:
        study = DriverProcess(tmp_path, small(storage=str(disk.path)))
        with pytest.raises(StorageError, match=rf"^{disk.path}/full/[\d-]+/checkpoints/\w+/step-\d+\.pt: {NO_ROOM}$"):
            run_here(study)
        stopped = History.read(study.folder)
        assert 3 < len(stopped.trials) < 29
        assert {record.status for record in stopped.trials.values()} == {FINISHED, None}
        assert "Traceback" not in caplog.text + capfd.readouterr().err
        disk.leave(PLENTY_KIB)
        assert_finished_by_running_again(study)


def test_results_that_find_no_room_leave_those_of_before_and_are_made_once_there_is(
    local_ray: None, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    study = DriverProcess(tmp_path, small(storage=str(tmp_path / "checkpoints")))
    with small_disk(tmp_path / "out", kib=PLENTY_KIB) as disk:
        run_here(study)
        before = {
            path: path.read_bytes()
            for path in study.folder.glob("*.*")
            if path.name not in (JOURNAL_FILE, "mlflow.lock")
        }
        for kib in (24, 200):  # the frames find no room, then the page
            disk.leave(kib)
            with pytest.raises(StorageError, match=rf"^{study.folder}.*: {NO_ROOM}$"):
                run_here(study)
            for path in before:
                assert path.stat().st_size > 0
            assert len(pd.read_parquet(study.folder / "runs.parquet")) == len(History.read(study.folder).trials)
            assert not list(study.folder.glob(".*"))
        assert "Traceback" not in caplog.text + capfd.readouterr().err
        disk.leave(PLENTY_KIB)
        assert_finished_by_running_again(study)


@pytest.mark.parametrize("full", ["database", "artifacts"])
def test_mlflow_on_a_full_disk_costs_the_study_nothing_and_is_filled_later(
    full: str, local_ray: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with small_disk(tmp_path / "disk", kib=PLENTY_KIB) as disk:
        root = disk.path if full == "database" else tmp_path
        study = DriverProcess(tmp_path / "study", small(tracking_uri=f"sqlite:///{root}/mlflow.db"))
        with contextlib.chdir(disk.path):  # where MLflow puts its artifacts
            MlflowClient(tracking_uri=study.tracking_uri).search_experiments()  # makes the tables
        disk.leave(200 if full == "database" else 40)
        outcome = run_here(study, working_directory=disk.path)
        assert not outcome.tracked
        assert not outcome.failed
        assert_whole(study)
        assert f"python -m study sync {study.folder}" in caplog.text
        with pytest.raises(
            TrackingError, match=r"MLflow at sqlite:.* cannot be written: .*(full|No space left|disk I/O error)"
        ):
            sync(study.folder, study.tracking_uri)
        disk.leave(PLENTY_KIB)
        assert sync(study.folder, study.tracking_uri).refused == 0
        assert_mlflow_equals_journal(study)
        assert stored_files(study) == RESULTS


def stored_files(study: DriverProcess) -> set[str]:
    """Return which of the study's main files are artifacts of its run, byte by byte."""
    client = MlflowClient(tracking_uri=study.tracking_uri)
    run = runs_by_key(study.tracking_uri, study.config.name)["study"]
    found = {item.path for item in client.list_artifacts(run.info.run_id)}
    names = RESULTS & found
    paths = {name: Path(client.download_artifacts(run.info.run_id, name)) for name in names}
    return {name for name, path in paths.items() if path.read_bytes() == (study.folder / name).read_bytes()}
