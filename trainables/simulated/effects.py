"""Forms of effects: how a probe's accuracy answers to one value, in shares of right answers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Effect(ABC):
    """What a value adds to the accuracy of the linear probe on a data set of scale 1."""

    @abstractmethod
    def __call__(self, value: Any) -> float:
        """Return the effect of the value."""


@dataclass(frozen=True)
class LogQuadratic(Effect):
    """- curvature * log10(value / optimum)^2, not below -limit; a value of 0 costs the limit."""

    optimum: float
    curvature: float
    limit: float = 0.06

    def __call__(self, value: float) -> float:
        """Return the effect: 0 at the optimum, negative elsewhere."""
        if value <= 0:
            return -self.limit
        return -min(self.limit, self.curvature * math.log10(value / self.optimum) ** 2)


@dataclass(frozen=True)
class Quadratic(Effect):
    """- curvature * (value - optimum)^2."""

    optimum: float
    curvature: float

    def __call__(self, value: float) -> float:
        """Return the effect: 0 at the optimum, negative elsewhere."""
        return -self.curvature * (value - self.optimum) ** 2


@dataclass(frozen=True)
class Peak(Effect):
    """height * (2 r - r^2), r = value / optimum, the bracket not below -1: nothing at 0, `height` at the optimum."""

    height: float
    optimum: float

    def __call__(self, value: float) -> float:
        """Return the effect; that of an op of negative height is worst at its `optimum`."""
        r = value / self.optimum
        return self.height * max(-1.0, 2 * r - r * r)


@dataclass(frozen=True)
class Levels(Effect):
    """An effect of its own for each value."""

    of: Mapping[Any, float]

    def __call__(self, value: Any) -> float:
        """Return the value's effect. Raises KeyError for a value without one."""
        return self.of[value]
