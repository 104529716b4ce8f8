"""Trials that learned nothing: no better than guessing, or than the untrained network."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau

from analysis.convergence.curves import Curve, Head, Trial
from analysis.convergence.finding import AT_CHANCE, Finding
from analysis.convergence.noise import ALPHA
from trainables.chance import chance_bound, clears_chance


class ReferenceLevel(NamedTuple):
    """What a report must beat: `chance` or the `untrained` network, its level, and that level's standard error."""

    name: str
    level: float
    error: float


def at_chance(trial: Trial) -> Finding | None:
    """Return `at_chance` where a head was never, at any report, better than guessing or than untrained.

    Each head is held against its own chance level; a sum of losses is held against none. The bound, and what counts
    as a look, are those by which a running study stops its trials: `trainables.chance`.
    """
    if not any(len(head.main.trained) for head in trial.heads):
        return Finding(AT_CHANCE, f"no validation metric in {trial.steps:,} steps: nothing shows that it learned")
    found = [words for head in trial.heads if (words := _never_better(head, trial))]
    if not found:
        return None
    others = len(trial.heads) - len(found)
    return Finding(AT_CHANCE, "; ".join(found) + (f" ({others} other head(s) did better)" if others else ""))


def _never_better(head: Head, trial: Trial) -> str | None:
    """Return the evidence that no report beat the reference, or None where one did, or where none can tell.

    A metric whose standard error is unknown clears no bound; it is at chance only where it is better at no report.
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
    return _told(curve, reference, looks=len(reports))


def _reference_level(curve: Curve) -> ReferenceLevel:
    """Return chance; or the untrained network, where that is beyond chance already, as SimCLR's is, by color."""
    chance = ReferenceLevel("chance", curve.chance, 0.0)
    if math.isnan(curve.untrained) or not _beats(curve, 0, 1, chance):
        return chance
    return ReferenceLevel("untrained", curve.untrained, float(curve.errors[0]))


def _beats(curve: Curve, report: int, look: int, reference: ReferenceLevel) -> bool:
    value, error = float(curve.values[report]), math.hypot(float(curve.errors[report]), reference.error)
    if reference.name == "chance":
        return clears_chance(value, reference.level, curve.n, mode=curve.mode, standard_error=error, look=look)
    # An untrained network's value was measured too, so that no binomial bound fits the difference.
    sign = -curve.sign
    return clears_chance(sign * value, sign * reference.level, curve.n, mode="min", standard_error=error, look=look)


def _losses_fell(head: Head, trial: Trial) -> bool:
    """Whether the losses show a learning that an accuracy beyond chance from the start does not.

    Training's must have fallen since its first report, and validation's below the untrained one. The latter alone
    proves nothing: it falls while BatchNorm's running statistics settle, too.
    """
    training, validation = trial.curves.get("train/loss"), head.loss
    if training is None or validation is None or not len(training.trained):
        return False
    return _fell(training.trained) and _fell(validation.finite)


def _fell(loss: Curve) -> bool:
    """Whether a loss ends below its first report by more than their standard errors explain, or falls steadily.

    The latter is Kendall's test for a trend (Mann 1945), which five reports can pass. A curve's own scatter is no
    measure of either: the first steps bend it, and few reports leave it next to no degrees of freedom.
    """
    if _beats(loss, -1, len(loss), ReferenceLevel("untrained", float(loss.values[0]), float(loss.errors[0]))):
        return True
    return kendalltau(loss.steps, loss.values, alternative="less").pvalue <= ALPHA  # NaN, of one report, is no trend


def _told(curve: Curve, reference: ReferenceLevel, looks: int) -> str:
    seen = curve.trained
    best = float(seen.values[np.argmax(seen.sign * seen.values)])
    words = f"{curve.metric} {seen.last:.4g} after {seen.steps[-1]:,} steps, {best:.4g} at best"
    error = math.hypot(float(seen.errors[-1]), reference.error)
    if reference.name == "chance":
        bound = chance_bound(reference.level, curve.n, mode=curve.mode, standard_error=error, look=looks)
    else:
        sign = -curve.sign
        bound = sign * chance_bound(sign * reference.level, curve.n, mode="min", standard_error=error, look=looks)
    clear = f"{bound:.4g} would have cleared it at report {looks}" if math.isfinite(bound) else "nothing could clear it"
    predictions = f" with {curve.n:,} predictions" if curve.n else ""
    return f"{words}, {reference.name} {reference.level:.4g}: {clear}{predictions} (time-uniform bound at 1 %)"
