"""Frames: one row a trial, one row a point, whatever happened to the trial."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from analysis import records
from analysis.data.frames import CURVE_DTYPES, RUN_DTYPES, export, frames
from analysis.records import Event, Report, TrialEnded, TrialStarted
from analysis.records.layout import RUNS_FILE
from study.execution.journal import Journal
from tests.analysis.journals import BASELINE_TRUTH, DATASET, EVERY, SEEDS, STEPS, TRUTH, write_study
from trainables.errors import StorageError, UserError
from trainables.trial import WRITTEN_IF_SET, TrialConfig

DESIGN_ORDER = [
    "trial_id",
    "study",
    "phase",
    "task",
    "cell",
    "seed",
    "status",
    "dataset",
    "n_images",
    "encoder",
    "lr",
    "batch_size",
    "weight_decay",
    "augmentation_strength",
    "budget_steps",
    "steps",
    "samples_seen",
    "wall_s",
    "images_per_s",
    "primary_metric",
    "primary_mode",
    "chance",
    "n_validation",
]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    return list(records.read(write_study(tmp_path_factory.mktemp("study"))))


@pytest.fixture(scope="module")
def both(events: list[Event]) -> tuple[pd.DataFrame, pd.DataFrame]:
    return frames(events)


def report(trial: TrialConfig, step: int, **metrics: float) -> Report:
    return Report(trial_id=trial.trial_id, step=step, metrics=metrics)


def ended(trial: TrialConfig, status: str, **values: Any) -> TrialEnded:
    return TrialEnded(trial_id=trial.trial_id, status=status, wall_s=1.0, **values)


def test_runs_begin_with_the_columns_of_the_design_in_its_order(both):
    runs, curves = both
    assert list(runs.columns[: len(DESIGN_ORDER)]) == DESIGN_ORDER
    elsewhere = {"options", "augmentation", *dict(WRITTEN_IF_SET)}
    assert set(TrialConfig.__dataclass_fields__) - elsewhere <= set(runs)
    assert list(curves.columns) == ["trial_id", "step", "metric", "value"]


def test_every_trial_of_the_journal_is_one_row_and_every_reported_value_one_point(events, both):
    runs, curves = both
    starts = {event.trial_id for event in events if isinstance(event, TrialStarted)}
    reports = [event for event in events if isinstance(event, Report)]
    assert sorted(runs["trial_id"]) == sorted(starts)
    assert len(curves) == sum(len(event.metrics) for event in reports)
    event = next(event for event in reports if event.step == EVERY)
    found = curves[(curves["trial_id"] == event.trial_id) & (curves["step"] == EVERY)]
    assert dict(zip(found["metric"], found["value"], strict=True)) == event.metrics


def test_a_row_carries_configuration_facts_and_results(both):
    runs, curves = both
    row = runs[(runs["task"] == "simclr") & (runs["phase"] == "confirm")].iloc[0]
    assert (row["study"], row["status"], row["seed"], row["n_images"]) == ("quick", "FINISHED", SEEDS[0], 1000)
    assert row["steps"] == STEPS
    assert row["samples_seen"] == STEPS * 128
    assert (row["primary_metric"], row["primary_mode"], row["n_validation"]) == ("val/loss", "min", 200)
    assert row["chance"] == row["chance/val/loss"] == pytest.approx(np.log(2 * 128 - 1))
    assert row["option/temperature"] == 0.5
    assert row["augmentation/color_jitter"] == 0.5
    assert row[f"probe/{DATASET}/linear"] == pytest.approx(TRUTH["simclr"]["linear"], abs=0.05)
    assert row[f"probe/{DATASET}/chance"] == 0.2
    throughput = curves[(curves["trial_id"] == row["trial_id"]) & (curves["metric"] == "images_per_s")]["value"]
    assert row["images_per_s"] == pytest.approx(throughput.mean())


def test_a_baseline_has_probes_and_no_primary_metric(both):
    runs, _ = both
    row = runs[runs["task"] == "random_init"].iloc[0]
    assert (row["primary_metric"], row["steps"], row["samples_seen"]) == ("", 0, 0)
    assert pd.isna(row["chance"])
    assert pd.isna(row["n_validation"])
    assert row[f"probe/{DATASET}/knn"] == pytest.approx(BASELINE_TRUTH["random_init"]["knn"], abs=0.05)


def test_columns_have_their_dtypes_with_and_without_rows(both):
    for runs, curves in (both, frames([])):
        for dtypes, frame in ((RUN_DTYPES, runs), (CURVE_DTYPES, curves)):
            assert {name: str(frame[name].dtype) for name in dtypes} == dtypes


def test_an_option_keeps_the_narrowest_type_that_holds_its_values_and_gaps():
    trials = [
        TrialConfig("search", "a", options={"on": True, "pairs": 8, "gap": 1, "mask": "block"}),  # type: ignore[arg-type]
        TrialConfig("search", "a", options={"gap": 0.5, "mask": 3}),  # type: ignore[arg-type]
    ]
    runs, _ = frames(map(TrialStarted.of, trials))
    dtypes = {name: str(runs[f"option/{name}"].dtype) for name in ("on", "pairs", "gap", "mask")}
    assert dtypes == {"on": "boolean", "pairs": "Int64", "gap": "float64", "mask": "str"}
    assert runs["option/pairs"].isna().tolist() == [False, True]
    assert runs["option/mask"].tolist() == ["block", "3"]


def test_a_running_trial_counts_the_steps_it_has_reported():
    trial = TrialConfig("search", "rotation", batch_size=64)
    runs, _ = frames([TrialStarted.of(trial), report(trial, 0, loss=1.0), report(trial, 25, loss=0.5)])
    row = runs.iloc[0]
    assert (row["status"], row["steps"], row["samples_seen"]) == ("RUNNING", 25, 25 * 64)
    assert pd.isna(row["wall_s"])


def test_a_trial_started_twice_is_one_row_with_its_last_status():
    trial = TrialConfig("search", "rotation")
    failed = ended(trial, "FAILED", steps=25, reason="killed worker")
    assert frames([TrialStarted.of(trial), failed])[0]["status"].tolist() == ["FAILED"]
    again = frames([TrialStarted.of(trial), failed, TrialStarted.of(trial)])[0]
    assert again["status"].tolist() == ["RUNNING"]
    assert again["reason"].tolist() == [""]
    done = frames([TrialStarted.of(trial), failed, TrialStarted.of(trial), ended(trial, "FINISHED", steps=500)])[0]
    assert (done["status"].tolist(), done["steps"].tolist()) == (["FINISHED"], [500])


def test_of_a_step_reported_twice_the_first_report_stays():
    trial = TrialConfig("search", "rotation")
    _, curves = frames([TrialStarted.of(trial), report(trial, 25, loss=1.0), report(trial, 25, loss=9.0)])
    assert curves["value"].tolist() == [1.0]


def test_non_finite_values_stay_what_they_were(tmp_path: Path):
    trial = TrialConfig("search", "rotation")
    book = Journal(tmp_path)
    for event in (TrialStarted.of(trial), report(trial, 0, loss=float("nan")), report(trial, 25, loss=float("inf"))):
        book.append(event)
    book.close()
    export(tmp_path)
    values = pd.read_parquet(tmp_path / "curves.parquet")["value"].to_numpy()
    assert np.isnan(values[0])
    assert values[1] == np.inf


def test_parquet_files_hold_the_frames_to_the_last_dtype(tmp_path: Path):
    folder = write_study(tmp_path)
    export(folder)
    for name, frame in zip(("runs", "curves"), frames(records.read(folder)), strict=True):
        assert_frame_equal(pd.read_parquet(folder / f"{name}.parquet"), frame)
    assert {path.name for path in folder.iterdir()} == {"journal.jsonl", "runs.parquet", "curves.parquet"}


def test_an_export_that_fails_half_way_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = write_study(tmp_path)
    export(folder)
    before = (folder / RUNS_FILE).read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("trainables.files.os.fsync", full_disk)
        with pytest.raises(StorageError, match=r"/runs\.parquet: No space left"):
            export(folder)
    assert (folder / RUNS_FILE).read_bytes() == before
    assert not list(folder.glob(".*"))


def test_export_of_a_folder_without_a_journal_says_what_to_do(tmp_path: Path):
    with pytest.raises(UserError, match=r"no journal\.jsonl.*name the folder"):
        export(tmp_path)
