"""A study that has to end at a given time: what stops first, and that a report is always written."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from analysis.records import FINISHED, KILLED, PhaseEnded, StudyEnded, StudyStarted, TrialEnded, read
from study.config.schema import StudyConfig
from study.driver import run_study
from study.folder import as_begun
from study.plan.estimate import PhaseEstimate, StudyEstimate
from study.plan.machine import Machine, machine_of
from study.time_budget import TimeBudget
from tests.study.studies import tiny

ROWS = {
    "start": 10.0,
    "baselines": 5.0,
    "search": 30.0,
    "confirm": 20.0,
    "ablate": 40.0,
    "evaluate": 6.0,
    "report": 8.0,
}


def budget(seconds: float) -> TimeBudget:
    rows = [PhaseEstimate(name, 1, 0, need, need, need) for name, need in ROWS.items()]
    return TimeBudget(time.time() + seconds, StudyEstimate(rows, 2, "2 cores"))


def test_each_phase_stops_in_time_for_those_after_it():
    found = budget(1000)
    left = {name: found.end - found.deadline(name, done=[]) for name in ("search", "confirm", "ablate", "evaluate")}
    assert left == pytest.approx({"search": 74, "confirm": 54, "ablate": 14, "evaluate": 8})
    assert found.end - found.deadline("search", done=["ablate"]) == pytest.approx(34), "what has ended needs no time"


def test_without_enough_time_for_the_phases_after_it_a_phase_stops_in_time_for_the_report():
    found = budget(50)
    assert found.end - found.deadline("search", done=[]) == pytest.approx(8)


def test_without_a_budget_nothing_stops():
    assert TimeBudget().deadline("search", done=[]) == math.inf


def simulated_study(tmp_path: Path, hours: float) -> StudyConfig:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    return tiny(simulate=True, tracking_uri=store, budget_hours=hours, search={"scheduler": "none"})


@pytest.mark.core
@pytest.mark.slow
def test_a_study_whose_estimate_was_too_short_ends_in_time_with_a_report(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PRETEXT_STUDY_CACHE", str(tmp_path / "cache"))
    machine_of(lambda: Machine(start=0, phase=0, warm_up=0, trial=0.001, end=5))  # far too fast
    began, said = time.time(), []
    outcome = run_study(simulated_study(tmp_path, 12 / 3600), tmp_path, say=said.append)
    assert time.time() - began < 12 + 8, "stopping, the report and MLflow on a busy machine"
    assert outcome.unfinished[-1] == "evaluate"
    assert outcome.report.exists()
    assert said[0].startswith("sized to 0.00333333 hours: 20 seeds to confirm, 96 steps per trial, 48 search trials")
    assert list(read(outcome.folder, StudyEnded))[-1].status == KILLED
    started = next(read(outcome.folder, StudyStarted))
    assert started.config["confirm"]["seeds"] == 20
    resumed = as_begun(simulated_study(tmp_path, 1), outcome.folder)
    assert (resumed.confirm.seeds, resumed.budget_steps, resumed.budget_hours) == (20, 96, 1)


@pytest.mark.slow
def test_more_time_completes_a_study_that_was_stopped(local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PRETEXT_STUDY_CACHE", str(tmp_path / "cache"))
    machine_of(lambda: Machine(start=0, phase=0, warm_up=0, trial=0.001, end=5))
    stopped = run_study(simulated_study(tmp_path, 12 / 3600), tmp_path)
    assert stopped.unfinished
    ended = {event.trial_id for event in read(stopped.folder, TrialEnded)}
    outcome = run_study(simulated_study(tmp_path, 1), tmp_path)
    assert not outcome.unfinished
    assert [event.phase for event in read(outcome.folder, PhaseEnded)] == ["baselines", "search", "confirm", "evaluate"]
    assert list(read(outcome.folder, StudyEnded))[-1].status == FINISHED
    assert len(outcome.chosen["rotation"]["seeds"]) == 20
    again = [event.trial_id for event in read(outcome.folder, TrialEnded)]
    assert len(again) == len(set(again)) > len(ended), "no trial ended twice"
