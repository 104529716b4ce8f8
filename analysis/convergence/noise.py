"""Noise of one curve: the scatter of its points around its trend."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from analysis.convergence.curves import Curve

# Error rate of each one-sided test on a curve: at most one of 100 flat curves appears to rise or to drop. It is
# independent of the rate in `trainables.chance`, which all reports of a trial share.
FALSE_ALARM_RATE = 0.01
# Expected scatter before any is observed, in standard errors and as a share of the gain, and the weight of this prior
# in degrees of freedom. Measured on 30 real trials of the four tasks: 0.1 to 1 standard errors, half of them below 0.5;
# and 0.2 to 5% of the gain.
PRIOR_OF_SE, PRIOR_OF_GAIN, PRIOR_WEIGHT = 0.7, 0.02, 3.0
# Degrees of freedom per second difference: their mean square has the variance 35/9 sigma^4 / n, not 2 sigma^4 / n.
DOF_PER_DIFFERENCE = 0.51
BURN_IN = 3  # the first 1/BURN_IN of the reports is left out: curves bend most there


class Noise(NamedTuple):
    """Scatter of a curve's points around its trend.

    Attributes:
        sd: Standard deviation of one point.
        dof: Degrees of freedom of that estimate; infinite if the normal distribution applies.
    """

    sd: float
    dof: float

    def quantile(self, alpha: float = FALSE_ALARM_RATE) -> float:
        """Return the 1 - alpha quantile of a change in units of its standard deviation."""
        return float(stdtrit(self.dof, 1 - alpha))


def estimate_noise(curve: Curve) -> Noise | None:
    """Estimate the scatter of the reports around a smooth curve.

    The observed and the expected scatter are pooled as variances, weighted by degrees of freedom (Smyth 2004), so the
    expected one dominates with few reports and the observed one with many. The observed scatter is the mean square of
    the second differences, in which a smooth trend cancels (Gasser, Sroka and Jennen-Steinmetz 1986). The expected
    scatter is the sum of two parts: a share of the metric's standard error, since all reports of a trial use the same
    images with the same random draws; and the fluctuation of the network itself, a share of its gain.

    Args:
        curve: Reports with finite values only.

    Returns:
        The estimate; None if neither scatter is known.
    """
    observed, dof = _second_differences(curve.where(slice(len(curve) // BURN_IN, None)))
    validation = _validation_variance(curve)
    if validation is not None:
        expected = validation + (PRIOR_OF_GAIN * (curve.last - curve.start)) ** 2
        variance = (dof * observed + PRIOR_WEIGHT * expected) / (dof + PRIOR_WEIGHT)
        return Noise(math.sqrt(variance), math.inf)
    return Noise(math.sqrt(observed), dof) if dof else None


def _validation_variance(curve: Curve) -> float | None:
    """Return the variance of one report due to the choice of validation images; None if it is unknown.

    Paired changes have the variance of two reports. Without them, the share PRIOR_OF_SE of the standard error is
    assumed to differ between reports.
    """
    paired = curve.recent_errors[np.isfinite(curve.recent_errors)]
    if len(paired):
        return float(np.mean(paired[-3:] ** 2)) / 2
    known = curve.errors[np.isfinite(curve.errors)]
    return PRIOR_OF_SE**2 * float(np.mean(known[-3:] ** 2)) if len(known) else None


def _second_differences(curve: Curve) -> tuple[float, float]:
    """Return the variance of the points around the line through their neighbors, and its degrees of freedom."""
    if len(curve) < 3:
        return 0.0, 0.0
    before, at, after = curve.steps[:-2], curve.steps[1:-1], curve.steps[2:]
    share = (after - at) / (after - before)
    residuals = share * curve.values[:-2] + (1 - share) * curve.values[2:] - curve.values[1:-1]
    variance = float(np.mean(residuals**2 / (share**2 + (1 - share) ** 2 + 1)))
    return variance, DOF_PER_DIFFERENCE * len(residuals)
