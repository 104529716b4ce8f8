"""A study that version 0.1 has written: it loads, nothing of it would run again, and MLflow receives it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import analysis
from analysis.data.frames import RUN_DTYPES, frames
from analysis.records import (
    FINISHED,
    JOURNAL_FILE,
    Report,
    StudyStarted,
    TrialEnded,
    TrialStarted,
    from_line,
    read,
    to_line,
)
from analysis.records.layout import CURVES_FILE, RUNS_FILE
from analysis.records.phases import ABLATE, BASELINES, CONFIRM, EVALUATE, SEARCH
from study.config import strict_yaml
from study.config.validation import check_config
from study.driver import load_datasets, run_study
from study.folder import check_same_study
from study.plan.history import History
from study.plan.phases import Plan
from study.tracking.sync import sync
from tests.recorded_studies import unpacked
from tests.study.mlflow_stores import runs_by_key, stored_points
from trainables import spelling

N_TRIALS = 90
SINCE = ("n_validation_images", "n_queries", "largest_class")  # facts that version 0.1 did not record


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study of four tasks with ablations over `grey`, as gray was spelled then. Not to be changed."""
    return unpacked("v0.1", tmp_path_factory.mktemp("v0.1") / "recorded")


@pytest.fixture(scope="module")
def plan(recorded: Path) -> Plan:
    config = check_config(strict_yaml.load((recorded / "study.yaml").read_text()))
    return Plan(config, load_datasets(config))


def current(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with every name in its current spelling, and without a value of the facts recorded since then."""
    frame = frame.rename(columns=spelling.current).replace(regex=r"\bgrey\b", value="gray")
    if "n_validation" not in frame:
        return frame
    place = frame.columns.get_loc("n_validation") + 1
    for name in reversed(SINCE):
        frame.insert(place, name, pd.Series(np.nan, frame.index, dtype=RUN_DTYPES[name]))
    return frame


def test_every_line_is_written_today_as_it_was_then(recorded: Path):
    for line in (recorded / JOURNAL_FILE).read_bytes().splitlines(keepends=True):
        event = from_line(line, "")
        assert event is not None
        assert to_line(event) == line.replace(b"grey", b"gray")


def test_the_frames_are_those_that_were_written_then(recorded: Path):
    for name, frame in zip((RUNS_FILE, CURVES_FILE), frames(read(recorded)), strict=True):
        assert_frame_equal(frame, current(pd.read_parquet(recorded / name)))


def test_the_study_loads_from_its_journal_and_from_the_parquet_files_of_then(recorded: Path, tmp_path: Path):
    from_both = analysis.load(recorded)
    assert_frame_equal(from_both.runs, current(pd.read_parquet(recorded / RUNS_FILE)))
    for kept in ((JOURNAL_FILE,), (RUNS_FILE, CURVES_FILE)):
        folder = tmp_path / kept[0]
        folder.mkdir()
        for name in kept:
            (folder / name).write_bytes((recorded / name).read_bytes())
        study = analysis.load(folder)
        assert_frame_equal(study.runs, from_both.runs)
        assert_frame_equal(study.curves, from_both.curves)
    assert {"augmentation/gray", "option/gray"} <= set(from_both.runs)
    assert not any("grey" in name for name in [*from_both.runs, *from_both.runs["cell"]])
    assert not from_both.designs.isin(["only grey", "only flip + grey"]).any(axis=None)
    assert {"only gray", "only flip + gray"} <= set(from_both.designs["cell"]) & set(from_both.runs["cell"])
    assert from_both.config["ablate"]["ops"] == ["flip", "gray"]


def test_every_trial_has_the_id_that_it_had(recorded: Path):
    starts = list(read(recorded, TrialStarted))
    assert len({event.trial_id for event in starts}) == N_TRIALS
    assert [event.config.trial_id for event in starts] == [event.trial_id for event in starts]


def test_every_phase_of_the_plan_asks_for_the_trials_that_have_ended(recorded: Path, plan: Plan):
    from study.execution.search import tpe

    history = History.read(recorded)
    assert {record.status for record in history.trials.values()} == {FINISHED}
    planned = {
        BASELINES: plan.baselines(),
        CONFIRM: plan.confirm(history),
        ABLATE: plan.ablate(history),
        EVALUATE: plan.evaluate(history),
    }
    for phase, trials in planned.items():
        assert {trial.trial_id for trial in trials} == {record.trial.trial_id for record in history.of(phase)}
    assert {task: tpe(plan, history, task)[1] for task in plan.config.tasks} == dict.fromkeys(plan.config.tasks, 0)
    assert len(history.of(SEARCH)) + sum(map(len, planned.values())) == N_TRIALS
    chosen = plan.chosen(history)
    assert chosen == history.outcomes[CONFIRM]["chosen"]
    assert {"designs": plan.designs(history)} == history.outcomes[ABLATE]


def test_its_configuration_is_taken_for_that_of_the_same_study(recorded: Path, plan: Plan, tmp_path: Path):
    assert next(read(recorded, StudyStarted)).config_hash == plan.config.config_hash
    unpacked("v0.1", tmp_path / "recorded")
    check_same_study(plan.config, tmp_path / "recorded")


@pytest.fixture(scope="module")
def tracked(recorded: Path, tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> str:
    """URI of a store that has received the recorded study."""
    root = tmp_path_factory.mktemp("tracked")
    (root / "mlflow.db").write_bytes(sqlite_template.read_bytes())
    uri = f"sqlite:///{root / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)  # where MLflow puts the artifacts of such a store
        sync(unpacked("v0.1", root / "recorded"), uri)
    return uri


@pytest.mark.core
@pytest.mark.slow
def test_mlflow_receives_every_run_and_every_value_once(recorded: Path, tracked: str):
    runs = runs_by_key(tracked, "recorded")
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert set(History.read(recorded).trials) <= set(runs)
    points = stored_points(tracked, "recorded")
    assert set(points.values()) == {1}
    assert len(points) >= len(analysis.load(recorded).curves)


@pytest.mark.core
@pytest.mark.slow
def test_a_store_of_then_gives_the_frames_of_now(recorded: Path, tracked: str, tmp_path: Path):
    database = Path(tracked.removeprefix("sqlite:///"))
    former = tmp_path / "former.db"
    former.write_bytes(database.read_bytes())
    with contextlib.closing(sqlite3.connect(former)) as connection, connection:
        connection.execute(
            "UPDATE params SET key = replace(key, 'gray', 'grey'), value = replace(value, 'gray', 'grey')"
        )
    found = analysis.load(f"sqlite:///{former}", study="recorded")
    expected = analysis.load(recorded).runs.set_index("trial_id")
    runs = found.runs.set_index("trial_id").loc[expected.index]
    names = ["cell", "augmentation/gray", "option/gray", "probe/shapes/linear"]
    assert_frame_equal(runs[names], expected[names])
    assert found.designs["cell"].tolist() == analysis.load(recorded).designs["cell"].tolist()
    assert found.config["ablate"]["ops"] == ["flip", "gray"]


def test_a_run_of_then_keeps_its_params_when_its_trial_is_resumed(folder: Path, store: str):
    trial = next(event for event in read(unpacked("v0.1", folder), TrialStarted) if "gray" in event.config.cell)
    (folder / JOURNAL_FILE).write_bytes(to_line(StudyStarted(study="resumed", time=1.0)) + to_line(trial))
    sync(folder, store)
    with contextlib.closing(sqlite3.connect(store.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE params SET value = replace(value, 'gray', 'grey')")
    with (folder / JOURNAL_FILE).open("ab") as journal:
        journal.write(to_line(trial))
    assert sync(folder, store).refused == 0
    run = runs_by_key(store, "resumed")[trial.trial_id]
    assert run.data.params["cell"] == trial.config.cell.replace("gray", "grey")


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_study_whose_driver_was_killed_then_is_finished_now_and_nothing_of_it_runs_again(
    local_ray: None, store: str, tmp_path: Path
):
    folder = unpacked("v0.1-interrupted", tmp_path / "interrupted")
    whole = list(read(folder, TrialStarted))
    lines = (folder / JOURNAL_FILE).read_bytes().splitlines(keepends=True)
    killed = len(lines) * 3 // 10  # two trials of the confirm phase were running
    (folder / JOURNAL_FILE).write_bytes(b"".join(lines[:killed]) + lines[killed][:40])
    ended = {event.trial_id for event in read(folder, TrialEnded)}
    running = {event.trial_id for event in read(folder, TrialStarted)} - ended
    assert (len(ended), len(running)) == (5, 2)

    config = check_config(strict_yaml.load((folder / "study.yaml").read_text()))
    outcome = run_study(config, tmp_path)
    assert (outcome.failed, list(outcome.chosen)) == ([], ["rotation"])
    starts = Counter(event.trial_id for event in read(folder, TrialStarted))
    assert starts == Counter(event.trial_id for event in whole) + Counter(running)
    assert set(Counter(event.trial_id for event in read(folder, TrialEnded)).values()) == {1}
    points = Counter((report.trial_id, report.step) for report in read(folder, Report))
    assert set(points.values()) == {1}
