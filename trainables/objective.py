"""Objectives: metric values in the form that ranks trials, finite and higher is better."""

from __future__ import annotations

import math

OBJECTIVE = "objective"  # key of the value in the results that a trial reports to Tune
WORST = -1e9  # value of a metric that is not finite; samplers and schedulers only rank


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
