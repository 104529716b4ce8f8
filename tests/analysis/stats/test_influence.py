"""Contributions of images: jackknife pseudo-values, with the variance of the result over new images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from analysis.stats.influence import balanced_accuracy_images, mean_iou_images

RNG = np.random.default_rng(0)


def pseudo_values(result: Callable[[np.ndarray], float], n: int) -> np.ndarray:
    rows = np.arange(n)
    return np.array([n * result(rows) - (n - 1) * result(rows[rows != i]) for i in rows])


@pytest.mark.parametrize("labels", [RNG.integers(4, size=40), np.array([0, 0, 0, 1, 2, 2])])
def test_contributions_to_a_balanced_accuracy_are_pseudo_values(labels: np.ndarray):
    correct = RNG.random(len(labels)) < 0.6

    def result(rows: np.ndarray) -> float:
        return float(np.mean([correct[rows][labels[rows] == label].mean() for label in np.unique(labels[rows])]))

    expected = pseudo_values(result, len(labels))
    np.testing.assert_allclose(balanced_accuracy_images(correct, labels), expected, atol=1e-9)


def test_contributions_to_a_mean_iou_are_pseudo_values():
    overlaps = np.sort(RNG.integers(1, 50, (30, 2, 3)), axis=1)
    overlaps[1:, :, 2] = 0  # a class of one image

    def result(rows: np.ndarray) -> float:
        intersection, union = overlaps[rows].sum(axis=0)
        return float((intersection[union > 0] / union[union > 0]).mean())

    np.testing.assert_allclose(mean_iou_images(overlaps), pseudo_values(result, 30))
    np.testing.assert_allclose(mean_iou_images(np.stack([overlaps] * 2))[1], mean_iou_images(overlaps))


def test_contributions_have_the_variance_of_the_result_over_new_images():
    n, n_simulations = 300, 1_000
    labels = RNG.choice(3, (n_simulations, n), p=(0.8, 0.15, 0.05))
    correct = RNG.random((n_simulations, n)) < np.array([0.9, 0.6, 0.4])[labels]
    union = RNG.gamma(1.0, 100.0, (n_simulations, n, 3)) * (RNG.random((n_simulations, n, 3)) < (1, 0.5, 0.2))
    overlaps = np.stack([union * RNG.beta(2, 3, union.shape), union], axis=2)
    balanced = np.array([balanced_accuracy_images(*pair) for pair in zip(correct, labels, strict=True)])
    for values in (balanced, mean_iou_images(overlaps)):
        assert (values.var(axis=-1, ddof=1) / n).mean() == pytest.approx(values.mean(axis=-1).var(ddof=1), rel=0.15)
