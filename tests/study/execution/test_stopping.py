"""Stopping at chance: who has learned nothing after its patience is stopped, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from study.execution.search import ChanceStopper


def result(step: int, value: float, **facts: Any) -> dict[str, Any]:
    """A report of a four-way task with 400 validation predictions."""
    known = {"primary_metric": "val/accuracy", "primary_mode": "max", "n_validation": 400, "chance": {}} | facts
    known["chance"] = {"val/accuracy": 0.25, "val/loss": 1.386}
    return {"step": step, "facts": known, "metrics": {known["primary_metric"]: value, "val/loss_se": 0.01}}


def test_the_stopper_waits_for_its_patience():
    stopper = ChanceStopper(patience=100)
    assert not stopper("a", result(99, 0.25))
    assert stopper("a", result(100, 0.25))
    assert stopper.reasons == {"a": "at chance after 100 steps: val/accuracy 0.2500, chance 0.2500, 400 predictions"}


def test_the_stopper_leaves_alone_who_has_once_cleared_chance():
    stopper = ChanceStopper(patience=100)
    assert not stopper("a", result(50, 0.5))
    assert not stopper("a", result(200, 0.25))


def test_the_stopper_wants_more_than_luck_to_let_a_trial_go_on():
    assert ChanceStopper(patience=10)("a", result(10, 0.28))  # 1.4 standard errors of 400 guesses
    assert not ChanceStopper(patience=10)("a", result(10, 0.36))


def test_the_stopper_judges_a_loss_by_its_standard_error():
    loss = {"primary_metric": "val/loss", "primary_mode": "min"}
    assert ChanceStopper(patience=10)("a", result(10, 1.380, **loss))
    assert not ChanceStopper(patience=10)("a", result(10, 1.2, **loss))


def test_the_stopper_judges_a_trial_that_goes_on_by_its_whole_curve():
    def curve(*values: float) -> dict[str, Any]:
        known = [result(10 * look, value) for look, value in enumerate(values, start=1)]
        reports = [{"step": each["step"], "metrics": each["metrics"]} for each in known]
        return {"step": reports[-1]["step"], "facts": known[0]["facts"], "repeated": reports}

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
    [
        {"step": 0, **{key: result(0, 0.25)[key] for key in ("facts", "metrics")}},
        {"step": 100, "results": {}, "finished": True},
    ],
    ids=["before the first step", "final results"],
)
def test_the_stopper_passes_over_what_says_nothing_of_learning(harmless: dict[str, Any]):
    assert not ChanceStopper(patience=1)("a", harmless)


def test_a_patience_of_nought_never_stops():
    assert not ChanceStopper(patience=0)("a", result(10_000, 0.25))
