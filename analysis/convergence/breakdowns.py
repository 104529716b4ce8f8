"""Trials that broke: by an error, by a loss that exploded, by features that became one point, by forgetting."""

from __future__ import annotations

import math

from analysis import records
from analysis.convergence.curves import Curve, Trial
from analysis.convergence.finding import COLLAPSED, DIVERGED, FAILED, Finding, value_told
from analysis.convergence.noise import end_trend, level, lost
from analysis.convergence.trends import fall_told, material_fall

EXPLODED = 1.5  # times its initial value: a loss that diverges
FORGOTTEN = 0.25  # of all that was gained, lost in validation and in training
COLLAPSED_STD = 0.05  # of 1: features as good as constant; untrained conv nets have 0.1 to 0.5
COLLAPSED_RANK = 2.0  # dimensions; untrained conv nets have some 30


def diverged(trial: Trial) -> Finding | None:
    """Return `diverged` for a loss that is not finite, or has exploded.

    Exploded is a loss above 1.5 times its initial value that rises, or that did not come back before its budget was
    spent. Training's loss decides where it is known: that of validation may rise by overfitting.
    """
    losses = trial.losses()
    broken = [found for loss in losses if (found := _not_finite(loss))]
    known = [loss for loss in losses if len(loss.trained)]
    return next(iter(broken), None) or (_exploded(known[0], trial) if known else None)


def failed(trial: Trial) -> Finding | None:
    """Return `failed` for a trial that ended by an error."""
    if trial.row["status"] != records.FAILED:
        return None
    reason = str(trial.row.get("reason") or "").strip().splitlines()
    return Finding(FAILED, f"failed after {trial.steps:,} steps: {reason[-1] if reason else 'no reason recorded'}")


def collapsed(trial: Trial) -> Finding | None:
    """Return `collapsed` for features that have become one point, or one line that solves nothing.

    A line is no collapse where it has halved the loss: a two-way task needs no more. What was small already in the
    untrained network has not collapsed.
    """
    losses = [loss for loss in trial.losses() if len(loss.trained)]
    solves = any(loss.last < loss.start / 2 for loss in losses)
    for name, limit, unit in (("feature_std", COLLAPSED_STD, "of 1"), ("rankme", COLLAPSED_RANK, "dimensions")):
        figure = trial.curves.get(f"health/{name}")
        if figure is None or not len(figure.trained) or (name == "rankme" and solves):
            continue
        before, after = figure.untrained, figure.trained.last
        if after < limit and not after > before / 2:
            was = "" if math.isnan(before) else f", {before:.3g} untrained"
            words = f"{figure.metric} {after:.3g} {unit} at step {trial.steps}{was}"
            return Finding(COLLAPSED, "; ".join([words, *map(value_told, losses[:1])]))
    return None


def forgotten(trial: Trial) -> Finding | None:
    """Return `diverged` where validation and training have both lost a quarter of what they had gained."""
    for head in trial.heads:
        fallen, training = material_fall(head.main, FORGOTTEN), trial.training(head.main)
        if fallen is None or training is None:
            continue
        before, after = (level(training, step, fallen.window) for step in (fallen.best_step, trial.steps))
        gained = training.sign * (before - training.start)
        undone = training.sign * (before - after)
        if lost(training, undone, fallen.window) and undone > FORGOTTEN * abs(gained):
            words = f"{fall_told(head.main, fallen)}, and {training.metric} with it, from {before:.4g} to {after:.4g}"
            return Finding(DIVERGED, words, best_step=fallen.best_step)
    return None


def _not_finite(loss: Curve) -> Finding | None:
    """A loss whose last value is not finite; one that came back did not diverge."""
    if math.isfinite(loss.last):
        return None
    finite = loss.finite
    first = loss.steps[loss.steps > finite.steps[-1]][0] if len(finite) else loss.steps[0]
    before = f", {finite.last:.4g} at step {finite.steps[-1]}" if len(finite) else ""
    return Finding(DIVERGED, f"{loss.metric} was {loss.last} from step {first} on{before}")


def _exploded(loss: Curve, trial: Trial) -> Finding | None:
    start, last = loss.start, loss.last
    if not last > EXPLODED * start > 0:
        return None
    spent = trial.row["status"] == records.FINISHED
    if not spent and end_trend(loss.trained) > 0:  # it may come back yet
        return None
    words = f"{loss.metric} {last:.4g} at step {trial.steps} is {last / start:.3g} x its initial {start:.4g}"
    top = float(loss.values.max())
    return Finding(DIVERGED, words + (f" (highest {top:.4g})" if top > last else ""))
