"""Verdict `at_chance`: the trial never did better than guessing, or than the untrained network."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau

from analysis.convergence.curves import Curve, Head, Trial, number
from analysis.convergence.noise import ALPHA
from analysis.convergence.remedies import (
    format_number,
    instead_of,
    lower_lr,
    more_images,
    n_images,
    stronger_augmentation,
)
from analysis.convergence.verdict import Finding, Verdict
from trainables.chance import chance_bound, clears_chance

TAKE_OFF_STEPS = (500, 2000)  # steps at chance of a healthy context prediction: as reported, and at most
# Training loss over its chance level: above the first, the learning rate is too high; below the second, the network
# has memorized its training images.
UNSTABLE_RATIO, MEMORIZED_RATIO = 1.1, 0.8
WEAK_AUGMENTATION = 0.25  # strength below which SimCLR's two views are nearly the same image
ALL_PAIRS = 40  # pairs of neighbors in the 3x3 grid of context prediction


class ReferenceLevel(NamedTuple):
    """The level that a report must beat.

    Attributes:
        name: `chance` or `untrained`.
        level: Value of the metric.
        error: Standard error of `level`.
    """

    name: str
    level: float
    error: float


def find(trial: Trial) -> Finding | None:
    """Find heads for which no report is better than guessing, or than the untrained network.

    Each head is compared with its own chance level; a sum of losses has none. The bound and its correction for the
    number of looks are the ones with which a running study stops trials (`trainables.chance`).
    """
    if not any(len(head.main.trained) for head in trial.heads):
        return Finding(f"no validation metric in {trial.steps:,} steps: nothing shows that it learned")
    found = [evidence for head in trial.heads if (evidence := _never_better(head, trial))]
    if not found:
        return None
    others = len(trial.heads) - len(found)
    return Finding("; ".join(found) + (f" ({others} other head(s) did better)" if others else ""))


def remedies(finding: Finding, trial: Trial) -> list[str]:
    """Return the changes to try, likeliest first."""
    row, ratio = trial.row, _training_loss_over_chance(trial)
    strength, pairs = number(row.get("augmentation_strength")), number(row.get("option/pairs_per_image"))
    changes = []
    if row["task"] == "simclr" and strength < WEAK_AUGMENTATION:
        changes.append(f"augmentation_strength 0.5 instead of {strength:g}, since without it two views are one image")
    if ratio > UNSTABLE_RATIO:
        changes.append(f"{lower_lr(trial)}, as the training loss is {ratio:.3g} x its chance level")
    elif ratio < MEMORIZED_RATIO:
        changes += [*stronger_augmentation(trial), more_images(trial)]
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
    meaning="never better than guessing, by a bound that holds for all reports together",
    verb="stays at chance",
    letter="A",
    color="#b0b0b0",
    remedies=remedies,
)


def _never_better(head: Head, trial: Trial) -> str | None:
    """Return the evidence that no report beat the reference level; None if one did, or if that is unknown.

    A metric with unknown standard error cannot clear a bound; it is at chance only if no report is better at all.
    """
    curve = head.main
    reports = np.flatnonzero(curve.steps > 0)
    if math.isnan(curve.chance) or not len(curve.trained):
        return None
    reference = _reference_level(curve)
    better = curve.sign * (curve.values[reports] - reference.level) > 0
    can_tell = (curve.mode == "max" and curve.n > 0) or np.isfinite(curve.errors).any()
    if better.any() and not can_tell:
        return None
    if any(_beats(curve, int(reports[look]), int(look) + 1, reference) for look in np.flatnonzero(better)):
        return None
    if reference.name == "untrained" and _losses_fell(head, trial):
        return None
    return _describe(curve, reference, looks=len(reports))


def _reference_level(curve: Curve) -> ReferenceLevel:
    """Return chance, or the untrained network's level if it beats chance: color alone lets SimCLR tell views apart."""
    chance = ReferenceLevel("chance", curve.chance, 0.0)
    if math.isnan(curve.untrained) or not _beats(curve, 0, 1, chance):
        return chance
    return ReferenceLevel("untrained", curve.untrained, float(curve.errors[0]))


def _beats(curve: Curve, report: int, look: int, reference: ReferenceLevel) -> bool:
    value, error = float(curve.values[report]), math.hypot(float(curve.errors[report]), reference.error)
    if reference.name == "chance":
        return clears_chance(value, reference.level, curve.n, mode=curve.mode, standard_error=error, look=look)
    # The untrained network's value was measured too, so no binomial bound applies to the difference.
    sign = -curve.sign
    return clears_chance(sign * value, sign * reference.level, curve.n, mode="min", standard_error=error, look=look)


def _losses_fell(head: Head, trial: Trial) -> bool:
    """Return whether both losses show learning that an accuracy above chance from the start does not.

    The training loss must have fallen since its first report, and the validation loss below its untrained value. The
    latter alone proves nothing: it also falls while the running statistics of BatchNorm settle.
    """
    training, validation = trial.curves.get("train/loss"), head.loss
    if training is None or validation is None or not len(training.trained):
        return False
    return _fell(training.trained) and _fell(validation.finite)


def _fell(loss: Curve) -> bool:
    """Return whether a loss ends below its first report by more than their standard errors explain, or falls steadily.

    The latter is Kendall's test for a trend (Mann 1945), which five reports can pass. The curve's own scatter is not
    used: the first steps bend the curve, and with few reports the scatter has almost no degrees of freedom.
    """
    if _beats(loss, -1, len(loss), ReferenceLevel("untrained", float(loss.values[0]), float(loss.errors[0]))):
        return True
    return kendalltau(loss.steps, loss.values, alternative="less").pvalue <= ALPHA  # NaN for a single report: no trend


def _describe(curve: Curve, reference: ReferenceLevel, looks: int) -> str:
    trained = curve.trained
    best = float(trained.values[np.argmax(trained.sign * trained.values)])
    words = f"{curve.metric} {trained.last:.4g} after {trained.steps[-1]:,} steps, {best:.4g} at best"
    error = math.hypot(float(trained.errors[-1]), reference.error)
    if reference.name == "chance":
        bound = chance_bound(reference.level, curve.n, mode=curve.mode, standard_error=error, look=looks)
    else:
        sign = -curve.sign
        bound = sign * chance_bound(sign * reference.level, curve.n, mode="min", standard_error=error, look=looks)
    clear = f"{bound:.4g} would have cleared it at report {looks}" if math.isfinite(bound) else "nothing could clear it"
    predictions = f" with {curve.n:,} predictions" if curve.n else ""
    return f"{words}, {reference.name} {reference.level:.4g}: {clear}{predictions} (time-uniform bound at 1 %)"


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
