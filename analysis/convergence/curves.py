"""Trials in the form that the rules use: settings, curves, and heads, which are classified separately."""

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

    Attributes:
        metric: Name, for example `val/accuracy`.
        mode: Whether larger ("max") or smaller ("min") values are better.
        steps: Optimizer steps at each report, int64 [k], increasing.
        times: Learning time at each report, float64 [k]: the sum of learning rates so far, see
            `reading.cumulative_lr`.
        values: Reported values, float64 [k]; they need not be finite.
        errors: Standard error of each value as a mean over the validation images, float64 [k]; NaN where unknown.
        gain_errors: Standard error of each value's change since step 0, from paired images; NaN where unknown.
        recent_errors: The same for the change from the second to the last quarter of the steps so far.
        chance: Level of a network that has learned nothing; NaN if unknown.
        n: Number of predictions behind each value; 0 if unknown.
        n_images: Number of images that the predictions are made of; 0 if unknown.
        n_seeds: Number of trials that the values are means of.
    """

    metric: str
    mode: Mode
    steps: np.ndarray
    times: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    gain_errors: np.ndarray
    recent_errors: np.ndarray
    chance: float = math.nan
    n: int = 0
    n_images: int = 0
    n_seeds: int = 1

    @property
    def sign(self) -> int:
        """1 if larger values are better, -1 if smaller ones are."""
        return 1 if self.mode == "max" else -1

    @property
    def last(self) -> float:
        """The value of the last report."""
        return float(self.values[-1])

    @property
    def untrained(self) -> float:
        """The value at step 0; NaN if it was not reported."""
        return float(self.values[0]) if len(self) and self.steps[0] == 0 else math.nan

    @property
    def start(self) -> float:
        """The value that learning began from: the untrained one, else chance, else the first finite one, else NaN."""
        known = (self.untrained, self.chance, *self.values.tolist())
        return next((value for value in known if math.isfinite(value)), math.nan)

    @property
    def reference(self) -> float:
        """The level above which a value counts as learned: the better of chance and the untrained one, else `start`."""
        known = [value for value in (self.untrained, self.chance) if math.isfinite(value)]
        return self.sign * max(self.sign * value for value in known) if known else self.start

    @property
    def finite(self) -> Curve:
        """The reports of finite values; possibly none."""
        return self.where(np.isfinite(self.values))

    @property
    def trained(self) -> Curve:
        """The reports of finite values after step 0; possibly none."""
        return self.where((self.steps > 0) & np.isfinite(self.values))

    @property
    def progress(self) -> Curve:
        """The reports that show a slope: the trained ones, and also the untrained one if only one is trained."""
        trained = self.trained
        return self.finite if len(trained) == 1 else trained

    def where(self, chosen: np.ndarray | slice) -> Curve:
        """Return the reports that a mask or slice selects."""
        return dataclasses.replace(
            self,
            steps=self.steps[chosen],
            times=self.times[chosen],
            values=self.values[chosen],
            errors=self.errors[chosen],
            gain_errors=self.gain_errors[chosen],
            recent_errors=self.recent_errors[chosen],
        )

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Head:
    """One thing that a task predicts.

    Attributes:
        main: Validation metric that decides about the head.
        loss: Validation loss, if `main` is another metric.
    """

    main: Curve
    loss: Curve | None = None

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The main metric, then the loss."""
        return (self.main,) if self.loss is None else (self.main, self.loss)


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        row: The trial's row of `runs`.
        curves: Curves by metric.
        heads: What the task predicts.
    """

    row: Mapping[str, Any]
    curves: Mapping[str, Curve]
    heads: tuple[Head, ...]

    @property
    def steps(self) -> int:
        """Optimizer steps at the last report."""
        return max((int(curve.steps[-1]) for curve in self.curves.values()), default=0)

    def losses(self) -> list[Curve]:
        """Return all training and validation losses, training first."""
        return [curve for name, curve in sorted(self.curves.items()) if re.match(r"(train|val)/loss", name)]

    def training(self, validation: Curve) -> Curve | None:
        """Return the training counterpart of a validation metric, else the training loss; None without reports."""
        counterpart = validation.metric.replace("val/", "train/", 1)
        found = self.curves.get(counterpart) or self.curves.get("train/loss")
        return found.trained if found is not None and len(found.trained) else None


def number(value: Any) -> float:
    """Return a value of a frame as a float; NaN if it is missing or not a number."""
    return float(value) if isinstance(value, int | float | np.number) and not pd.isna(value) else math.nan
