"""A trial's process is killed: the trial goes on from its checkpoint, and if that happens too often, it alone fails."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from analysis.records import FAILED, FINISHED, Event, Report, TrialEnded, TrialEvent, TrialStarted
from study.driver import run_study
from tests.acceptance.studies import (
    PATIENCE_S,
    DriverProcess,
    assert_mlflow_equals_journal,
    assert_whole,
    curves_of,
    reported,
)
from tests.study.executed_studies import Study, assert_recorded_once_and_in_order
from tests.study.mlflow_stores import eventually, runs_by_key
from tests.study.studies import tiny

TRIAL, WORKER = "ray::ImplicitFunc", "ray::RayTrainWorker"  # how Ray names the processes
SEARCH = {"algorithm": "random", "scheduler": "none", "num_samples": 3}


def processes(name: str) -> list[psutil.Process]:
    """Return the processes of this test run's Ray that bear the name."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.cmdline() and process.cmdline()[0].startswith(name):
                found.append(process)
        except psutil.Error:  # it has just ended
            continue
    return found


def kill_one(name: str) -> None:
    """Kill the eldest process of that name, once there is one, and see it gone."""
    eventually(lambda: bool(processes(name)), timeout_s=PATIENCE_S)
    victim = min(processes(name), key=lambda process: process.create_time())
    os.kill(victim.pid, signal.SIGKILL)
    eventually(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE, timeout_s=PATIENCE_S)


@pytest.fixture
def driver(local_ray: None, tmp_path: Path) -> Callable[..., DriverProcess]:
    """Makes studies whose drivers join the Ray of this test run."""
    import ray

    environment = {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}

    def make(name: str, **changes: Any) -> DriverProcess:
        return DriverProcess(tmp_path / name, tiny(**changes), environment)

    return make


def starts(events: Sequence[Event]) -> Counter[str]:
    return Counter(event.trial_id for event in events if isinstance(event, TrialStarted))


def reports_since_start(events: Sequence[Event], trial_id: str, count: int) -> int:
    """Return how many reports the trial has made since it started for the `count`-th time."""
    own = [type(event) for event in events if isinstance(event, TrialEvent) and event.trial_id == trial_id]
    began = [i for i, kind in enumerate(own) if kind is TrialStarted]
    return own[began[count - 1] :].count(Report) if len(began) >= count else 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_trials_whose_processes_are_killed_go_on_from_their_checkpoints_to_the_bit(driver: Any):
    changes = {"budget_steps": 30, "search": SEARCH, "max_failures": 9}
    undisturbed, disturbed = driver("undisturbed", **changes), driver("disturbed", **changes)
    assert undisturbed.run() == 0, undisturbed.log()

    with disturbed.running() as process:
        for moment in (1, 12, 35):  # of 50 reports after step 0, in search and confirmation
            disturbed.wait_for(process, lambda events, moment=moment: reported(events) >= moment)
            kill_one(TRIAL)
        assert process.wait(2 * PATIENCE_S) == 0, disturbed.log()

    assert max(starts(disturbed.events()).values()) > 1
    assert_whole(disturbed)
    assert_mlflow_equals_journal(disturbed)
    assert curves_of(disturbed.folder) == curves_of(undisturbed.folder)
    assert disturbed.outcome()["chosen"] == undisturbed.outcome()["chosen"]
    assert "Traceback" not in disturbed.log()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_trial_whose_process_is_killed_too_often_fails_alone(driver: Any):
    one_at_a_time = {"cpu": 2}
    study = driver("study", budget_steps=60, search=SEARCH, max_failures=1, resources=one_at_a_time)
    with study.running() as process:
        study.wait_for(process, lambda events: reported(events, "search") > 0)
        victim = next(event.trial_id for event in study.events() if isinstance(event, Report))
        for deaths in (1, 2):
            study.wait_for(process, lambda events, count=deaths: reports_since_start(events, victim, count) > 0)
            kill_one(TRIAL)
        assert process.wait(2 * PATIENCE_S) == 1, study.log()

    assert_whole(study)
    assert_mlflow_equals_journal(study)
    assert study.outcome()["failed"] == [victim]
    ends = {event.trial_id: event for event in study.events() if isinstance(event, TrialEnded)}
    assert {key for key, event in ends.items() if event.status != FINISHED} == {victim}
    assert ends[victim].reason.count("The actor died unexpectedly") == 2
    assert {key for key, count in starts(study.events()).items() if count > 1} == {victim}
    run = runs_by_key(study.tracking_uri, "tiny")[victim]
    assert run.info.status == "FAILED"
    assert "process" in run.data.tags["pretext.reason"]
    assert "The actor died unexpectedly" in (study.folder / "report.html").read_text()
    assert "Traceback" not in study.log()


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_process_that_dies_between_two_trials_harms_neither(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts of such a store
    killed = []

    def kill_after_first_trial(event: Event) -> None:
        if isinstance(event, TrialEnded) and not killed:
            killed.append(event.trial_id)
            kill_one(TRIAL)  # Tune is about to hand it to the next trial

    config = tiny(resources={"cpu": 2}, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert config.max_failures == 0
    outcome = run_study(config, tmp_path / "out", listeners=[kill_after_first_trial])
    assert killed
    assert outcome.failed == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", [WORKER, TRIAL])
def test_a_worker_group_survives_a_death(victim: str, local_ray: None, tmp_path: Path):
    study = Study(tmp_path / "study", tiny(workers=2, budget_steps=30, max_failures=1))
    trial = study.plan.search_base("rotation").replace(probe_datasets=("shapes",))
    killed = []

    def kill_at_step_9(event: Event) -> None:
        if isinstance(event, Report) and event.step == 9 and not killed:
            killed.append(event.trial_id)
            kill_one(victim)

    study.journal.listeners.append(kill_at_step_9)
    study.executor.run([trial], "search")
    record = study.history.trials[trial.trial_id]
    assert (killed, record.status) == ([trial.trial_id], FINISHED), record.reason
    assert starts(study.events(trial.trial_id))[trial.trial_id] == 2
    assert study.steps(trial.trial_id) == list(range(0, 31, 3))
    assert set(record.results) >= {"probe/shapes/linear"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_group_whose_workers_die_too_often_fails_alone(local_ray: None, tmp_path: Path):
    study = Study(tmp_path / "study", tiny(workers=2, max_failures=1, budget_steps=12))
    base = study.plan.search_base("rotation")
    trials = [base, base.replace(seed=1)]
    deaths: list[str] = []

    def kill_twice(event: Event) -> None:
        if isinstance(event, Report) and len(deaths) < 2 and event.trial_id == (deaths or [event.trial_id])[0]:
            deaths.append(event.trial_id)
            kill_one(WORKER)

    study.journal.listeners.append(kill_twice)
    study.executor.run(trials, "search")
    assert len(deaths) == 2
    failed = study.history.trials[deaths[0]]
    (other,) = (record for key, record in study.history.trials.items() if key != deaths[0])
    assert failed.status == FAILED
    assert "worker" in failed.reason
    assert "died" in failed.reason
    assert other.status == FINISHED
    assert_recorded_once_and_in_order(study, other)
