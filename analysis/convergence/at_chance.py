"""Verdict `at_chance`: what was learned is less than a margin, on every measure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from analysis.convergence.curves import Curve, Head, Trial, number
from analysis.convergence.remedies import (
    DIFFERENT_VIEWS,
    format_number,
    instead_of,
    less_memorizing,
    lower_lr,
    n_images,
)
from analysis.convergence.verdict import Finding, Verdict
from trainables.chance import MARGIN, Learned, Level, learned

TAKE_OFF_STEPS = (500, 2000)  # steps at chance of a healthy context prediction: as reported, and at most
# Training loss over its chance level: above the first, the learning rate is too high; below the second, the network
# has memorized its training images.
UNSTABLE_RATIO, MEMORIZED_RATIO = 1.1, 0.8
WEAK_AUGMENTATION = 0.25  # strength below which SimCLR's two views are nearly the same image
NOT_LEFT = "; it is not shown to have left chance"  # in the evidence of a verdict that leaves this open
ALL_PAIRS = 40  # pairs of neighbors in the 3x3 grid of context prediction


def find(trial: Trial) -> Finding | None:
    """Find heads that have learned less than MARGIN of the way to a perfect score, by their upper bounds.

    Every measure of a head counts: its main metric and its loss, each against chance or, if the untrained network
    beats chance, against that. Nothing is concluded from a measure whose error is unknown. The margin and the bounds
    are those with which a running study stops trials (`trainables.chance`).
    """
    found = [head for head in trial.heads if learning_excluded(head)]
    if not found:
        return None
    evidence = "; ".join(_describe(measure) for head in found for measure in measures(head))
    others = len(trial.heads) - len(found)
    return Finding(evidence + (f" ({others} other head(s) did better)" if others else ""))


def measures(head: Head) -> list[Curve]:
    """Return the curves of a head that have a level to compare with."""
    return [curve for curve in head.curves if len(curve.trained) and not math.isnan(curve.start)]


def learning_excluded(head: Head) -> bool:
    """Return whether a head has learned nothing: the last report excludes it, and no earlier one shows the contrary."""
    known = measures(head)
    return bool(known) and not learning_shown(head) and all(_last(curve).excluded(curve.n_images) for curve in known)


def learning_shown(head: Head) -> bool:
    """Return whether any report of any measure shows learning, see `Learned.shown`."""
    return any(True for _ in _shown_at(head))


def left_chance(trial: Trial) -> bool:
    """Return whether every head is shown to have learned; a trial without a validation metric shows nothing."""
    return take_off(trial) is not None


def take_off(trial: Trial) -> int | None:
    """Return the steps of the report at which the last head is first shown to have learned; None if one is not."""
    first = [min(_shown_at(head), default=None) for head in trial.heads]
    known = [step for step in first if step is not None]
    return max(known) if known and len(known) == len(first) else None


def _shown_at(head: Head) -> Iterator[int]:
    """Yield the steps of the reports that show learning, curve by curve."""
    for curve in measures(head):
        for look, report in enumerate(np.flatnonzero((curve.steps > 0) & np.isfinite(curve.values)), start=1):
            if compared(curve, int(report)).shown(look):
                yield int(curve.steps[report])


def unless_left(trial: Trial, verdict: str) -> tuple[str, ...]:
    """Return the verdicts that remain beside one that says nothing about chance: `at_chance` unless that was left."""
    return () if left_chance(trial) else (VERDICT.name, verdict)


def compared(curve: Curve, report: int) -> Learned:
    """Compare one report with chance or the untrained network."""
    untrained = Level(curve.untrained, float(curve.errors[0])) if not math.isnan(curve.untrained) else None
    level = Level(float(curve.values[report]), float(curve.errors[report]))
    change_error = float(curve.gain_errors[report])
    return learned(level, curve.chance, mode=curve.mode, untrained=untrained, change_error=change_error)


def _last(curve: Curve) -> Learned:
    return compared(curve, int(np.flatnonzero(np.isfinite(curve.values))[-1]))


def remedies(finding: Finding, trial: Trial) -> list[str]:
    """Return the changes to try, likeliest first."""
    row, ratio = trial.row, _training_loss_over_chance(trial)
    strength, pairs = number(row.get("augmentation_strength")), number(row.get("option/pairs_per_image"))
    changes = []
    if row["task"] == "simclr" and strength < WEAK_AUGMENTATION:
        changes.append(
            f"augmentation_strength 0.5 instead of {strength:g}, since the two views are nearly one image now "
            f"({DIFFERENT_VIEWS})"
        )
    if ratio > UNSTABLE_RATIO:
        changes.append(f"as the training loss is {ratio:.3g} x its chance level, {lower_lr(trial)}")
    elif ratio < MEMORIZED_RATIO:
        changes += less_memorizing(trial)
    elif trial.steps < TAKE_OFF_STEPS[1]:
        patience = f"and take-off may need {TAKE_OFF_STEPS[0]:,} to {TAKE_OFF_STEPS[1]:,}"
        changes.append(f"more optimizer steps: {trial.steps:,} {_exposure(trial)}, {patience}")
    if row["task"] == "context_prediction" and not pairs >= ALL_PAIRS:
        changes.append(f"pairs_per_image {'8 or 40' if pairs == 1 else ALL_PAIRS}{instead_of(pairs)}")
    if row.get("option/head_norm") in ("batch", "none"):
        changes.append(f"head_norm batch_no_affine instead of {row['option/head_norm']}")
    if ratio <= UNSTABLE_RATIO:
        changes.append(f"another learning rate, a third or three times {format_number(row.get('lr'))}")
    changes[-1] += "; if none of these helps, check with --self-test whether the task can be learned at all"
    return changes


VERDICT = Verdict(
    "at_chance",
    meaning=f"what it learned is less than {MARGIN:.0%} of the way from guessing, or from the untrained network, to a "
    "perfect score, on every measure, at 95% confidence",
    verb="stays at chance",
    letter="A",
    color="#b0b0b0",
    remedies=remedies,
)


def _describe(curve: Curve) -> str:
    last, seen = _last(curve), curve.trained
    predictions = f" with {curve.n:,} predictions" if curve.n else ""
    most = max(0.0, last.upper(curve.n_images))
    return (
        f"{curve.metric} {seen.last:.4g} after {seen.steps[-1]:,} steps, {last.reference} {last.level:.4g}: it learned "
        f"at most {most:.2%} of the way to a perfect score, below {MARGIN:.0%}{predictions}"
    )


def _training_loss_over_chance(trial: Trial) -> float:
    """Return the last training loss over its chance level; 1 if either is unknown or the loss sums several heads."""
    loss = trial.curves.get("train/loss") if len(trial.heads) == 1 else None
    ratio = loss.last / loss.chance if loss is not None and loss.chance else math.nan
    return 1.0 if math.isnan(ratio) else ratio


def _exposure(trial: Trial) -> str:
    """Return how often the steps so far showed each image."""
    images, batch = n_images(trial), number(trial.row.get("batch_size"))
    if not images or math.isnan(batch):
        return "were done"
    return f"showed each of {images:,} images {trial.steps * batch / images:.3g} times"
