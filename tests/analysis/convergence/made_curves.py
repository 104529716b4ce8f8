"""Curves made by hand, as the frames of one trial, and the verdict on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.convergence import verdicts
from analysis.records import FINISHED

Curves = Mapping[str, Sequence[float]]


def frames(values: Curves, every: int = 25, **row: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the frames of one trial `t` that reported `values` at steps 0, every, 2 every ...; NaN is a gap.

    A value of infinity is reported as NaN.
    """
    points = [
        ("t", i * every, name, math.nan if math.isinf(value) else value)
        for name, curve in values.items()
        for i, value in enumerate(curve)
        if not math.isnan(value)
    ]
    known = {
        "trial_id": "t",
        "task": "rotation",
        "status": FINISHED,
        "primary_metric": "val/accuracy",
        "primary_mode": "max",
        "chance": 0.25,
        "n_validation": 1000,
        "chance/val/accuracy": 0.25,
    }
    return pd.DataFrame([{**known, **row}]), pd.DataFrame(points, columns=["trial_id", "step", "metric", "value"])


def classified(values: Curves, every: int = 25, **row: Any) -> Any:
    """Return the only row of the verdicts on one trial."""
    (found,) = verdicts(*frames(values, every, **row)).itertuples()
    return found


FLAT = [0.25, 0.5, 0.6, 0.62, 0.618, 0.622, 0.62, 0.619, 0.621]


LOSS = [1.39, 1.1, 0.9, 0.85, 0.83, 0.82, 0.82, 0.815, 0.815]


RISING = [0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65]


def flat(**others: Sequence[float]) -> dict[str, Sequence[float]]:
    """Return a curve that is flat from the fourth report on, with the errors of paired changes."""
    paired = {
        "val/accuracy_se": [0.015] * 9,
        "val/accuracy_gain_se": [0.015] * 9,
        "val/accuracy_recent_se": [0.004] * 9,
    }
    return {"val/accuracy": FLAT, **paired, **{name.replace("__", "/"): curve for name, curve in others.items()}}
