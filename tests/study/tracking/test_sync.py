"""Journal -> MLflow: with real sqlite stores and one real tracking server."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import getpass
import json
import logging
import math
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

import analysis
from analysis.records import PhaseStarted, StudyEnded, TrialChanged, TrialEnded
from study.tracking.state import TrackingState
from study.tracking.store import is_refusal
from study.tracking.sync import (
    MlflowTracker,
    SyncResult,
    TrackingError,
    catch_up_command,
    default_tracking_uri,
    sync,
)
from tests.study.mlflow_stores import (
    Server,
    all_runs,
    children,
    runs_by_key,
    runs_by_name,
    stored_points,
)
from tests.study.tracked_journals import (
    LEVELS,
    METRICS,
    REPORTS,
    START,
    STUDY_POINTS,
    TRACEBACK,
    study_events,
    study_started,
    trial,
    trial_events,
    write,
)


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> str:
    """URI of a store that has received a whole study; to be read only."""
    root = tmp_path_factory.mktemp("synced")
    (root / "mlflow.db").write_bytes(sqlite_template.read_bytes())
    write(root, study_events())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        result = sync(root, uri := f"sqlite:///{root}/mlflow.db")
    assert result == SyncResult(events=len(study_events()), points=STUDY_POINTS, artifacts=0, refused=0)
    return uri


def test_trials_are_nested_under_their_phase_and_nothing_else_is_nested(synced: str) -> None:
    runs = runs_by_name(synced)
    search, confirm = runs["search"], runs["confirm"]
    assert not [run for run in (runs["small-data"], search, confirm) if "mlflow.parentRunId" in run.data.tags]
    assert children(synced, search) == {trial(number).trial_id for number in range(3)}
    assert children(synced, confirm) == {trial(0, "confirm", seed=1).trial_id}


def test_a_trial_run_says_what_the_trial_was(synced: str) -> None:
    run = runs_by_name(synced)["lr=0.001 aug=0.50 bs=128 rotation s0"]
    columns = {name: str(value) for name, value in trial(0).to_columns().items()}
    assert columns.items() <= run.data.params.items()
    assert run.data.params["chance"] == run.data.params["chance/val/accuracy"] == "0.25"
    assert run.data.params["primary_metric"] == "val/accuracy"
    own = {"study": "small-data", "status": "FINISHED", "trial_id": trial(0).trial_id, "config_hash": "c0ffee"}
    assert {f"pretext.{name}": value for name, value in own.items()}.items() <= run.data.tags.items()
    plain = {"phase": "search", "task": "rotation", "cell": "", "group": "rotation lr=0.001 aug=0.50 bs=128"}
    assert plain.items() <= run.data.tags.items()
    assert run.data.tags["mlflow.user"] == getpass.getuser()
    assert run.data.tags["mlflow.source.git.commit"] == "9f72c1e"
    assert "250 steps" in run.data.tags["mlflow.note.content"]
    inputs = {item.tags[0].value: item.dataset for item in run.inputs.dataset_inputs}
    assert set(inputs) == {"train", "validation"}
    assert inputs["train"].digest == "0123456789abcdef"
    assert json.loads(inputs["train"].profile)["counts"] == {"train": 800, "validation": 200}


def test_statuses_and_times_are_those_of_the_journal(synced: str) -> None:
    found = {key: (run.info.status, run.data.tags["pretext.status"]) for key, run in runs_by_key(synced).items()}
    assert found == {
        "study": ("FINISHED", "FINISHED"),
        "search": ("FINISHED", "FINISHED"),
        "confirm": ("FINISHED", "FINISHED"),
        trial(0).trial_id: ("FINISHED", "FINISHED"),
        trial(1).trial_id: ("FINISHED", "STOPPED"),
        trial(2).trial_id: ("FAILED", "FAILED"),
        trial(0, "confirm", seed=1).trial_id: ("FINISHED", "FINISHED"),
    }
    study = runs_by_key(synced)["study"].info
    assert study.start_time == START * 1000
    assert study.end_time == (START + len(study_events()) - 1) * 1000
    first = runs_by_key(synced)[trial(0).trial_id].info
    assert (first.start_time, first.end_time) == ((START + 2) * 1000, (START + 2 + REPORTS + 2) * 1000)


def test_a_failed_trial_keeps_its_traceback_and_shows_its_last_line(synced: str) -> None:
    run = runs_by_key(synced)[trial(2).trial_id]
    assert run.data.tags["pretext.reason"] == "RuntimeError: loss is not finite"
    path = MlflowClient(tracking_uri=synced).download_artifacts(run.info.run_id, "error.txt")
    assert Path(path).read_text() == TRACEBACK
    assert runs_by_key(synced)[trial(1).trial_id].data.tags["pretext.reason"] == "at chance after 100 steps"


def test_values_that_a_trial_went_on_with_are_read_back(folder: Path, store: str) -> None:
    events, given = study_events(), trial(0).replace(lr=0.5)
    [place] = [
        i for i, event in enumerate(events) if isinstance(event, TrialEnded) and event.trial_id == trial(0).trial_id
    ]
    write(folder, [*events[:place], TrialChanged(trial_id=trial(0).trial_id, config=given), *events[place:]])
    sync(folder, store)
    found = analysis.load(store, study="small-data").runs.set_index("trial_id")
    assert found.loc[trial(0).trial_id, "lr"] == 0.5
    assert found.loc[trial(1).trial_id, "lr"] == trial(1).lr


def test_every_point_is_there_once_after_syncing_twice(folder: Path, store: str) -> None:
    write(folder, study_events())
    sync(folder, store)
    assert sync(folder, store) == SyncResult()
    assert set(stored_points(store).values()) == {1}
    assert stored_points(store).total() == STUDY_POINTS


def test_a_lost_state_file_costs_nothing_and_stores_nothing_twice(folder: Path, store: str) -> None:
    write(folder, study_events())
    sync(folder, store)
    before = {key: (run.info.run_id, run.info.status, run.info.end_time) for key, run in runs_by_key(store).items()}
    points = stored_points(store)
    (folder / "mlflow.json").unlink()
    assert sync(folder, store).events == len(study_events())
    after = {key: (run.info.run_id, run.info.status, run.info.end_time) for key, run in runs_by_key(store).items()}
    assert before == after
    assert stored_points(store) == points


def test_a_state_file_that_is_cut_short_is_named_and_costs_nothing(
    folder: Path, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, study_events())
    sync(folder, store)
    points = stored_points(store)
    path = folder / "mlflow.json"
    path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level(logging.WARNING, logger="study"):
        sync(folder, store)
    assert [message.startswith(f"{path}: not readable") for message in caplog.messages] == [True]
    assert stored_points(store) == points
    assert len(all_runs(store)) == 7


def test_a_journal_that_has_lost_its_end_is_delivered_from_its_beginning(
    folder: Path, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, study_events())
    sync(folder, store)
    points, path = stored_points(store), folder / "journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:5]))
    with caplog.at_level(logging.WARNING, logger="study"):
        assert sync(folder, store).events == 5
    assert "delivered again" in caplog.text
    assert stored_points(store) == points


def test_a_crash_between_creating_a_run_and_remembering_it_makes_no_second_run(folder: Path, store: str) -> None:
    write(folder, study_events()[:2])
    sync(folder, store)
    remembered = json.loads((folder / "mlflow.json").read_text())
    write(folder, study_events()[2:], start=START + 2)
    sync(folder, store)
    (folder / "mlflow.json").write_text(json.dumps(remembered | {"clean": False}))
    sync(folder, store)
    assert len(all_runs(store)) == 7
    assert set(stored_points(store).values()) == {1}


def test_an_emptied_store_is_filled_again(folder: Path, store: str, tmp_path: Path) -> None:
    write(folder, study_events())
    sync(folder, store)
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        for table in ("tags", "metrics", "latest_metrics", "params", "inputs", "datasets", "runs", "experiment_tags"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM experiments WHERE experiment_id > 0")
    assert sync(folder, store).events == len(study_events())
    assert len(all_runs(store)) == 7


def test_two_deliveries_at_the_same_time_do_not_get_in_each_others_way(folder: Path, store: str) -> None:
    write(folder, study_events())
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: sync(folder, store), range(2)))
    assert sorted(result.events for result in results) == [0, len(study_events())]
    assert len(all_runs(store)) == 7


def test_another_store_receives_the_whole_journal(
    folder: Path, store: str, tmp_path: Path, sqlite_template: Path
) -> None:
    write(folder, study_events())
    sync(folder, store)
    (tmp_path / "second.db").write_bytes(sqlite_template.read_bytes())
    second = f"sqlite:///{tmp_path}/second.db"
    assert sync(folder, second).points == STUDY_POINTS
    assert stored_points(second).total() == STUDY_POINTS


def test_a_study_begun_afresh_gets_runs_of_its_own(folder: Path, store: str) -> None:
    write(folder, study_events())
    sync(folder, store)
    (folder / "journal.jsonl").unlink()
    write(folder, study_events(), start=START + 5000)
    sync(folder, store)
    assert len(all_runs(store)) == 14
    assert stored_points(store).total() == 2 * STUDY_POINTS


def test_a_new_tracker_goes_on_where_another_stopped(folder: Path, store: str) -> None:
    events = study_events()
    write(folder, events[:9])
    tracker = MlflowTracker(folder, store, poll_s=0.02)
    tracker.start()
    assert tracker.close(timeout_s=30)
    half = stored_points(store)
    assert half.total() == 5 * len(METRICS) + LEVELS
    write(folder, events[9:], start=START + 9)
    tracker = MlflowTracker(folder, store, poll_s=0.02)
    tracker.start()
    assert tracker.close(timeout_s=30)
    assert stored_points(store).total() == STUDY_POINTS
    assert len(all_runs(store)) == 7


def test_small_chunks_and_a_line_half_written_lose_nothing(folder: Path, store: str) -> None:
    write(folder, study_events())
    path = folder / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert sync(folder, store, chunk_bytes=500).events == len(study_events()) - 1
    path.write_bytes(whole)
    assert sync(folder, store, chunk_bytes=500).events == 1
    assert set(stored_points(store).values()) == {1}
    assert stored_points(store).total() == STUDY_POINTS


def test_a_resumed_trial_continues_its_run(folder: Path, store: str) -> None:
    first = list(trial_events(trial(0)))
    write(folder, [study_started(), PhaseStarted(phase="search"), *first[:6]])
    sync(folder, store, close_abandoned=True)
    assert {run.info.status for run in all_runs(store)} == {"KILLED"}
    resumed = [study_started(), PhaseStarted(phase="search"), first[0]]
    write(folder, resumed, start=START + 100)
    sync(folder, store)
    assert {run.info.status for run in all_runs(store)} == {"RUNNING"}
    write(folder, first[6:], start=START + 200)
    sync(folder, store)
    assert len(all_runs(store)) == 3
    run = runs_by_key(store)[trial(0).trial_id]
    assert run.info.status == "FINISHED"
    history = MlflowClient(tracking_uri=store).get_metric_history(run.info.run_id, "val/loss")
    assert [point.step for point in history] == list(range(25, 251, 25))


def test_a_trial_has_the_provenance_of_its_driver_whenever_it_is_delivered(folder: Path, store: str) -> None:
    fixed = dataclasses.replace(study_started(), git_commit="f1c5ed0", config_hash="beef")
    parts = [
        [study_started(), PhaseStarted(phase="search"), *trial_events(trial(0))],
        [fixed],
        list(trial_events(trial(1))),
    ]
    for second, part in enumerate(parts):  # each in a delivery of its own
        write(folder, part, start=START + 100 * second)
        sync(folder, store)
    tags = [runs_by_key(store)[key.trial_id].data.tags for key in (trial(0), trial(1))]
    assert [each["mlflow.source.git.commit"] for each in tags] == ["9f72c1e", "f1c5ed0"]
    assert [each["pretext.config_hash"] for each in tags] == ["c0ffee", "beef"]
    state = TrackingState.of(folder, store)
    assert state is not None
    assert state.last == (START + 200 + len(parts[-1]) - 1) * 1000


def test_runs_that_a_driver_left_behind_are_closed_as_killed(folder: Path, store: str) -> None:
    write(folder, [study_started(), PhaseStarted(phase="search"), *list(trial_events(trial(0)))[:4]])
    sync(folder, store)
    assert {run.info.status for run in all_runs(store)} == {"RUNNING"}
    write(folder, [study_started(), StudyEnded(status="FAILED")], start=START + 100)
    sync(folder, store)
    runs = runs_by_key(store)
    assert runs[trial(0).trial_id].info.status == runs["search"].info.status == "KILLED"
    assert runs[trial(0).trial_id].info.end_time == (START + 5) * 1000  # its last report
    assert runs["study"].info.status == "FAILED"


def test_a_dead_drivers_runs_can_be_closed_without_a_new_driver(folder: Path, store: str) -> None:
    write(folder, [study_started(), PhaseStarted(phase="search"), *list(trial_events(trial(0)))[:4]])
    sync(folder, store, close_abandoned=True)
    assert {run.info.status for run in all_runs(store)} == {"KILLED"}


def test_what_is_not_a_number_stays_so_in_curves_and_is_left_out_of_results(folder: Path, store: str) -> None:
    not_finite_numbers_are_kept(folder, store)


def test_artifacts_are_stored_once_the_study_has_ended_and_again_only_when_they_change(
    folder: Path, store: str
) -> None:
    (folder / "figures").mkdir()
    (folder / "figures" / "curves.png").write_bytes(b"png")
    (folder / "report.html").write_text("<html>")
    (folder / "secret.txt").write_text("not for MLflow")
    (folder / "verdicts.csv").write_text(f"trial_id,verdict\n{trial(0).trial_id},converged\n")
    write(folder, study_events()[:-1])
    assert sync(folder, store).artifacts == 0
    write(folder, study_events()[-1:], start=START + 500)
    assert sync(folder, store).artifacts == 3
    client, run_id = MlflowClient(tracking_uri=store), runs_by_key(store)["study"].info.run_id
    names = {item.path for path in (None, "figures") for item in client.list_artifacts(run_id, path) if not item.is_dir}
    assert names == {"report.html", "verdicts.csv", "figures/curves.png"}
    assert runs_by_key(store)[trial(0).trial_id].data.tags["verdict"] == "converged"
    assert sync(folder, store).artifacts == 0
    (folder / "report.html").write_text("<html>again")
    assert sync(folder, store).artifacts == 1


def test_a_run_that_someone_deleted_does_not_hold_up_the_others(
    folder: Path, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    events = study_events()
    write(folder, events[:6])
    sync(folder, store)
    MlflowClient(tracking_uri=store).delete_run(runs_by_key(store)[trial(0).trial_id].info.run_id)
    write(folder, events[6:], start=START + 6)
    with caplog.at_level(logging.WARNING):
        result = sync(folder, store)
    assert result.refused > 0
    assert "active" in caplog.text
    assert runs_by_key(store)["study"].info.status == "FINISHED"


def test_whatever_the_library_of_an_artifact_store_raises_is_one_line_and_is_tried_again(
    folder: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoCredentialsError(Exception):
        """An error like botocore's, which is none of those that MLflow raises."""

    def upload(*_: object) -> None:
        raise NoCredentialsError("Unable to locate credentials")

    write(folder, study_events())
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_text", upload)
        with pytest.raises(
            TrackingError, match=r"cannot be written: NoCredentialsError: Unable to locate credentials$"
        ):
            sync(folder, store)
    assert sync(folder, store).refused == 0
    run = runs_by_key(store)[trial(2).trial_id]
    path = MlflowClient(tracking_uri=store).download_artifacts(run.info.run_id, "error.txt")
    assert Path(path).read_text() == TRACEBACK


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), True),
        (OSError(errno.ENAMETOOLONG, "File name too long"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (OSError(errno.EIO, "Input/output error"), False),
        (OSError(errno.ESTALE, "Stale file handle"), False),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), False),
        (TimeoutError("timed out"), False),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_only_errors_that_a_retry_repeats_are_refusals(error: OSError, refused: bool) -> None:
    assert is_refusal(error) == refused


def test_the_command_that_catches_up_names_a_store_that_it_would_not_find_by_itself(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = study_started()
    write(folder, [dataclasses.replace(first, config={**first.config, "tracking_uri": "http://mlflow:5000"})])
    command = f"python -m study sync {folder}"
    assert catch_up_command(folder, "http://mlflow:5000") == command
    assert catch_up_command(folder, f"sqlite:///{tmp_path}/mlflow.db") == command
    assert catch_up_command(folder, "http://me:secret@other") == f"{command} --tracking-uri 'http://***@other'"
    assert catch_up_command(Path("my studies"), "sqlite:///a.db").startswith("python -m study sync 'my studies' ")


def test_a_deleted_experiment_is_an_error_that_says_how_to_bring_it_back(folder: Path, store: str) -> None:
    write(folder, study_events())
    client = MlflowClient(tracking_uri=store)
    client.delete_experiment(client.create_experiment("small-data"))
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        sync(folder, store)


def test_a_folder_without_a_journal_is_nothing_to_do(folder: Path, store: str) -> None:
    assert sync(folder, store) == SyncResult()


def test_the_default_store_lies_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert default_tracking_uri() == "http://127.0.0.1:5000"


def test_the_users_own_mlflow_settings_are_respected_and_ours_do_not_stay(
    folder: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    before = dict(os.environ)
    tracker = MlflowTracker(folder, store)
    tracker.start()
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    tracker.close()
    assert dict(os.environ) == before


@pytest.mark.core
@pytest.mark.slow
def test_a_server_stores_what_a_file_does(folder: Path, server: Server) -> None:
    url = server.url
    not_finite_numbers_are_kept(folder, url, study="numbers")
    (folder / "mlflow.json").unlink()
    (folder / "report.html").write_text("<html>")
    write(folder, [StudyEnded(status="FINISHED")], start=START + 50)
    result = sync(folder, url)
    assert (result.artifacts, result.refused) == (1, 0)
    assert set(stored_points(server.database, "numbers").values()) == {1}


def not_finite_numbers_are_kept(folder: Path, uri: str, study: str = "small-data") -> None:
    """Write a diverging trial; check what MLflow holds of it."""
    events = list(trial_events(trial(0), reports=3))
    for index, loss in zip(range(2, 5), (1.0, math.nan, math.inf), strict=True):
        events[index] = dataclasses.replace(events[index], metrics={"train/loss": loss, "odd (name)": 1.0})  # type: ignore[call-arg]
    write(folder, [study_started(study), *events])
    assert sync(folder, uri).refused == 0
    run = runs_by_key(uri, study)[trial(0).trial_id]
    history = MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, math.isnan(point.value)) for point in history] == [(25, False), (50, True), (75, True)]
    assert run.data.metrics["probe/shapes/linear"] == 0.61
    assert "probe/shapes/miou" not in run.data.metrics
    assert run.data.metrics["odd _x0028_name_x0029_"] == 1.0


def test_every_run_of_a_simulated_study_is_tagged_and_says_so_first(tmp_path: Path, sqlite_template: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(sqlite_template.read_bytes())
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    started, *others = study_events()
    write(tmp_path, [dataclasses.replace(started, config={**started.config, "simulate": True}), *others])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        sync(tmp_path, uri)
    runs = all_runs(uri)
    assert len(runs) == 7
    for run in runs:
        assert run.data.tags["pretext.simulated"] == "true"
        assert run.data.tags["mlflow.note.content"].startswith("🟥 **Simulated: no network was trained.")


def test_no_run_of_a_real_study_is_marked_as_simulated(synced: str) -> None:
    for run in all_runs(synced):
        assert "pretext.simulated" not in run.data.tags
        assert "Simulated" not in run.data.tags["mlflow.note.content"]
