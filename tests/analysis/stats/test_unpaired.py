"""Difference of two independent means: its false positives, and its agreement with Welch's test."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.stats.crossed import CrossedMean, crossed_mean, seeds_mean
from analysis.stats.paired import holm
from analysis.stats.unpaired import UnpairedMean

IMAGES, REPEATS = 400, 400


def encoder(rng: np.random.Generator, n_seeds: int, seed_sd: float, gain: float = 0.0) -> CrossedMean:
    """Return the accuracy of an encoder on images of its own: images, seeds and their interaction vary."""
    logits = 0.5 + gain + rng.normal(0, 1.2, IMAGES) + rng.normal(0, seed_sd, (n_seeds, 1))
    logits = logits + rng.normal(0, 0.6, (n_seeds, IMAGES))
    right = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
    return crossed_mean(right.mean(axis=1), right)


@pytest.mark.parametrize("n_seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.0, 0.3])
def test_a_difference_is_found_in_at_most_5_percent_without_one_and_often_with_one(n_seeds: int, seed_sd: float):
    rng = np.random.default_rng(0)

    def found(gain: float) -> float:
        pairs = [
            UnpairedMean(encoder(rng, n_seeds, seed_sd, gain), encoder(rng, n_seeds, seed_sd)) for _ in range(REPEATS)
        ]
        return float(np.mean([each.p_value() <= 0.05 for each in pairs]))

    assert found(0.0) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / REPEATS)
    assert found(2.0) > 0.9


def test_families_of_comparisons_with_one_baseline_have_a_false_difference_in_at_most_5_percent():
    rng, n_seeds, n_others, repeats = np.random.default_rng(0), 5, 6, 300

    def mean() -> CrossedMean:
        """Return the result of one encoder: seeds vary as much as their interaction with images, and images do not."""
        table = rng.normal(0, 0.1, (n_seeds, 1)) + rng.normal(0, 1, (n_seeds, 100))
        return crossed_mean(table.mean(axis=1), table)

    found = 0
    for _ in range(repeats):
        baseline = mean()
        p = np.array([UnpairedMean(mean(), baseline).p_value() for _ in range(n_others)])
        found += holm(p).min() <= 0.05
    assert found / repeats <= 0.05


def test_the_interval_has_the_width_of_two_samples_of_equal_variance():
    values = np.array([0.1, 0.2, 0.4, 0.3, 0.5])
    difference = UnpairedMean(seeds_mean(values), seeds_mean(values + 1))
    low, high = difference.interval(0.95)
    error = np.sqrt(2 * values.var(ddof=1) / 5)
    assert difference.error == pytest.approx(error)
    assert (low, high) == pytest.approx((-1 - 2.776445 * error, -1 + 2.776445 * error))  # t at 4 degrees of freedom
    assert (difference.p_value() <= 0.05) == (high < 0)
