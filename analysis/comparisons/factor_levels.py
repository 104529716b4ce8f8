"""Levels of the factors of a factorial or screening design."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd

from trainables.errors import UserError

POLICY, OPTION = "augmentation/", "option/"
UNKNOWN_DEFAULT = "default"  # level of a plug-in's option, if the plug-in is not here


def factor_levels(factor: pd.Series, task: str) -> pd.Series:
    """Return a factor as ordered categories: numbers by size, words alphabetically.

    Args:
        factor: Column of the runs. A missing value means that an op is off, that an option has its default, or, for
            `n_images`, all images. If the default is unknown, it is the first level, `default`.
        task: Task of the runs.

    Raises:
        UserError: If a value is missing and the factor has no default.
    """
    name, is_text = str(factor.name), factor.dtype == "str"
    values = factor.astype(object)
    if factor.isna().any():
        absent = _absent(name, task)
        values = values.where(factor.notna(), json.dumps(absent) if is_text and type(absent) is not str else absent)
    levels = sorted(values.unique(), key=lambda value: (value != UNKNOWN_DEFAULT, value))
    order = {value: _text(value) for value in levels}
    return pd.Series(pd.Categorical(values.map(order), list(order.values()), ordered=True), factor.index)


def _absent(factor: str, task: str) -> Any:
    """Return the value of a factor for a trial that has none in its column."""
    if factor.startswith(POLICY):
        return 0.0
    if factor == "n_images":
        return math.inf
    if factor.startswith(OPTION):
        from trainables.tasks import TASKS, build_options  # torch takes seconds to import

        if task not in TASKS:
            return UNKNOWN_DEFAULT
        if hasattr(options := build_options(TASKS[task], {}), factor.removeprefix(OPTION)):
            return getattr(options, factor.removeprefix(OPTION))
    raise UserError(f"{task}: a run without a value of {factor}, which has no default; leave it out of the factors")


def _text(level: Any) -> str:
    if level == math.inf:
        return "all"
    return str(level).removesuffix(".0")
