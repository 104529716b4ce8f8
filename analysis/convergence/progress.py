"""Progress of one curve: what it gained, and which share of that in the last half of its steps.

The share is the forecast of what twice the steps would add. On real trials that were each trained again with twice the
steps (`tests/benchmarks/trial_library.py`) the median of what these added equals it; the end of a curve alone says
little, because every schedule that anneals flattens it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from analysis.convergence.changes import MATERIAL_SHARE
from analysis.convergence.curves import Curve
from analysis.convergence.noise import estimate_noise
from trainables.recent import quarters
from trainables.trial import ONLINE_PROBES

# One-sided confidences. A probe is looked at after the task's own metrics did not improve, so it has to show more.
IMPROVED, SETTLED, GAINED, PROBE_IMPROVED = 0.95, 0.95, 0.975, 0.99


class Difference(NamedTuple):
    """A change between two reports of one curve, positive for an improvement.

    Attributes:
        amount: Size of the change.
        error: Its standard error; NaN if unknown.
        since: Step of the earlier report, or of the last one of an earlier quarter.
        n_images: Number of images behind the error; 0 if unknown.
        n_seeds: Number of trials behind it, by which `cells` has scaled the error of a mean over seeds.
    """

    amount: float
    error: float
    since: int
    n_images: int
    n_seeds: int = 1

    def lower(self, level: float) -> float:
        """Return the one-sided lower bound; -inf if the error is unknown."""
        return self.amount - self._reach(level)

    def upper(self, level: float) -> float:
        """Return the one-sided upper bound; inf if the error is unknown."""
        return self.amount + self._reach(level)

    def __str__(self) -> str:
        """Return the change with its interval: `+0.042 [0.013, 0.071] (90% interval)`."""
        if math.isnan(self.error):
            return f"{self.amount:+.3g} (its error is unknown)"
        return f"{self.amount:+.3g} [{self.lower(IMPROVED):.2g}, {self.upper(IMPROVED):.2g}] (90% interval)"

    def _reach(self, level: float) -> float:
        if math.isnan(self.error):
            return math.inf
        dof = self.n_images - 1 if self.n_images > 1 else math.inf
        wider = seeds_scale(self.n_seeds, level) / seeds_scale(self.n_seeds, SETTLED)
        return float(stdtrit(dof, level)) * self.error * wider


class Share(NamedTuple):
    """What the last half of the steps brought, as a share of the whole gain; the forecast for twice the steps.

    Attributes:
        estimate: The share.
        lower: Its one-sided lower bound.
        upper: Its one-sided upper bound.
    """

    estimate: float
    lower: float
    upper: float


def seeds_scale(n_seeds: int, level: float) -> float:
    """Return the factor from the normal distribution's quantile to Student's t with S - 1 degrees of freedom."""
    return float(stdtrit(n_seeds - 1, level) / ndtri(level)) if n_seeds > 1 else 1.0


def gain(curve: Curve) -> Difference | None:
    """Return the change from the untrained network, or from chance if that is better, to the last report.

    An untrained network that is certain of its guesses is worse than chance; it has learned nothing by getting there.
    """
    seen = curve.finite
    if not len(seen.trained):
        return None
    amount = curve.sign * (seen.last - seen.reference)
    if seen.reference != seen.untrained:
        return Difference(amount, float(seen.errors[-1]), 0, curve.n_images, curve.n_seeds)
    return Difference(amount, _error(seen, [0], [-1], seen.gain_errors), 0, curve.n_images, curve.n_seeds)


def recent_gain(curve: Curve) -> Difference | None:
    """Return the change from the second to the last quarter of the steps; None for fewer than two reports."""
    seen = curve.finite
    if len(seen) < 2:
        return None
    second, last = quarters(seen.steps.tolist())
    amount = curve.sign * float(seen.values[last].mean() - seen.values[second].mean())
    error = _error(seen, second, last, seen.recent_errors)
    return Difference(amount, error, int(seen.steps[second[-1]]), curve.n_images, curve.n_seeds)


def recent_share(curve: Curve) -> Share | None:
    """Return the share of the gain that came from the second to the last quarter of the steps; None without a gain."""
    whole, recent = gain(curve), recent_gain(curve)
    if whole is None or recent is None or not whole.amount > 0:
        return None
    return Share(*(amount / whole.amount for amount in (recent.amount, recent.lower(IMPROVED), recent.upper(SETTLED))))


def improving(curve: Curve) -> bool:
    """Return whether a curve gained anything, also in the second half of its steps, by more than 5%."""
    whole, recent = gain(curve), recent_gain(curve)
    if whole is None or recent is None or not whole.lower(GAINED) > 0:
        return False
    level = PROBE_IMPROVED if curve.metric in ONLINE_PROBES else IMPROVED
    return recent.lower(level) > 0 and recent.amount > MATERIAL_SHARE * whole.amount


def _error(seen: Curve, earlier: list[int], later: list[int], paired: np.ndarray) -> float:
    """Return the error of a change between the means of two groups of reports.

    The larger of two errors counts: the choice of images, and the network's own fluctuation. If the error of paired
    differences was not reported, the two means are taken as independent.
    """
    known = float(paired[-1])
    images = known if math.isfinite(known) else math.hypot(float(seen.errors[-1]), float(seen.errors[earlier[-1]]))
    noise = estimate_noise(seen.trained)
    return images if noise is None else max(images, noise.sd * math.sqrt(1 / len(earlier) + 1 / len(later)))
