"""A study that has to end at a given time: what stops first, and that a report is always written."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from analysis.records import FINISHED, KILLED, PhaseEnded, StudyEnded, StudyStarted, TrialEnded, read
from study import driver
from study.config.schema import StudyConfig
from study.driver import run_study
from study.execution.journal import Journal
from study.execution.sequence import run_phases
from study.folder import as_begun
from study.plan.history import History
from study.plan.phases import Plan
from study.provenance import study_started
from study.timing.budget import TimeBudget
from study.timing.estimate import PhaseEstimate, StudyEstimate
from study.timing.machine import Machine, machine_of
from tests.acceptance.studies import crowding
from tests.analysis.simulated_studies import SimulatedExecutor
from tests.study.studies import plan_of, tiny
from trainables.trial import TrialConfig

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


@pytest.mark.parametrize("address", [None, "10.0.0.1:6379"])
def test_a_study_with_a_time_budget_connects_to_a_cluster_before_it_is_sized(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str | None
):
    calls: list[object] = []

    class SizedError(Exception): ...

    def budgeted(plan: Plan, *, slots: int | None, **others: object) -> None:
        calls.append(slots)
        raise SizedError

    monkeypatch.setattr(driver.cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(driver.cluster, "check_environment", lambda: address)
    monkeypatch.setattr(driver.cluster, "connect", lambda **options: calls.append("connected"))
    monkeypatch.setattr(driver.resources, "running_room", lambda need: 32)
    monkeypatch.setattr(driver, "budgeted", budgeted)
    with pytest.raises(SizedError):
        run_study(tiny(budget_hours=1), tmp_path)
    assert calls == (["connected", 32] if address else [None])
    calls.clear()
    with pytest.raises(SizedError):
        run_study(tiny(), tmp_path)
    assert calls == [None], "without a time budget there is nothing to size"


class InterruptedExecutor(SimulatedExecutor):
    """Executor whose time is over when it comes to a phase: it runs one trial of it."""

    def __init__(self, plan: Plan, journal: Journal, last: str) -> None:
        super().__init__(plan, journal)
        self.last = last

    def search(self, *tasks: str) -> None:
        self.out_of_time = self.last == "search"
        super().search(*tasks) if not self.out_of_time else None

    def run(self, trials: list[TrialConfig], phase: str) -> bool:
        self.out_of_time = phase == self.last
        return super().run(trials[:1] if self.out_of_time else trials, phase) and not self.out_of_time


def phases_run(folder: Path, last: str = "") -> tuple[list[str], History]:
    """Run the phases of a simulated study until time is over in the last one; return those that are unfinished."""
    config = tiny(simulate=True, ablate={"designs": ["cures"], "cures": {"lr": [0.5]}, "seeds": 2})
    plan, history, journal = plan_of(config), History.read(folder), Journal(folder)
    journal.listeners.append(history.observe)
    journal.append(study_started(plan))
    unfinished = run_phases(plan, InterruptedExecutor(plan, journal, last), history, TimeBudget())  # type: ignore[arg-type]
    journal.close()
    return unfinished, history


def test_an_ablation_without_time_keeps_what_it_has_and_the_evaluation_still_runs(tmp_path: Path):
    unfinished, history = phases_run(tmp_path, "ablate")
    assert unfinished == ["ablate"]
    assert list(history.outcomes) == ["baselines", "search", "confirm", "ablate", "evaluate"]
    assert history.outcomes["ablate"]["designs"], "what ran can be compared"
    assert (len(history.of("ablate")), len(history.of("evaluate"))) == (1, 5)
    unfinished, history = phases_run(tmp_path)
    assert not unfinished
    assert len(history.of("ablate")) == 2 * 3
    assert "cut" not in history.outcomes["ablate"]


@pytest.mark.parametrize(("last", "ended"), [("search", 1), ("confirm", 2), ("evaluate", 4)])
def test_a_phase_that_the_next_ones_need_is_left_to_a_driver_with_more_time(tmp_path: Path, last: str, ended: int):
    phases = ["baselines", "search", "confirm", "ablate", "evaluate"]
    unfinished, history = phases_run(tmp_path, last)
    assert (list(history.outcomes), unfinished) == (phases[:ended], phases[ended:])
    assert phases_run(tmp_path)[0] == []


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("last", ["search", "confirm", "ablate"])
def test_whatever_is_unfinished_there_is_a_report(tmp_path: Path, last: str):
    _, history = phases_run(tmp_path, last)
    plan = plan_of(tiny(simulate=True, ablate={"designs": ["cures"], "cures": {"lr": [0.5]}, "seeds": 2}))
    report, answered = driver._write_results(plan, history, None, tmp_path)  # type: ignore[arg-type]
    assert report.exists()
    assert answered.sentences


@pytest.fixture
def fast_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let estimates be of two cores that take next to nothing for anything but the report."""
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts of such a store
    monkeypatch.setenv("PRETEXT_STUDY_CACHE", str(tmp_path / "cache"))
    machine_of(lambda: Machine(start=0, phase=0, warm_up=0, trial=0.001, end=5))
    monkeypatch.setattr("study.timing.estimate.n_cores", lambda: 2)


def simulated_study(tmp_path: Path, hours: float) -> StudyConfig:
    store = f"sqlite:///{tmp_path}/mlflow.db"
    return tiny(simulate=True, tracking_uri=store, budget_hours=hours, search={"scheduler": "none"})


@pytest.mark.core
@pytest.mark.slow
def test_a_study_whose_estimate_was_too_short_ends_in_time_with_a_report(
    local_ray: None, tmp_path: Path, fast_machine: None
):
    began, said = time.time(), []
    outcome = run_study(simulated_study(tmp_path, 12 / 3600), tmp_path, say=said.append)
    assert time.time() - began < 12 + 8 * crowding(), "stopping, the report and MLflow on a busy machine"
    assert outcome.unfinished[-1] == "evaluate"
    assert outcome.report.exists()
    assert said[0].startswith("sized to 0.00333 hours: 20 seeds to confirm, 96 steps per trial, 48 search trials")
    assert list(read(outcome.folder, StudyEnded))[-1].status == KILLED
    started = next(read(outcome.folder, StudyStarted))
    assert started.config["confirm"]["seeds"] == 20
    resumed = as_begun(simulated_study(tmp_path, 1), outcome.folder)
    assert (resumed.confirm.seeds, resumed.budget_steps, resumed.budget_hours) == (20, 96, 1)


@pytest.mark.slow
def test_more_time_completes_a_study_that_was_stopped(local_ray: None, tmp_path: Path, fast_machine: None):
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
