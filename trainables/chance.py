"""What a network has learned beyond guessing: whether it is shown, and whether it is excluded.

The two are different claims. That something was learned is shown by a time-uniform bound, valid however often one
looks. That nothing was learned is never shown by the absence of such evidence; it takes an upper bound below a margin.
"""

from __future__ import annotations

import math
from typing import NamedTuple

TIME_UNIFORM_ALPHA = 0.01  # error probability of one curve, over all its reports together
# Less than this share of the way from the reference level to a perfect score counts as nothing learned.
MARGIN = 0.03
UPPER_QUANTILE = 1.6449  # the normal distribution's 95% quantile


class Learned(NamedTuple):
    """What one metric shows at one report.

    Attributes:
        share: Share of the way from the reference level to a perfect score; negative if it got worse.
        error: Standard error of `share`; NaN if unknown.
        reference: `chance`, or `untrained` if the untrained network beats chance.
        level: Reference level of the metric.
    """

    share: float
    error: float
    reference: str
    level: float

    def upper(self, n: int = 0) -> float:
        """Return the one-sided 95% upper bound of the share; infinite if the error is unknown.

        Args:
            n: Number of images behind the error, for the quantile of Student's t (Abramowitz and Stegun 26.7.5); 0 for
                the normal distribution.
        """
        if not math.isfinite(self.error):
            return math.inf
        z = UPPER_QUANTILE
        return self.share + (z + (z**3 + z) / (4 * max(1, n - 1)) if n else z) * self.error

    def shown(self, look: int = 1) -> bool:
        """Return whether learning is shown: more than MARGIN, and more than none by a time-uniform bound.

        Each look spends 6 / (pi look)^2 of TIME_UNIFORM_ALPHA on a one-sided Gaussian bound, so a network that guesses
        ever shows learning with at most that probability over all looks together, whatever their dependence. Nothing
        is shown by a share whose error is unknown.

        Args:
            look: Number of reports examined so far, including this one.
        """
        if not math.isfinite(self.error):
            return False
        return self.share > max(MARGIN, math.sqrt(2 * _nats(look)) * self.error)

    def excluded(self, n: int = 0) -> bool:
        """Return whether learning is excluded: at most MARGIN of the way to a perfect score, at 95% confidence."""
        return self.upper(n) < MARGIN


class Level(NamedTuple):
    """A metric's value with its standard error, NaN where unknown."""

    value: float
    error: float = math.nan


def learned(
    metric: Level,
    chance: float,
    *,
    mode: str,
    untrained: Level | None = None,
    change_error: float = math.nan,
) -> Learned:
    """Compare a metric with the level of a network that has learned nothing.

    That level is chance, or the untrained network's if it beats chance: color alone lets SimCLR tell views apart.

    Args:
        metric: The metric now.
        chance: Its level at chance; NaN if unknown.
        mode: `max` or `min`.
        untrained: The metric at step 0.
        change_error: Standard error of the change since step 0, from paired images; without it, the two errors are
            combined as if they were independent, which is an upper estimate.
    """
    sign = 1 if mode == "max" else -1
    reference, level, error = "chance", chance, metric.error
    start = untrained or Level(math.nan)
    if math.isfinite(start.value) and (math.isnan(chance) or sign * (start.value - chance) > 0):
        reference, level = "untrained", start.value
        error = change_error if math.isfinite(change_error) else math.hypot(metric.error, start.error)
    # A perfect accuracy is 1 and a perfect loss 0; a metric on another scale is compared with its own reference.
    distance = 1 - level if mode == "max" and level < 1 else abs(level)
    if not distance > 0:
        return Learned(math.nan, math.nan, reference, level)
    return Learned(sign * (metric.value - level) / distance, error / distance, reference, level)


def _nats(look: int) -> float:
    """Return -ln of the error probability that one look spends."""
    return -math.log(TIME_UNIFORM_ALPHA * 6 / (math.pi * look) ** 2)
