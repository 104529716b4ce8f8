"""A metric as whoever ranks trials sees it: finite, and the higher the better."""

from __future__ import annotations

import math

OBJECTIVE = "objective"  # its name in what a trial reports to Tune
WORST = -1e9  # stands for a metric that is not finite; samplers and schedulers only rank


def direction(metric: str) -> str:
    """Return `min` for a loss, alignment or uniformity, by whatever prefix, and `max` for any other metric."""
    return "min" if any(part in metric for part in ("loss", "alignment", "uniformity")) else "max"


def as_objective(value: float, mode: str) -> float:
    """Return a metric's value so that the highest is the best: negated where `mode` is `min`, WORST if not finite."""
    if not math.isfinite(value):
        return WORST
    return value if mode == "max" else -value
