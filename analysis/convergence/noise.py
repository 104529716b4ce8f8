"""How noisy is a curve, and does a change clear that noise? Statistics of one curve."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from analysis.convergence.curves import Curve

ALPHA = 0.01  # of each one-sided test
# What is expected of the scatter before it is seen, and how much that weighs, in degrees of freedom. Measured on 30
# real trials of the four tasks: 0.1 to 1 standard errors, half of them below 0.5; and 0.2 to 5 % of what was gained.
PRIOR_OF_SE, PRIOR_OF_GAIN, PRIOR_WEIGHT = 0.7, 0.02, 3.0
DOF_PER_DIFFERENCE = 0.51  # of the second differences' mean square: its variance is 35/9 sigma^4 / n, not 2
SETTLED = 3  # the first 1/SETTLED of the reports, where curves bend most, tell nothing of the noise


class Noise(NamedTuple):
    """Scatter of a curve's points around its trend: standard deviation, and degrees of freedom of that estimate."""

    sd: float
    dof: float

    def quantile(self, alpha: float = ALPHA) -> float:
        """Return the 1 - alpha quantile of a change over its standard deviation."""
        return float(stdtrit(self.dof, 1 - alpha))


class Change(NamedTuple):
    """A change for the better (negative: for the worse), and the least that would clear the noise."""

    amount: float
    needed: float

    @property
    def clears(self) -> bool:
        """Whether the change is more than noise."""
        return self.amount > self.needed


class Fall(NamedTuple):
    """How far a curve lies below its best: two levels, each the mean of `window` reports, and where the best was."""

    best: float
    last: float
    best_step: int
    window: int
    change: Change  # for the worse is positive here


def noise(curve: Curve) -> Noise | None:
    """Return the scatter of the reports around a smooth curve; None where nothing is known of it.

    What was seen and what is expected are pooled as variances, by their degrees of freedom (Smyth 2004). Seen is the
    mean square of the second differences, which a smooth trend drops out of (Gasser, Sroka and Jennen-Steinmetz 1986).
    Expected is a share of the metric's standard error, as every report of a trial looks at the same images with the
    same draws, and the network's own restlessness, a share of what it has learned. With few reports the expected
    decides, with many what was seen.
    curve: finite values only.
    """
    seen, dof = _second_differences(curve.where(slice(len(curve) // SETTLED, None)))
    known = curve.errors[np.isfinite(curve.errors)]
    if len(known):
        expected = PRIOR_OF_SE**2 * float(np.mean(known[-3:] ** 2)) + (PRIOR_OF_GAIN * (curve.last - curve.start)) ** 2
        variance = (dof * seen + PRIOR_WEIGHT * expected) / (dof + PRIOR_WEIGHT)
        return Noise(math.sqrt(variance), math.inf)
    return Noise(math.sqrt(seen), dof) if dof else None


def lost(curve: Curve, amount: float, window: int) -> bool:
    """Whether a loss of `amount` between two means of `window` reports is more than noise."""
    scatter = noise(curve)
    return amount > (scatter.quantile() * scatter.sd * math.sqrt(2 / window) if scatter else 0.0)


class Slope(NamedTuple):
    """The end of a curve: its gain, the step from which on, and what that much learning time again would gain.

    promise: gain of a further third of the learning time at this slope.
    """

    gain: Change
    first_step: int
    promise: float


def end_slope(curve: Curve) -> Slope | None:
    """Return the slope of the last third of the learning time; None where two reports or the noise are lacking.

    Where fewer than three reports lie in the last third, the last half counts; a slope needs two reports. Of m points
    that scatter by sigma, a slope has a standard deviation of sigma / sqrt(sum (t - mean t)^2): that of least squares,
    which the median of slopes reaches within 5 % (Sen 1968), and exactly for two or three points.
    curve: finite values only.
    """
    scatter, tail = noise(curve), _tail(curve)
    if scatter is None or len(tail) < 2 or not np.ptp(tail.times) > 0:
        return None
    slope, span = end_trend(curve), float(np.ptp(tail.times))
    deviation = scatter.sd / float(np.linalg.norm(tail.times - tail.times.mean()))
    gain = Change(slope * span, scatter.quantile() * deviation * span)
    return Slope(gain, int(tail.steps[0]), slope * float(curve.times[-1]) / 3)


def end_trend(curve: Curve) -> float:
    """Return the gain per unit of learning time over the reports of `end_slope`, noise or not; 0 for one report."""
    tail = _tail(curve)
    return curve.sign * theil_sen(tail.times, tail.values) if np.ptp(tail.times) > 0 else 0.0


def theil_sen(x: np.ndarray, y: np.ndarray) -> float:
    """Return the median of the slopes between all pairs of points, weighted by their distance in x (Sievers 1978).

    Unweighted, as in SciPy, pairs that an annealed learning rate has brought next to each other would outvote others.
    """
    first, second = np.triu_indices(len(x), 1)
    distances = x[second] - x[first]
    apart = distances > 0
    slopes = (y[second] - y[first])[apart] / distances[apart]
    order = np.argsort(slopes)
    weights = np.cumsum(distances[apart][order])
    return float(slopes[order][np.searchsorted(weights, weights[-1] / 2)])


def fall(curve: Curve) -> Fall | None:
    """Return how far the curve lies below its best; None where there are too few reports or the noise is unknown.

    Best and last are means of w neighboring reports, w a fifth of all. The best of many noisy levels is too good by
    selection: the last level is held against each of the c earlier ones at ALPHA / c (Bonferroni), so a curve that
    does not fall seems to in at most ALPHA of all cases.
    curve: finite reports after step 0; an untrained network's value is no best.
    """
    scatter = noise(curve)
    window = max(1, len(curve) // 5)
    earlier = len(curve) - 2 * window + 1  # windows that do not overlap with the last
    if scatter is None or earlier < 1:
        return None
    levels = np.convolve(curve.sign * curve.values, np.full(window, 1 / window), mode="valid")
    best = int(np.argmax(levels[:earlier]))
    needed = scatter.quantile(ALPHA / earlier) * scatter.sd * math.sqrt(2 / window)
    best_step = int(curve.steps[best + window // 2])
    amount = float(levels[best] - levels[-1])
    return Fall(
        curve.sign * float(levels[best]), curve.sign * float(levels[-1]), best_step, window, Change(amount, needed)
    )


def level(curve: Curve, step: int, window: int) -> float:
    """Return the mean of the `window` reports around `step`."""
    first = int(np.searchsorted(curve.steps, step)) - window // 2
    first = min(max(first, 0), max(len(curve) - window, 0))
    return float(curve.values[first : first + window].mean())


def _tail(curve: Curve) -> Curve:
    for share in (2 / 3, 1 / 2):
        first = int(np.searchsorted(curve.times, share * curve.times[-1]))
        if len(curve) - first >= 3:
            break
    return curve.where(slice(max(0, min(first, len(curve) - 2)), None))


def _second_differences(curve: Curve) -> tuple[float, float]:
    """Return the variance of the points around the line through their neighbors, and its degrees of freedom."""
    if len(curve) < 3:
        return 0.0, 0.0
    before, at, after = curve.steps[:-2], curve.steps[1:-1], curve.steps[2:]
    share = (after - at) / (after - before)
    residuals = share * curve.values[:-2] + (1 - share) * curve.values[2:] - curve.values[1:-1]
    variance = float(np.mean(residuals**2 / (share**2 + (1 - share) ** 2 + 1)))
    return variance, DOF_PER_DIFFERENCE * len(residuals)
