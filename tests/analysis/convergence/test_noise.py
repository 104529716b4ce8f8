"""Noise of a curve: error rates and power of the tests for drops, on simulated curves of known noise."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest

from analysis.convergence.changes import drop_from_best
from analysis.convergence.curves import Curve
from analysis.convergence.noise import FALSE_ALARM_RATE, PRIOR_OF_SE, estimate_noise
from analysis.convergence.reading import trials
from tests.analysis.error_rates import at_most

RUNS = 1000
COUNTS = (5, 10, 20, 40)


def curve(values: np.ndarray, *, se: float = math.nan, paired: float = math.nan, mode: str = "max") -> Curve:
    """Return a curve; `se` is the standard error of each value, `paired` that of each change."""
    count = len(values)
    steps = np.arange(1, count + 1) * 10
    errors, changes = np.full(count, se), np.full(count, paired)
    chance = float(values[-1])
    return Curve("val/accuracy", mode, steps, steps.astype(float), values, errors, changes, changes, chance)  # type: ignore[arg-type]


def curves(
    count: int, sd: float, *, se: float = math.nan, truth: np.ndarray | float = 0.0, seed: int = 0
) -> list[Curve]:
    scatter = np.random.default_rng(seed).normal(0, sd, (RUNS, count))
    return [curve(0.5 + truth + row, se=se) for row in scatter]


@pytest.mark.parametrize("count", [20, 40])
def test_the_scatter_of_a_curve_is_estimated_from_the_curve_alone(count: int) -> None:
    variances = [estimate_noise(made).sd ** 2 for made in curves(count, 0.01)]  # type: ignore[union-attr]
    assert np.mean(variances) == pytest.approx(0.01**2, rel=0.05)


def test_a_smooth_bend_is_not_scatter() -> None:
    steps = np.linspace(0, 1, 30)
    scatter = np.random.default_rng(0).normal(0, 0.01, 30)
    bent = estimate_noise(curve(0.8 - 0.5 * np.exp(-steps * 4) + scatter))
    straight = estimate_noise(curve(scatter))
    assert bent is not None
    assert straight is not None
    assert bent.sd == pytest.approx(straight.sd, rel=0.1)


def test_with_few_reports_the_standard_error_decides_and_with_many_the_observed_scatter() -> None:
    quiet = np.zeros(60)
    expected = PRIOR_OF_SE * 0.03
    three, sixty = estimate_noise(curve(quiet[:3], se=0.03)), estimate_noise(curve(quiet, se=0.03))
    assert three is not None
    assert sixty is not None
    assert three.sd > 0.9 * expected
    assert sixty.sd < 0.4 * expected
    assert estimate_noise(curve(quiet[:2])) is None  # two reports and no standard error: nothing is known


def test_the_error_of_paired_changes_replaces_the_assumed_scatter() -> None:
    few = curve(np.zeros(3), se=0.03, paired=0.01)
    scatter = estimate_noise(few)
    assert scatter is not None
    assert scatter.sd == pytest.approx(0.01 / math.sqrt(2), rel=0.1)


def test_a_network_fluctuates_however_many_images_are_evaluated() -> None:
    few = dataclasses.replace(curve(np.full(3, 0.55), se=1e-6), chance=0.25)
    scatter = estimate_noise(few)
    assert scatter is not None
    assert 0.01 * 0.3 < scatter.sd < 0.03 * 0.3


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("known", [True, False])
def test_a_flat_curve_seems_to_drop_from_its_best_in_one_of_a_hundred(count: int, known: bool) -> None:
    made = curves(count, 0.01, se=0.01 / PRIOR_OF_SE if known else math.nan)
    found = [drop_from_best(one) for one in made]
    falling = np.mean([drop is not None and drop.change.clears for drop in found])
    assert falling <= at_most(1.5 * FALSE_ALARM_RATE, RUNS)


def test_the_best_of_many_reports_is_not_compared_with_the_last_as_if_it_were_the_only_one() -> None:
    # The largest of 40 standard normals is 2.16 on average: a test that forgets this finds a drop nearly always.
    made = curves(40, 0.01, se=0.01 / PRIOR_OF_SE)
    best = np.mean([one.values.max() - one.last for one in made])
    assert best > 0.02
    assert np.mean([drop_from_best(one).change.clears for one in made]) <= at_most(FALSE_ALARM_RATE, RUNS)  # type: ignore[union-attr]


@pytest.mark.parametrize("count", COUNTS)
def test_a_drop_of_ten_standard_deviations_is_found_at_its_place(count: int) -> None:
    time = np.linspace(0, 1, count)
    truth = np.where(time < 0.5, 0.2 * time, 0.1 - 0.2 * (time - 0.5))
    found = [drop_from_best(one) for one in curves(count, 0.01, se=0.01 / PRIOR_OF_SE, truth=truth)]
    assert np.mean([drop is not None and drop.change.clears for drop in found]) > 0.95
    where = np.median([drop.best_step for drop in found if drop]) / (10 * count)
    assert 0.35 < where < 0.75


def test_a_small_drop_shows_in_many_reports_together() -> None:
    time = np.linspace(0, 1, 40)
    truth = np.where(time < 0.5, 0.0, -0.03)  # three standard deviations
    found = [drop_from_best(one) for one in curves(40, 0.01, se=0.01 / PRIOR_OF_SE, truth=truth)]
    assert np.mean([drop is not None and drop.change.clears for drop in found]) > 0.95


def test_less_is_better_for_a_loss() -> None:
    falling = np.linspace(2, 1, 20)
    assert drop_from_best(curve(falling[::-1], mode="min", se=0.01)).change.clears  # type: ignore[union-attr]
    assert not drop_from_best(curve(falling, mode="min", se=0.01)).change.clears  # type: ignore[union-attr]


def test_learning_time_is_the_cumulative_learning_rate() -> None:
    steps = np.arange(0, 101, 10)
    metrics = {"val/accuracy": np.linspace(0, 1, 11), "lr": np.where(steps <= 50, 1.0, 0.1)}
    points = [
        ("t", int(step), name, float(value))
        for name, row in metrics.items()
        for step, value in zip(steps, row, strict=True)
    ]
    frame = pd.DataFrame(points, columns=["trial_id", "step", "metric", "value"])
    runs = pd.DataFrame([{"trial_id": "t", "task": "rotation", "status": "FINISHED", "primary_metric": "val/accuracy"}])
    times = next(trials(runs, frame)).curves["val/accuracy"].times
    assert np.diff(times[1:6]) == pytest.approx(10.0)
    assert np.diff(times[6:]) == pytest.approx(1.0)
    without = next(trials(runs, frame[frame["metric"] != "lr"])).curves["val/accuracy"].times
    assert without == pytest.approx(steps)
