"""Verdict `collapsed`: all images get nearly the same features."""

from __future__ import annotations

import math

from analysis.convergence.curves import Trial
from analysis.convergence.evidence import format_value
from analysis.convergence.remedies import instead_of, lower_lr
from analysis.convergence.verdict import Finding, Verdict

MIN_STD = 0.05  # spread of normalized features; 1 is healthy, untrained conv nets have 0.1 to 0.5
MIN_RANK = 2.0  # effective dimensions; untrained conv nets have about 30


def find(trial: Trial) -> Finding | None:
    """Find features that have shrunk to one point, or to one line that does not solve the task.

    One dimension is enough if the loss has halved: a task with two classes needs no more. Features that were as narrow
    in the untrained network have not collapsed.
    """
    losses = [loss for loss in trial.losses() if len(loss.trained)]
    solves = any(loss.last < loss.start / 2 for loss in losses)
    for name, limit, unit in (("feature_std", MIN_STD, "of 1"), ("rankme", MIN_RANK, "dimensions")):
        health = trial.curves.get(f"health/{name}")
        if health is None or not len(health.trained) or (name == "rankme" and solves):
            continue
        before, after = health.untrained, health.trained.last
        if after < limit and not after > before / 2:
            untrained = "" if math.isnan(before) else f", {before:.3g} untrained"
            evidence = f"{health.metric} {after:.3g} {unit} at step {trial.steps}{untrained}"
            return Finding("; ".join([evidence, *map(format_value, losses[:1])]))
    return None


def remedies(finding: Finding, trial: Trial) -> list[str]:
    """Return the changes to try, likeliest first."""
    changes = [lower_lr(trial)]
    if trial.row["task"] == "simclr":
        changes.append(f"a higher temperature{instead_of(trial.row.get('option/temperature'))}")
        changes.append(f"a larger batch_size{instead_of(trial.row.get('batch_size'))}, for more negatives")
    return changes


VERDICT = Verdict(
    "collapsed",
    meaning="all images get nearly the same features",
    verb="collapses",
    letter="C",
    color="#cc78bc",
    remedies=remedies,
)
