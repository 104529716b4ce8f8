"""Stopping at chance: a trial that has learned nothing after its patience is stopped, and no other."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from study.execution.stopping import ChanceStopper
from trainables.ray_adapter.messages import FinalResults, Message, Replay, TrialReport, to_result

FACTS = {"primary_metric": "val/accuracy", "primary_mode": "max", "n_validation": 1600, "n_validation_images": 400}
CHANCE = {"train/loss": 1.386, "val/accuracy": 0.25, "val/loss": 1.386}


def report(step: int, value: float, *, error: float = 0.004, loss: float = 1.386, **facts: Any) -> TrialReport:
    """A report of a four-way task on 400 validation images."""
    metrics = {"val/accuracy": value, "val/accuracy_se": error, "val/loss": loss, "val/loss_se": 0.003}
    return TrialReport(step=step, metrics=metrics, facts=FACTS | facts | {"chance": CHANCE})


def result(step: int, value: float, **arguments: Any) -> dict[str, Any]:
    return to_result(report(step, value, **arguments))


def test_the_stopper_waits_for_its_patience():
    stopper = ChanceStopper(patience=100)
    assert not stopper("a", result(99, 0.25))
    assert stopper("a", result(100, 0.25))
    (reason,) = stopper.reasons.values()
    assert reason.startswith("at chance after 100 steps: of the way to a perfect score it learned less than 3%")
    assert "val/accuracy 0.2500 (chance 0.2500) at most 0.9%" in reason


def test_the_stopper_leaves_alone_a_trial_that_has_once_cleared_chance():
    stopper = ChanceStopper(patience=100)
    assert not stopper("a", result(50, 0.5))
    assert not stopper("a", result(200, 0.25))


def test_a_value_of_unknown_error_says_nothing_of_learning():
    stopper = ChanceStopper(patience=100)
    assert not stopper("a", result(50, 0.5, error=float("nan")))
    assert stopper("a", result(200, 0.25))


def test_the_stopper_stops_nothing_that_may_have_learned():
    assert ChanceStopper(patience=10)("a", result(10, 0.26))  # at most 2.2% of the way to a perfect score
    assert not ChanceStopper(patience=10)("a", result(10, 0.28))
    assert not ChanceStopper(patience=10)("a", result(10, 0.25, error=0.02))  # too few images to exclude it
    assert not ChanceStopper(patience=10)("a", result(10, 0.25, error=float("nan")))


def test_the_stopper_leaves_alone_a_trial_that_has_begun_to_rise():
    assert ChanceStopper(patience=10)("a", result(10, 0.255, error=0.002))  # 2.5 standard errors above chance
    assert not ChanceStopper(patience=10)("a", result(10, 0.257, error=0.002))  # 3.5, and at most 1.4% of the way


def test_every_measure_must_exclude_learning():
    assert not ChanceStopper(patience=10)("a", result(10, 0.25, loss=1.3))  # the loss fell, the accuracy did not rise
    loss = {"primary_metric": "val/loss", "primary_mode": "min"}
    assert not ChanceStopper(patience=10)("a", result(10, 0.3, **loss))
    assert ChanceStopper(patience=10)("a", result(10, 0.25, **loss))


def test_beyond_chance_from_the_start_a_trial_is_compared_with_the_untrained_network():
    stopper = ChanceStopper(patience=10)
    assert not stopper("a", result(0, 0.4, loss=1.2))
    assert stopper("a", result(10, 0.4, loss=1.2))
    learning = ChanceStopper(patience=10)
    assert not learning("a", result(0, 0.4, loss=1.2))
    assert not learning("a", result(10, 0.5, loss=1.1))


def test_the_later_a_high_value_comes_the_less_it_says():
    """Among many reports, one is high by chance: 3.7 standard errors show learning at the first, not at the tenth."""
    high = {"value": 0.2875, "error": 0.01}
    early, late = ChanceStopper(patience=100), ChanceStopper(patience=100)
    for step in range(10, 101, 10):
        assert not early("a", result(step, **high if step == 10 else {"value": 0.25}))
        assert not late("a", result(step, **high if step == 100 else {"value": 0.25}))
    assert not early("a", result(110, 0.25))
    assert late("a", result(110, 0.25))


def test_the_error_of_the_change_on_the_same_images_excludes_learning_where_those_of_two_values_could_not():
    def stops(**metrics: float) -> bool:
        stopper, ended = ChanceStopper(patience=10), report(10, 0.4, error=0.02, loss=1.2)
        assert not stopper("a", result(0, 0.4, error=0.02, loss=1.2))
        return stopper("a", to_result(dataclasses.replace(ended, metrics={**ended.metrics, **metrics})))

    assert not stops()
    assert stops(**{"val/accuracy_gain_se": 0.005})
    assert not stops(**{"val/accuracy_gain_se": 0.02})


def test_the_stopper_judges_a_resumed_trial_by_its_whole_curve():
    def curve(*values: float) -> dict[str, Any]:
        known = [report(10 * look, value) for look, value in enumerate(values, start=1)]
        reports = [{"step": each.step, "metrics": each.metrics} for each in known]
        return to_result(Replay(step=known[-1].step, reports=reports, facts=known[0].facts))

    assert not ChanceStopper(patience=10)("learned long ago", curve(0.9, 0.25))
    assert ChanceStopper(patience=10)("at chance", curve(0.25, 0.25))


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
