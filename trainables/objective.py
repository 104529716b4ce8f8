"""Objectives: metric values in the form that ranks trials, finite and higher is better, and which accuracy ranks."""

from __future__ import annotations

import math

OBJECTIVE = "objective"  # key of the value in the results that a trial reports to Tune
WORST = -1e9  # value of a metric that is not finite; samplers and schedulers only rank
MIN_RATIO = 3.0  # see `is_imbalanced`


def direction(metric: str) -> str:
    """Return the better direction of a metric: `min` for a loss, alignment or uniformity, `max` for any other.

    Tasks declare the directions of their own metrics, and tests check that both agree. This function needs only the
    name, which is all that a configuration or a frame has.
    """
    return "min" if any(part in metric for part in ("loss", "alignment", "uniformity")) else "max"


def as_objective(value: float, mode: str) -> float:
    """Return a metric's value such that the highest is best: negated if `mode` is `min`, WORST if not finite."""
    if not math.isfinite(value):
        return WORST
    return value if mode == "max" else -value


def rank_key(value: float, mode: str, trial_id: str, *, own: float, own_mode: str) -> tuple[float, float, str]:
    """Return the sort key of a trial, best first: the one rule for ties of phases, tables and figures.

    Ties, which are frequent with small probes, are broken by the task's own validation metric and then by trial id. The
    order in which trials started does not matter, so an interrupted study makes the same choices as an undisturbed one.

    Args:
        value: Value of the metric that ranks.
        mode: `max` or `min`, the better direction of that metric.
        trial_id: Id of the trial.
        own: Value of the task's own validation metric; not finite if it is unknown.
        own_mode: Better direction of the task's own metric.
    """
    return -as_objective(value, mode), -as_objective(own, own_mode), trial_id


def is_imbalanced(largest_class: float, n_classes: float) -> bool:
    """Return whether balanced accuracy replaces accuracy: to select a probe or configuration, and to answer by.

    It does if the largest class has at least MIN_RATIO times as many of the evaluated images as the other classes have
    on average: a share of at least 3 / (K + 2), which is 0.75 for two classes, 0.25 for ten and 0.03 for a hundred. It
    separates the data sets that are usually reported by accuracy (SVHN, 0.20 of 10) from those usually reported by the
    mean of the classes' accuracies (Caltech-101 and Flowers-102; Kornblith 2019, 1805.08974, table 1). Draws of
    images from equally frequent classes rarely do: with probability 0.01 for 50 images of ten classes, and 0.0001 for
    100.

    Args:
        largest_class: Share of the largest class among the evaluated images; NaN if it is not known, which is never
            imbalanced.
        n_classes: Number of classes K.
    """
    return n_classes > 1 and largest_class * (n_classes - 1) >= MIN_RATIO * (1 - largest_class)
