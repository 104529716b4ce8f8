"""Stopping at chance: a trial that has learned nothing after its patience is stopped, and no other."""

from __future__ import annotations

from typing import Any

import pytest

from study.execution.stopping import ChanceStopper
from trainables.ray_adapter.messages import FinalResults, Message, Replay, TrialReport, to_result

FACTS = {"primary_metric": "val/accuracy", "primary_mode": "max", "n_validation": 400}
CHANCE = {"val/accuracy": 0.25, "val/loss": 1.386}


def report(step: int, value: float, **facts: Any) -> TrialReport:
    """A report of a four-way task with 400 validation predictions."""
    known = FACTS | facts | {"chance": CHANCE}
    return TrialReport(step=step, metrics={known["primary_metric"]: value, "val/loss_se": 0.01}, facts=known)


def result(step: int, value: float, **facts: Any) -> dict[str, Any]:
    return to_result(report(step, value, **facts))


def test_the_stopper_waits_for_its_patience():
    stopper = ChanceStopper(patience=100)
    assert not stopper("a", result(99, 0.25))
    assert stopper("a", result(100, 0.25))
    assert stopper.reasons == {"a": "at chance after 100 steps: val/accuracy 0.2500, chance 0.2500, 400 predictions"}


def test_the_stopper_leaves_alone_a_trial_that_has_once_cleared_chance():
    stopper = ChanceStopper(patience=100)
    assert not stopper("a", result(50, 0.5))
    assert not stopper("a", result(200, 0.25))


def test_the_stopper_wants_more_than_luck_to_let_a_trial_continue():
    assert ChanceStopper(patience=10)("a", result(10, 0.28))  # 1.4 standard errors of 400 guesses
    assert not ChanceStopper(patience=10)("a", result(10, 0.36))


def test_the_stopper_judges_a_loss_by_its_standard_error():
    loss = {"primary_metric": "val/loss", "primary_mode": "min"}
    assert ChanceStopper(patience=10)("a", result(10, 1.380, **loss))
    assert not ChanceStopper(patience=10)("a", result(10, 1.2, **loss))


def test_the_stopper_judges_a_resumed_trial_by_its_whole_curve():
    def curve(*values: float) -> dict[str, Any]:
        known = [report(10 * look, value) for look, value in enumerate(values, start=1)]
        reports = [{"step": each.step, "metrics": each.metrics} for each in known]
        return to_result(Replay(step=known[-1].step, reports=reports, facts=known[0].facts))

    assert not ChanceStopper(patience=10)("cleared long ago", curve(0.9, 0.25))
    assert ChanceStopper(patience=10)("at chance", curve(0.25, 0.25))
    # The more looks, the more a look must show: what clears chance at the second does not at the hundredth.
    lucky = 0.35
    assert not ChanceStopper(patience=10)("second look", curve(0.25, lucky))
    assert ChanceStopper(patience=10)("hundredth look", curve(*[0.25] * 99, lucky))


def test_the_stopper_keeps_trials_apart_and_never_stops_all():
    stopper = ChanceStopper(patience=10)
    assert not stopper("good", result(10, 0.9))
    assert stopper("bad", result(10, 0.25))
    assert not stopper("good", result(20, 0.25))
    assert not stopper.stop_all()


@pytest.mark.parametrize(
    "harmless",
    [report(0, 0.25), FinalResults(step=100, results={})],
    ids=["before the first step", "final results"],
)
def test_the_stopper_passes_over_what_says_nothing_of_learning(harmless: Message):
    assert not ChanceStopper(patience=1)("a", to_result(harmless))


def test_a_patience_of_nought_never_stops():
    assert not ChanceStopper(patience=0)("a", result(10_000, 0.25))
