"""What a person sees while a study runs."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from analysis.records import Event, Facts, PhaseStarted, Report, TrialEnded, TrialStarted
from study.cli.progress import Progress
from study.config.validation import check_config
from trainables.trial import TrialConfig

TRIAL = TrialConfig(phase="search", task="rotation", lr=0.003, batch_size=64, budget_steps=100)


def events(status: str = "FINISHED", reason: str = "") -> list[Event]:
    key = TRIAL.trial_id
    return [
        PhaseStarted(phase="search"),
        TrialStarted.of(TRIAL),
        Facts(trial_id=key, primary_metric="val/accuracy"),
        Report(trial_id=key, step=50, metrics={"val/accuracy": 0.5, "probe/linear": 0.25}),
        TrialEnded(trial_id=key, status=status, reason=reason),
    ]


@pytest.fixture
def config():
    return check_config({"name": "shown"})


def lines_of(config, shown: list[Event]) -> list[str]:
    written = io.StringIO()
    with Progress(config, Console(file=written, width=200)) as progress:
        for event in shown:
            progress(event)
    return written.getvalue().splitlines()


def test_a_pipe_gets_one_line_for_each_phase_and_each_trial_that_ended(config):
    phase, trial = lines_of(config, events())
    assert phase.endswith("phase search")
    for part in ("FINISHED", "rotation lr=0.003", "bs=64", "val/accuracy 0.500", "probe/linear 0.250"):
        assert part in trial


def test_a_stopped_trial_says_why_and_a_failed_one_names_its_error(config):
    assert lines_of(config, events("STOPPED", "at chance after 50 steps"))[-1].endswith("(at chance after 50 steps)")
    traceback = "Traceback (most recent call last):\n  somewhere\nValueError: no such thing"
    assert lines_of(config, events("FAILED", traceback))[-1].endswith("(ValueError: no such thing)")


def test_a_terminal_shows_the_running_trials_with_their_steps(config):
    written = io.StringIO()
    console = Console(file=written, width=200, force_terminal=True)
    with Progress(config, console) as progress:
        for event in events()[:-1]:
            progress(event)
        console.print(progress._render())
    assert "50/100" in written.getvalue()
    assert "search: 1 running" in written.getvalue()
