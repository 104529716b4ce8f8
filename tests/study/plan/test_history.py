"""History: the state of a study, told by its journal, whether heard live or read again."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from analysis.records import (
    FAILED,
    FINISHED,
    STOPPED,
    Facts,
    PhaseEnded,
    PhaseStarted,
    Report,
    StudyStarted,
    TrialEnded,
    TrialStarted,
)
from study.execution.journal import Journal
from study.plan.history import History, finished
from tests.study.studies import add
from trainables.trial import TrialConfig


def trial(seed: int = 0, **changes: object) -> TrialConfig:
    return TrialConfig(**{"phase": "search", "task": "rotation", "seed": seed, **changes})  # type: ignore[arg-type]


def test_a_trial_runs_until_it_has_ended():
    history = History()
    key = add(history, trial(), 0.1, 0.3, status=None)
    assert not history.trials[key].ended
    assert history.trials[key].trial == trial()
    add(history, trial(), status=STOPPED)
    assert history.trials[key].ended
    assert history.trials[key].status == STOPPED


def test_a_trial_that_starts_again_runs_again_and_keeps_what_it_reported():
    history = History()
    key = add(history, trial(), 0.1, 0.3, status=FAILED)
    add(history, trial(), status=None)
    assert not history.trials[key].ended
    assert (history.trials[key].step, history.trials[key].value("probe/linear")) == (1, 0.3)


def test_a_value_is_that_of_the_last_report_not_the_best():
    history = History()
    key = add(history, trial(), 0.1, 0.9, 0.3)
    assert history.trials[key].value("probe/linear") == 0.3


def test_a_metric_that_the_last_report_lacks_has_its_value_from_before():
    history = History()
    key = add(history, trial(), 0.1, 0.3, status=None)
    history.observe(Report(trial_id=key, step=2, metrics={"val/loss": 1.0}))
    record = history.trials[key]
    assert (record.step, record.value("probe/linear"), record.value("val/loss")) == (2, 0.3, 1.0)


def test_a_value_is_a_final_result_where_no_report_has_it_and_nan_where_nothing_has():
    history = History()
    key = add(history, trial(), 0.1, results={"probe/shapes/linear": 0.7})
    assert history.trials[key].value("probe/shapes/linear") == 0.7
    assert math.isnan(history.trials[key].value("val/loss"))


def test_trials_are_found_by_phase_and_task_in_the_order_of_their_start():
    history = History()
    keys = [add(history, trial(seed)) for seed in (3, 1, 2)]
    add(history, trial(phase="confirm"))
    add(history, trial(task="simclr"))
    assert [record.trial.trial_id for record in history.of("search", "rotation")] == keys
    assert len(history.of("search")) == 4


def test_finished_and_failed_trials_are_told_apart():
    history = History()
    for seed, status in enumerate((FINISHED, STOPPED, FAILED, None)):
        add(history, trial(seed), status=status)
    assert [record.trial.seed for record in finished(history.trials.values())] == [0]
    assert [record.trial.seed for record in history.failed()] == [2]


@pytest.mark.parametrize("reopened", [False, True], ids=["heard live", "read again"])
def test_a_journal_tells_the_whole_state(tmp_path: Path, reopened: bool):
    journal, history, key = Journal(tmp_path), History(), trial().trial_id
    journal.listeners.append(history.observe)
    facts = Facts(trial_id=key, primary_metric="val/accuracy", chance={"val/accuracy": 0.25})
    journal.append(started := StudyStarted(config_hash="abc", study="demo"))
    journal.append(PhaseStarted(phase="search"))
    journal.append(TrialStarted.of(trial()))
    journal.append(facts)
    journal.append(Report(trial_id=key, step=5, metrics={"val/accuracy": 0.4}))
    journal.append(Report(trial_id=key, step=5, metrics={"val/accuracy": 0.9}))
    journal.append(TrialEnded(trial_id=key, status=FAILED, reason="why", results={"probe/shapes/knn": 0.5}))
    journal.append(PhaseEnded(phase="search", outcome={"best": [key]}))
    if reopened:
        history = History.read(tmp_path)
    record = history.trials[key]
    assert (record.trial, record.status, record.reason, record.step) == (trial(), FAILED, "why", 5)
    assert (record.metrics, record.facts) == ({"val/accuracy": 0.4}, facts)
    assert record.results == {"probe/shapes/knn": 0.5}
    assert history.outcomes == {"search": {"best": [key]}}
    assert (history.drivers, history.began) == (1, started.time)
