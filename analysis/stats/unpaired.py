"""Difference of two means that share neither seeds nor images.

The critical value is the average of both means' own, weighted by their variances (Cochran and Cox 1957, section 4.14),
as in `analysis.stats.crossed`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from analysis.stats.crossed import CrossedMean
from analysis.stats.significance import ALPHA


@dataclass(frozen=True)
class UnpairedMean:
    """Difference of two independent means, each with its error over new seeds and new images.

    Attributes:
        cell: Mean of the results of one encoder, as `crossed_mean` estimates it from values in place of differences.
        baseline: Mean of the results of the other one.
    """

    cell: CrossedMean
    baseline: CrossedMean

    @property
    def mean(self) -> float:
        """Difference of the means, cell minus baseline."""
        return float(self.cell.mean - self.baseline.mean)

    @property
    def error(self) -> float:
        """Standard error of the difference; NaN if either mean has no variance."""
        return float(np.hypot(self.cell.error, self.baseline.error))

    @property
    def df(self) -> float:
        """Degrees of freedom at which t has the weighted critical value of a 95% interval."""
        variances = np.array([self.cell.error, self.baseline.error]) ** 2
        critical = stats.t.isf(ALPHA / 2, [float(self.cell.df), float(self.baseline.df)])
        return float(special.stdtridf(1 - ALPHA / 2, (variances * critical).sum() / variances.sum()))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the interval (low, high) of the difference."""
        half = float(stats.t.ppf((1 + confidence) / 2, self.df) * self.error)
        return self.mean - half, self.mean + half

    def p_value(self) -> float:
        """Return the p-value of the hypothesis of no difference."""
        return float(2 * stats.t.sf(abs(self.mean) / self.error, self.df))
