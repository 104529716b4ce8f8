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
