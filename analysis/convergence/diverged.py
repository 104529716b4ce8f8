"""Verdict `diverged`: the loss exploded, or training undid what it had learned."""

from __future__ import annotations

import math

from analysis import records
from analysis.convergence.changes import exceeds_noise, material_drop, mean_around
from analysis.convergence.curves import Curve, Trial
from analysis.convergence.evidence import describe_drop
from analysis.convergence.progress import recent_gain
from analysis.convergence.remedies import lower_lr
from analysis.convergence.verdict import Finding, Verdict

EXPLOSION_RATIO = 1.5  # final loss over initial loss
FORGOTTEN_SHARE = 0.25  # share of the gain that is lost, in validation and in training


def find_explosion(trial: Trial) -> Finding | None:
    """Find a loss that is not finite, or that exploded.

    A loss has exploded if it is above 1.5 times its initial value and is still rising or the trial has spent its
    budget. The training loss decides if it is known, because overfitting can raise the validation loss.
    """
    losses = trial.losses()
    not_finite = next((finding for loss in losses if (finding := _not_finite(loss))), None)
    known = [loss for loss in losses if len(loss.trained)]
    return not_finite or (_exploded(known[0], trial) if known else None)


def find_forgetting(trial: Trial) -> Finding | None:
    """Find a head whose validation and training metrics have both lost a quarter of their gain."""
    for head in trial.heads:
        drop, training = material_drop(head.main, FORGOTTEN_SHARE), trial.training(head.main)
        if drop is None or training is None:
            continue
        before, after = (mean_around(training, step, drop.window) for step in (drop.best_step, trial.steps))
        gained = training.sign * (before - training.start)
        undone = training.sign * (before - after)
        if exceeds_noise(training, undone, drop.window) and undone > FORGOTTEN_SHARE * abs(gained):
            dropped = describe_drop(head.main, drop)
            evidence = f"{dropped}, and {training.metric} with it, from {before:.4g} to {after:.4g}"
            return Finding(evidence, best_step=drop.best_step)
    return None


def remedies(finding: Finding, trial: Trial) -> list[str]:
    """Return the change to try; of those that were measured, no other helped."""
    return [lower_lr(trial)]


VERDICT = Verdict(
    "diverged",
    meaning="the loss exploded, or training undid what it had learned",
    verb="diverges",
    letter="D",
    color="#d55e00",
    remedies=remedies,
)


def _not_finite(loss: Curve) -> Finding | None:
    """Find a loss whose last value is not finite; a loss that recovered has not diverged."""
    if math.isfinite(loss.last):
        return None
    finite = loss.finite
    first = loss.steps[loss.steps > finite.steps[-1]][0] if len(finite) else loss.steps[0]
    before = f", {finite.last:.4g} at step {finite.steps[-1]}" if len(finite) else ""
    return Finding(f"{loss.metric} was {loss.last} from step {first} on{before}")


def _exploded(loss: Curve, trial: Trial) -> Finding | None:
    start, last = loss.start, loss.last
    if not last > EXPLOSION_RATIO * start > 0:
        return None
    spent = trial.row["status"] == records.FINISHED
    recent = recent_gain(loss)
    if not spent and recent is not None and recent.amount > 0:  # it falls again and may recover
        return None
    evidence = f"{loss.metric} {last:.4g} at step {trial.steps} is {last / start:.3g} x its initial {start:.4g}"
    top = float(loss.values.max())
    return Finding(evidence + (f" (highest {top:.4g})" if top > last else ""))
