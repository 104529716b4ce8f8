"""Verdict `overfit`: validation got worse than its best while training did not."""

from __future__ import annotations

from analysis.convergence.at_chance import NOT_LEFT, learning_shown, unless_left
from analysis.convergence.changes import exceeds_noise, material_drop, mean_around
from analysis.convergence.curves import Head, Trial
from analysis.convergence.evidence import describe_drop
from analysis.convergence.progress import GAINED, gain, improving
from analysis.convergence.remedies import less_memorizing
from analysis.convergence.verdict import Finding, Verdict


def find(trial: Trial) -> Finding | None:
    """Find a validation metric that is worse than its best by more than noise, while training is not.

    The main metric of a head decides; usually this is its accuracy. Once that no longer improves, a validation loss
    that has risen from its best counts too: the network becomes more certain of its errors.
    """
    for head in filter(_learned, trial.heads):
        for curve in head.curves:
            drop = material_drop(curve)
            if drop is None or (curve is not head.main and improving(head.main)):
                continue
            training = trial.training(curve)
            possible = unless_left(trial, VERDICT.name)
            unknown = NOT_LEFT if possible else ""
            if training is None:
                evidence = f"{describe_drop(curve, drop)}; no training metric was reported{unknown}"
                return Finding(evidence, possible=possible)
            before, after = (mean_around(training, step, drop.window) for step in (drop.best_step, trial.steps))
            if not exceeds_noise(training, training.sign * (before - after), drop.window):
                training_trend = f"while {training.metric} went from {before:.4g} to {after:.4g}"
                evidence = f"{describe_drop(curve, drop)}, {training_trend}{unknown}"
                return Finding(evidence, best_step=drop.best_step, possible=possible)
    return None


def remedies(finding: Finding, trial: Trial) -> list[str]:
    """Return the changes to try, in the order of their measured rates."""
    changes = less_memorizing(trial)
    if finding.best_step:
        changes.append(f"fewer steps: about {finding.best_step:,} instead of {trial.steps:,}")
    return changes


VERDICT = Verdict(
    "overfit",
    meaning="validation got worse than its best while training did not",
    verb="overfits",
    letter="O",
    color="#ece133",
    remedies=remedies,
)


def _learned(head: Head) -> bool:
    """Return whether a head had learned anything that it could lose, at the end or at an earlier report."""
    whole = gain(head.main)
    return learning_shown(head) or (whole is not None and whole.lower(GAINED) > 0)
