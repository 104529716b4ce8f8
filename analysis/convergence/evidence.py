"""Wording of evidence that several verdicts share."""

from __future__ import annotations

import math

from analysis.convergence.changes import Drop
from analysis.convergence.curves import Curve


def format_value(curve: Curve) -> str:
    """Return a curve's last value with its step, chance level and number of predictions."""
    chance = "" if math.isnan(curve.chance) else f" (chance {curve.chance:.4g}{format_count(curve)})"
    return f"{curve.metric} {curve.last:.4g} at step {curve.steps[-1]}{chance}"


def format_count(curve: Curve) -> str:
    """Return `, N predictions`, or nothing if N is unknown."""
    return f", {curve.n:,} predictions" if curve.n else ""


def describe_drop(curve: Curve, drop: Drop) -> str:
    """Return how far a metric worsened from its best, and how much of that noise explains."""
    best, last = f"{drop.best:.4g} around step {drop.best_step}", f"{drop.last:.4g} at step {curve.steps[-1]}"
    noise = f"noise explains up to {drop.change.needed:.2g}{format_count(curve)}"
    return f"{curve.metric} worsened from its best, {best}, to {last}: by {drop.change.amount:.3g}, {noise}"
