"""Domains: the values that a hyperparameter may take, and their form in YAML."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.errors import ConfigError

Space = dict[str, "Domain"]


@dataclass(frozen=True)
class Domain(ABC):
    """Values of one hyperparameter.

    Attributes:
        source: Reason for these values, for example a paper.
    """

    source: str = ""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Any:
        """Return one random value."""

    @abstractmethod
    def __contains__(self, value: object) -> bool:
        """Return whether a value belongs to the domain."""

    @abstractmethod
    def grid(self, points: int) -> list[Any]:
        """Return `points` values that span a continuous domain, or all values of a discrete one."""


@dataclass(frozen=True)
class Uniform(Domain):
    """Floats in [low, high]."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ConfigError(f"[{self.low}, {self.high}]: both must be finite, the first must be below the second")

    def draw(self, rng: np.random.Generator) -> float:
        """Return a uniform float."""
        return float(rng.uniform(self.low, self.high))

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def grid(self, points: int) -> list[float]:
        """Return evenly spaced values."""
        return [float(value) for value in np.linspace(self.low, self.high, points)]


@dataclass(frozen=True)
class LogUniform(Domain):
    """Positive floats in [low, high], uniform in the logarithm."""

    low: float = 1e-4
    high: float = 1e-1

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise ConfigError(f"[{self.low}, {self.high}]: both must be finite and above 0, the first below the second")

    def draw(self, rng: np.random.Generator) -> float:
        """Return a log-uniform float."""
        return self._inside(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def grid(self, points: int) -> list[float]:
        """Return values that differ by a constant factor, rounded to four digits."""
        exponents = np.linspace(math.log10(self.low), math.log10(self.high), points)
        return [self._inside(float(f"{10**exponent:.4g}")) for exponent in exponents]

    def _inside(self, value: float) -> float:
        """Return the value clipped to the bounds, which rounding may have exceeded."""
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Choice(Domain):
    """One of a list of values."""

    values: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError("needs at least one value")

    def draw(self, rng: np.random.Generator) -> Any:
        """Return one of the values, all with the same probability."""
        return self.values[rng.integers(len(self.values))]

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def grid(self, points: int) -> list[Any]:
        """Return all values; `points` is ignored."""
        return list(self.values)


def parse_domain(name: str, value: Any) -> Domain:
    """Return the domain that a value in YAML describes.

    Args:
        name: Name of the hyperparameter, for error messages.
        value: `{uniform: [a, b]}`, `{loguniform: [a, b]}`, `{choice: [...]}`, `[...]` for a choice, or a single plain
            value.

    Raises:
        ConfigError: The value is anything else.
    """
    if isinstance(value, list | tuple):
        value = {"choice": value}
    elif not isinstance(value, Mapping):
        value = {"choice": [value]}
    if len(value) != 1 or next(iter(value)) not in ("uniform", "loguniform", "choice"):
        raise ConfigError(
            f"search.space.{name} = {dict(value)!r}: must be {{uniform: [low, high]}}, {{loguniform: [low, high]}} "
            "or {choice: [...]}"
        )
    kind, values = next(iter(value.items()))
    needed = "a list of values" if kind == "choice" else "two numbers [low, high]"
    invalid = ConfigError(f"search.space.{name}: {kind} needs {needed}, not {values!r}")
    if not isinstance(values, list | tuple):
        raise invalid
    try:
        if kind == "choice":
            return Choice(values=tuple(values))
        low, high = (float(bound) for bound in values)
        return (Uniform if kind == "uniform" else LogUniform)(low=low, high=high)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid from error
    except ConfigError as error:
        raise ConfigError(f"search.space.{name}: {kind} {error}") from error
