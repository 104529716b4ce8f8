"""The command line for existing studies: what it prints, exit codes, and one line that says what is wrong."""

from __future__ import annotations

import dataclasses
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from analysis.records import FAILED, FINISHED, JOURNAL_FILE, PhaseStarted, StudyStarted, TrialEnded, TrialStarted
from study.cli import commands
from study.config.loading import preset_names, series_names
from study.execution.journal import Journal
from tests.conftest import REPOSITORY
from tests.study.cli.conftest import Command
from tests.study.mlflow_stores import runs_by_key, stored_points
from tests.study.tracked_journals import START, STUDY_POINTS, study_events, trial, write
from trainables.trial import TrialConfig


@pytest.fixture
def run(call_main: Command) -> Command:
    """Call `python -m study ...`."""
    return functools.partial(call_main, commands.main)


def recorded(folder: Path, *statuses: str) -> Path:
    """Write the journal of a search whose trials ended with these statuses; one more trial is still running."""
    journal = Journal(folder)
    journal.append(StudyStarted(study=folder.name, config_hash="abc"))
    journal.append(PhaseStarted(phase="search"))
    for seed, status in enumerate([*statuses, None]):
        trial = TrialConfig(phase="search", task="rotation", seed=seed)
        journal.append(TrialStarted.of(trial))
        if status:
            journal.append(TrialEnded(trial_id=trial.trial_id, status=status, reason="", results={}))
    journal.close()
    return folder


def test_status_counts_the_trials_of_each_phase_by_state(run: Command, tmp_path: Path):
    recorded(tmp_path / "demo", FINISHED, FINISHED, FAILED)
    answer = run("status", "demo")
    assert answer.code == 0
    assert "search" in answer.out
    assert "1 failed, 2 finished, 1 running" in answer.out


def test_list_shows_the_studies_and_the_presets(run: Command, tmp_path: Path):
    recorded(tmp_path / "studies" / "first", FINISHED)
    recorded(tmp_path / "studies" / "second", FAILED)
    recorded(tmp_path / "studies" / "series" / "series-part", FINISHED)
    answer = run("list")
    assert answer.code == 0
    for name in ("first", "second", "series/series-part", *preset_names(), *series_names()):
        assert name in answer.out


def test_a_damaged_study_does_not_keep_the_others_from_the_list(run: Command, tmp_path: Path):
    for name in ("first", "second"):
        recorded(tmp_path / "studies" / name, FINISHED)
    (tmp_path / "studies" / "first" / JOURNAL_FILE).write_text("no event\nno event\n")
    answer = run("list")
    assert answer.code == 0
    assert re.search(r"first +cannot be read: .*line 1", answer.out)
    assert re.search(r"second +2 ", answer.out)


def test_sync_says_that_mlflow_refused_something(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(MlflowClient, "log_text", refuse)
    write(tmp_path / "demo", study_events("demo"))
    answer = run("sync", "demo", "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db")
    assert answer.code == 1
    assert "calls that MLflow refused, see the warnings: 2" in answer.err


def test_sync_brings_mlflow_up_to_date(run: Command, tmp_path: Path):
    write(tmp_path / "demo", study_events("demo"))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    answer = run("sync", "demo", "--tracking-uri", uri)
    assert answer.code == 0
    assert f"files delivered to {uri}" in answer.out
    assert set(stored_points(uri, "demo").values()) == {1}
    assert "0 metric values" in run("sync", "demo", "--tracking-uri", uri).out


@pytest.mark.core
@pytest.mark.slow
def test_sync_uses_the_store_that_the_study_is_configured_with(run: Command, tmp_path: Path):
    first, *rest = study_events("demo")
    assert isinstance(first, StudyStarted)
    uri = f"sqlite:///{tmp_path}/of_the_study.db"
    config = {**first.config, "tracking_uri": uri, "plugins": [{"name": "not_here", "path": "", "sha256": ""}]}
    write(tmp_path / "demo", [dataclasses.replace(first, config=config), *rest])
    assert run("sync", "demo").code == 0
    assert set(stored_points(uri, "demo").values()) == {1}
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.core
@pytest.mark.slow
def test_sync_names_deleted_runs_and_delivers_them_again_once_they_are_restored(run: Command, tmp_path: Path):
    events, uri = study_events("demo"), f"sqlite:///{tmp_path}/mlflow.db"
    write(tmp_path / "demo", events[:6])
    assert run("sync", "demo", "--tracking-uri", uri).code == 0
    client = MlflowClient(tracking_uri=uri)
    deleted = runs_by_key(uri, "demo")[trial(0).trial_id].info.run_id
    client.delete_run(deleted)
    write(tmp_path / "demo", events[6:], start=START + 6)
    for _ in range(2):  # also where nothing new has happened since
        answer = run("sync", "demo", "--tracking-uri", uri)
        assert answer.code == 1
        assert f"error: deleted in MLflow, which accepts nothing more for it: trial/{trial(0).trial_id}" in answer.err
        assert f"`mlflow runs restore --run-id {deleted}`" in answer.err
    client.restore_run(deleted)
    (tmp_path / "demo" / "mlflow.json").unlink()
    assert run("sync", "demo", "--tracking-uri", uri).code == 0
    assert stored_points(uri, "demo").total() == STUDY_POINTS


def test_sync_names_a_deleted_experiment(run: Command, tmp_path: Path):
    write(tmp_path / "demo", study_events("demo"))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert run("sync", "demo", "--tracking-uri", uri).code == 0
    client = MlflowClient(tracking_uri=uri)
    client.delete_experiment(client.get_experiment_by_name("demo").experiment_id)
    answer = run("sync", "demo", "--tracking-uri", uri)
    assert answer.code == 1
    assert "error: experiment 'demo' was deleted in MLflow: `mlflow experiments restore -x 1` brings it" in answer.err


def test_sync_with_a_store_that_is_away_fails_in_one_line(run: Command, tmp_path: Path):
    write(tmp_path / "demo", study_events("demo"))
    answer = run("sync", "demo", "--tracking-uri", "http://127.0.0.1:9")
    assert answer.code == 1
    assert "error: MLflow at http://127.0.0.1:9 cannot be written" in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("tool", ["status", "sync"])
def test_a_folder_that_is_not_a_study_is_refused(run: Command, tool: str):
    answer = run(tool, "nowhere")
    assert answer.code == 2
    assert answer.err == "error: nowhere is not a study: it has no journal.jsonl\n"


def test_the_module_runs_as_a_program():
    command = [sys.executable, "-m", "study", "list", "nowhere"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=REPOSITORY)
    assert ended.returncode == 0, ended.stderr
    assert "Presets" in ended.stdout
