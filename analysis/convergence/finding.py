"""What a rule finds, and how numbers are told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from analysis.convergence.curves import Curve

FAILED, DIVERGED, COLLAPSED, AT_CHANCE = "failed", "diverged", "collapsed", "at_chance"
OVERFIT, STILL_IMPROVING, CONVERGED = "overfit", "still_improving", "converged"
VERDICTS = (FAILED, DIVERGED, COLLAPSED, AT_CHANCE, OVERFIT, STILL_IMPROVING, CONVERGED)


@dataclass(frozen=True)
class Finding:
    """A verdict with its evidence.

    best_step: the step around which validation was best; 0 where that is not the point.
    more_steps: how many further steps promise a gain; 0 where none do.
    """

    verdict: str
    evidence: str
    best_step: int = 0
    more_steps: int = 0


def value_told(curve: Curve) -> str:
    """Return a curve's last value, step, chance level and number of predictions in words."""
    chance = "" if math.isnan(curve.chance) else f" (chance {curve.chance:.4g}{count_told(curve)})"
    return f"{curve.metric} {curve.last:.4g} at step {curve.steps[-1]}{chance}"


def count_told(curve: Curve) -> str:
    """Return `, N predictions`, or nothing where N is unknown."""
    return f", {curve.n:,} predictions" if curve.n else ""
