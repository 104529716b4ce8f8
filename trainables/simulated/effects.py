"""Functional forms of effects: how probe accuracy depends on the value of one setting."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Effect(ABC):
    """The effect of one setting on the accuracy of the linear probe, for a data set of scale 1."""

    @abstractmethod
    def __call__(self, value: Any) -> float:
        """Return the effect of a value."""


@dataclass(frozen=True)
class LogQuadratic(Effect):
    """-curvature * log10(value / optimum)^2, at least -limit; a value of 0 costs the limit."""

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
    """-curvature * (value - optimum)^2."""

    optimum: float
    curvature: float

    def __call__(self, value: float) -> float:
        """Return the effect: 0 at the optimum, negative elsewhere."""
        return -self.curvature * (value - self.optimum) ** 2


@dataclass(frozen=True)
class Peak(Effect):
    """height * max(-1, 2 r - r^2) with r = value / optimum: 0 at a value of 0, `height` at the optimum."""

    height: float
    optimum: float

    def __call__(self, value: float) -> float:
        """Return the effect; with a negative height, the optimum is the worst value."""
        r = value / self.optimum
        return self.height * max(-1.0, 2 * r - r * r)


@dataclass(frozen=True)
class EffectByValue(Effect):
    """A separate effect for each value."""

    effects: Mapping[Any, float]

    def __call__(self, value: Any) -> float:
        """Return the effect of a value. Raises KeyError if it is not listed."""
        return self.effects[value]
