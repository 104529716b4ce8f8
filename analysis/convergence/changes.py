"""The drop of one curve from its best, and whether it exceeds the noise."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from analysis.convergence.curves import Curve
from analysis.convergence.noise import FALSE_ALARM_RATE, estimate_noise

MATERIAL_SHARE = 0.05  # share of the gain: a smaller change gets no verdict, however certain it is


class Change(NamedTuple):
    """A change, and the smallest change that exceeds the noise.

    Attributes:
        amount: Deterioration.
        needed: Amount above which noise does not explain the change.
    """

    amount: float
    needed: float

    @property
    def clears(self) -> bool:
        """Whether the change is more than noise."""
        return self.amount > self.needed


class Drop(NamedTuple):
    """How much worse the end of a curve is than its best.

    Attributes:
        best: Best level, a mean of `window` reports.
        last: Last level, a mean of `window` reports.
        best_step: Step in the middle of the best window.
        window: Reports per level.
        change: Difference of the two levels; positive if the curve got worse.
    """

    best: float
    last: float
    best_step: int
    window: int
    change: Change


def material_drop(curve: Curve, share: float = MATERIAL_SHARE) -> Drop | None:
    """Return the drop from the best if it exceeds both the noise and `share` of the gain."""
    drop = drop_from_best(curve.trained)
    if drop is None or not drop.change.clears:
        return None
    gained = curve.sign * (drop.best - curve.start)
    return drop if drop.change.amount > share * gained else None


def exceeds_noise(curve: Curve, amount: float, window: int) -> bool:
    """Return whether a difference of two means of `window` reports exceeds the noise; true if that is unknown."""
    noise = estimate_noise(curve)
    return amount > (noise.quantile() * noise.sd * math.sqrt(2 / window) if noise else 0.0)


def drop_from_best(curve: Curve) -> Drop | None:
    """Compare the last level of a curve with its best.

    Levels are means of w adjacent reports, with w a fifth of all reports. The best of many noisy levels is too good by
    selection, so the last level is tested against each of the c earlier ones at FALSE_ALARM_RATE / c (Bonferroni):
    of the curves that do not drop, at most a share FALSE_ALARM_RATE appears to.

    Args:
        curve: Reports after step 0 with finite values; the untrained network's value does not count as a best.

    Returns:
        The drop; None if there are too few reports or the noise is unknown.
    """
    noise = estimate_noise(curve)
    window = max(1, len(curve) // 5)
    earlier = len(curve) - 2 * window + 1  # windows that do not overlap the last
    if noise is None or earlier < 1:
        return None
    levels = np.convolve(curve.sign * curve.values, np.full(window, 1 / window), mode="valid")
    best = int(np.argmax(levels[:earlier]))
    needed = noise.quantile(FALSE_ALARM_RATE / earlier) * noise.sd * math.sqrt(2 / window)
    return Drop(
        best=curve.sign * float(levels[best]),
        last=curve.sign * float(levels[-1]),
        best_step=int(curve.steps[best + window // 2]),
        window=window,
        change=Change(float(levels[best] - levels[-1]), needed),
    )


def mean_around(curve: Curve, step: int, window: int) -> float:
    """Return the mean of the `window` reports around `step`."""
    first = int(np.searchsorted(curve.steps, step)) - window // 2
    first = min(max(first, 0), max(len(curve) - window, 0))
    return float(curve.values[first : first + window].mean())
