"""A trial as the rules of convergence see it: its settings, its curves, and the heads that are judged apart."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

Mode = Literal["max", "min"]


@dataclass(frozen=True)
class Curve:
    """One metric of one trial.

    steps: int64 [k], rising; values: float64 [k], maybe not finite.
    times: float64 [k], how far learning had come at each report, in learning rate spent: see `reading.cumulative_lr`.
    errors: float64 [k], standard error of each value as a mean over the validation set; NaN where unknown.
    chance: level of a network that has learned nothing; NaN where unknown.
    n: predictions behind each value; 0 where unknown.
    """

    metric: str
    mode: Mode
    steps: np.ndarray
    times: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    chance: float = math.nan
    n: int = 0

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return 1 if self.mode == "max" else -1

    @property
    def last(self) -> float:
        """The value of the last report."""
        return float(self.values[-1])

    @property
    def untrained(self) -> float:
        """The value at step 0; NaN where that was not reported."""
        return float(self.values[0]) if len(self) and self.steps[0] == 0 else math.nan

    @property
    def start(self) -> float:
        """The value that learning began from: the untrained one, else chance, else the first reported."""
        known = (self.untrained, self.chance, float(self.values[0]))
        return next(value for value in known if not math.isnan(value))

    @property
    def finite(self) -> Curve:
        """The reports of finite values; there may be none."""
        return self.where(np.isfinite(self.values))

    @property
    def trained(self) -> Curve:
        """The reports of finite values after step 0; there may be none."""
        return self.where((self.steps > 0) & np.isfinite(self.values))

    def where(self, chosen: np.ndarray | slice) -> Curve:
        """Return the reports of a mask or slice."""
        return dataclasses.replace(
            self,
            steps=self.steps[chosen],
            times=self.times[chosen],
            values=self.values[chosen],
            errors=self.errors[chosen],
        )

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Head:
    """One thing that a task predicts: the metric it is judged by, and its validation loss where that is another."""

    main: Curve
    loss: Curve | None = None


@dataclass(frozen=True)
class Trial:
    """One trial: its row of `runs`, its curves by name, and its heads."""

    row: Mapping[str, Any]
    curves: Mapping[str, Curve]
    heads: tuple[Head, ...]

    @property
    def steps(self) -> int:
        """Optimizer steps done, as far as was reported."""
        return max((int(curve.steps[-1]) for curve in self.curves.values()), default=0)

    def losses(self) -> list[Curve]:
        """Return every training and validation loss, training first."""
        return [c for name, c in sorted(self.curves.items()) if re.match(r"(train|val)/loss", name)]

    def training(self, main: Curve) -> Curve | None:
        """Return the training curve beside a validation metric: its counterpart, else the training loss."""
        counterpart = main.metric.replace("val/", "train/", 1)
        found = self.curves.get(counterpart) or self.curves.get("train/loss")
        return found.trained if found is not None and len(found.trained) else None


def number(value: Any) -> float:
    """Return a number of a frame as a float; NaN where it is missing or no number."""
    return float(value) if isinstance(value, int | float | np.number) and not pd.isna(value) else math.nan
