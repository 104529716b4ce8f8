"""Changes of one curve: its drop from the best and its slope at the end, and whether they exceed the noise."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from analysis.convergence.curves import Curve
from analysis.convergence.noise import ALPHA, estimate_noise

MATERIAL_SHARE = 0.05  # share of the gain: a smaller change gets no verdict, however certain it is


class Change(NamedTuple):
    """A change, and the smallest change that exceeds the noise.

    Attributes:
        amount: Size in the tested direction: improvement for a slope, deterioration for a drop.
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


class Slope(NamedTuple):
    """The trend at the end of a curve.

    Attributes:
        gain: Improvement since `first_step`.
        first_step: First step of the part that the slope is fitted to.
        promise: Improvement that a further third of the learning time would bring at this slope.
    """

    gain: Change
    first_step: int
    promise: float


def material_drop(curve: Curve, share: float = MATERIAL_SHARE) -> Drop | None:
    """Return the drop from the best if it exceeds both the noise and `share` of the gain."""
    drop = drop_from_best(curve.trained)
    if drop is None or not drop.change.clears:
        return None
    gained = curve.sign * (drop.best - curve.start)
    return drop if drop.change.amount > share * gained else None


def material_slope(curve: Curve) -> Slope | None:
    """Return the slope at the end if it exceeds the noise and promises more than MATERIAL_SHARE of the gain so far.

    For a trial with a single report after step 0, the slope is its whole gain since the start; the trial is assumed to
    continue at that rate.
    """
    seen = curve.progress
    slope = end_slope(seen)
    if slope is None or not slope.gain.clears:
        return None
    return slope if slope.promise > MATERIAL_SHARE * curve.sign * (seen.last - curve.start) else None


def exceeds_noise(curve: Curve, amount: float, window: int) -> bool:
    """Return whether a difference of two means of `window` reports exceeds the noise; true if that is unknown."""
    noise = estimate_noise(curve)
    return amount > (noise.quantile() * noise.sd * math.sqrt(2 / window) if noise else 0.0)


def drop_from_best(curve: Curve) -> Drop | None:
    """Compare the last level of a curve with its best.

    Levels are means of w adjacent reports, with w a fifth of all reports. The best of many noisy levels is too good by
    selection, so the last level is tested against each of the c earlier ones at ALPHA / c (Bonferroni): of the curves
    that do not drop, at most a share ALPHA appears to.

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
    needed = noise.quantile(ALPHA / earlier) * noise.sd * math.sqrt(2 / window)
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


def end_slope(curve: Curve) -> Slope | None:
    """Return the slope over the last third of the learning time.

    If that has fewer than three reports, the last half is used. The slope of m points that scatter by sigma has the
    standard deviation sigma / sqrt(sum (t - mean t)^2). This is exact for least squares and for two or three points,
    and correct within 5 % for the median of slopes (Sen 1968).

    Args:
        curve: Reports with finite values only.

    Returns:
        The slope; None if there are fewer than two reports or the noise is unknown.
    """
    noise, tail = estimate_noise(curve), _tail(curve)
    if noise is None or len(tail) < 2 or not np.ptp(tail.times) > 0:
        return None
    slope, span = end_trend(curve), float(np.ptp(tail.times))
    deviation = noise.sd / float(np.linalg.norm(tail.times - tail.times.mean()))
    gain = Change(slope * span, noise.quantile() * deviation * span)
    return Slope(gain, int(tail.steps[0]), slope * float(curve.times[-1]) / 3)


def end_trend(curve: Curve) -> float:
    """Return the slope of `end_slope` whatever the noise; 0 for one report."""
    tail = _tail(curve)
    return curve.sign * theil_sen(tail.times, tail.values) if np.ptp(tail.times) > 0 else 0.0


def theil_sen(x: np.ndarray, y: np.ndarray) -> float:
    """Return the median of the slopes between all pairs of points, weighted by their distance in x (Sievers 1978).

    Without weights, as in SciPy, pairs that an annealed learning rate has moved close together would outvote the rest.
    """
    first, second = np.triu_indices(len(x), 1)
    distances = x[second] - x[first]
    apart = distances > 0
    slopes = (y[second] - y[first])[apart] / distances[apart]
    order = np.argsort(slopes)
    weights = np.cumsum(distances[apart][order])
    return float(slopes[order][np.searchsorted(weights, weights[-1] / 2)])


def _tail(curve: Curve) -> Curve:
    for share in (2 / 3, 1 / 2):
        first = int(np.searchsorted(curve.times, share * curve.times[-1]))
        if len(curve) - first >= 3:
            break
    return curve.where(slice(max(0, min(first, len(curve) - 2)), None))
