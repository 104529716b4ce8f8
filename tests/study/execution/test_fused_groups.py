"""Trials that a worker trains as one network: the journal has what it would have if each had run alone."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from analysis.records import FAILED, FINISHED, Report, TrialEnded, TrialEvent, TrialStarted, read
from study.config.sections import ResourcesConfig
from study.execution import resources
from study.execution.executor import Executor
from study.execution.journal import Journal
from study.execution.recorder import Recorder
from study.plan.history import History
from tests.conftest import CORE
from tests.study.executed_studies import FakeTrial, Study, assert_recorded_once_and_in_order
from tests.study.studies import tiny
from trainables.ray_adapter.messages import FinalResults, TrialReport, Unfused, to_result
from trainables.ray_adapter.trainable import GROUP
from trainables.trial import RANDOM_INIT, TrialConfig

LOSS = ("train/loss", "val/loss")
TOLERANCE = 0.015  # relative, as in tests/trainables/training/test_fused.py
EASY = {"encoder": "conv4", "width": 4, "batch_size": 8, "budget_steps": 6, "report_every": 3, "optimizer": "sgd"}


def trials(count: int, **changes: Any) -> list[TrialConfig]:
    """Return trials that differ in seed and learning rate alone."""
    first = TrialConfig("confirm", "rotation", **{**EASY, "probe_datasets": ("shapes",), **changes})
    return [first.replace(seed=seed, lr=0.01 / (1 + seed)) for seed in range(count)]


@pytest.fixture
def study(local_ray: None, tmp_path: Path) -> Any:
    """Makes studies that fuse at most so many trials."""

    def start(fuse: int | str, **changes: Any) -> Study:
        return Study(tmp_path / f"fuse-{fuse}", tiny(resources={"fuse": fuse}, **changes))

    return start


def run(study: Study, own: Sequence[TrialConfig]) -> Study:
    assert study.executor.run(list(own), "confirm")
    return study


def first_reports_before_second(study: Study, group: Sequence[TrialConfig]) -> bool:
    """Return whether every trial of a group had reported step 0 before one of them reported the next step."""
    ids = {trial.trial_id for trial in group}
    steps = [event.step for event in study.trial_events() if isinstance(event, Report) and event.trial_id in ids]
    return steps[: len(ids)] == [0] * len(ids)


@pytest.mark.parametrize("task", ["rotation", pytest.param("context_prediction", marks=CORE)])
@pytest.mark.slow
@pytest.mark.core
def test_fused_trials_are_recorded_like_trials_that_run_alone(study: Any, task: str):
    own = [trial.replace(task=task) for trial in trials(4)]
    baseline = TrialConfig("confirm", RANDOM_INIT, width=4, budget_steps=0, probe_datasets=("shapes",))
    alone, fused = (run(study(fuse), [baseline, *own]) for fuse in (1, 2))
    assert not first_reports_before_second(alone, own)
    assert all(first_reports_before_second(fused, group) for group in (own[:2], own[2:]))
    for trial in own:
        record, expected = (each.history.trials[trial.trial_id] for each in (fused, alone))
        assert_recorded_once_and_in_order(fused, record)
        assert (record.status, record.facts.primary_metric) == (FINISHED, expected.facts.primary_metric)
        assert record.results.keys() == expected.results.keys()
        for (step, found), (other, wanted) in zip(
            *(each.curve(trial.trial_id) for each in (fused, alone)), strict=True
        ):
            assert (step, found.keys()) == (other, wanted.keys())
            for name in wanted.keys() & set(LOSS):
                assert found[name] == pytest.approx(wanted[name], rel=TOLERANCE), (step, name)
    assert fused.history.trials[baseline.trial_id].results == alone.history.trials[baseline.trial_id].results


@pytest.mark.slow
@pytest.mark.core
def test_a_group_that_cannot_be_trained_leaves_its_trials_to_run_alone(study: Any, caplog: pytest.LogCaptureFixture):
    own = trials(3)
    own[1] = own[1].replace(n_images=4)  # fewer than a batch
    with caplog.at_level(logging.WARNING):
        ran = run(study(3), own)
    assert "3 trials are trained one by one, not as one network: shapes: batch_size = 8" in caplog.text
    records = [ran.history.trials[trial.trial_id] for trial in own]
    assert [record.status for record in records] == [FINISHED, FAILED, FINISHED]
    assert "batch_size = 8" in records[1].reason
    assert ran.steps(own[2].trial_id) == [0, 3, 6]


@pytest.mark.slow
@pytest.mark.core
def test_a_group_whose_process_is_killed_resumes_from_the_checkpoints_of_its_trials(study: Any):
    own = trials(2, budget_steps=30)
    ran, killed = study(2, max_failures=3), []

    def kill_once(event: Any) -> None:
        """Kill the process that trains when the second trial has reported step 6."""
        if killed or not isinstance(event, Report) or (event.trial_id, event.step) != (own[1].trial_id, 6):
            return
        for process in psutil.Process().children(recursive=True):
            if "ray::ImplicitFunc" in " ".join(process.cmdline()):
                killed.append(process.pid)
                os.kill(process.pid, signal.SIGKILL)

    ran.journal.listeners.append(kill_once)
    run(ran, own)
    assert killed
    for trial in own:
        events = ran.events(trial.trial_id)
        assert sum(isinstance(event, TrialStarted) for event in events) == 2
        assert [type(event) for event in events].count(TrialEnded) == 1
        assert ran.steps(trial.trial_id) == list(range(0, 31, 3))
        assert ran.history.trials[trial.trial_id].status == FINISHED


def test_trials_that_have_ended_are_not_recorded_again_when_their_group_restarts(tmp_path: Path):
    history, journal = History(), Journal(tmp_path)
    journal.listeners.append(history.observe)
    recorder, (first, second) = Recorder(journal, history, {}), trials(2)
    group = FakeTrial("a", {GROUP: [first.to_dict(), second.to_dict()]})

    def send(*messages: Any) -> None:
        for message in messages:
            recorder.on_trial_result(0, [group], group, {**to_result(message), "time_total_s": 8.0})

    facts: dict[str, Any] = {"primary_metric": "val/loss", "primary_mode": "min", "chance": {}}
    facts |= {"n_train": 1, "n_validation": 1}
    report = {"metrics": {"val/loss": 1.0}, "facts": facts, "step": 6}
    recorder.on_trial_start(0, [group], group)
    send(TrialReport(**report), TrialReport(**report, member=1), FinalResults(results={"probe": 0.5}, step=6))
    assert history.has_ended(first.trial_id)
    assert not history.has_ended(second.trial_id)
    recorder.on_trial_recover(0, [group], group)
    recorder.on_trial_start(0, [group], group)
    send(TrialReport(**report), FinalResults(results={"probe": 0.1}, step=6), Unfused(reason="no room"))
    recorder.on_trial_complete(0, [group], group)
    events = list(read(tmp_path, TrialEvent))
    assert [type(event) for event in events if event.trial_id == first.trial_id].count(TrialStarted) == 1
    [ended] = [event for event in events if isinstance(event, TrialEnded)]
    assert (ended.trial_id, ended.results, ended.wall_s) == (first.trial_id, {"probe": 0.5}, 4.0)  # its share of 8 s
    assert not history.has_ended(second.trial_id)


# fuse, GPUs of a trial, trials that run at once, sizes of groups
GROUPS = [
    *((1, 0.5, 2, []), ("auto", 0, 2, []), (8, 0, 2, [7, 7, 6])),
    *(("auto", 1, 1, [10, 10]), ("auto", 0.5, 2, [10, 10]), ("auto", 0.25, 4, [5, 5, 5, 5])),
]


@pytest.mark.parametrize(("fuse", "gpu", "slots", "sizes"), GROUPS)
def test_groups_are_made_where_they_are_asked_for_and_leave_no_slot_idle(
    study: Any, fuse: Any, gpu: float, slots: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
):
    ran = study(fuse)
    monkeypatch.setattr(resources, "max_concurrent_trials", lambda need, workers, may_grow: slots)
    ran.executor.config = ran.config.model_copy(update={"resources": ResourcesConfig(fuse=fuse, gpu=gpu)})
    baseline = TrialConfig("confirm", RANDOM_INIT, budget_steps=0)
    assert [len(group) for group in ran.executor._groups([baseline, *trials(20)])] == sizes


def test_no_group_starts_after_the_deadline(monkeypatch: pytest.MonkeyPatch):
    executor = object.__new__(Executor)  # without the Ray that a real one puts its data into
    own = [trial.replace(seed=0) for trial in trials(4)]  # one block of the ablation
    executor.config, executor.history, executor.shared = tiny(resources={"fuse": 2}), History(), None
    experiments: list[str] = []
    monkeypatch.setattr(executor, "_fit", lambda name, *rest, **options: experiments.append(name))
    for deadline, n_experiments in ((math.inf, 2), (0.0, 0)):  # a group's experiment, and one of the trials it left
        executor.deadline = deadline
        experiments.clear()
        assert executor.run(own, "ablate") is (deadline > 0)
        assert len(experiments) == n_experiments


def test_fusing_does_not_make_another_study():
    assert tiny(resources={"fuse": 8}).config_hash == tiny().config_hash
