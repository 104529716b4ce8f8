"""Ranking of trials by a metric, with the rule for ties that a study's own choices use."""

from __future__ import annotations

import math

import pandas as pd

from analysis.data.tables import LAST, mode_of
from analysis.records import FINISHED, STOPPED
from trainables.objective import rank_key


def rank_trials(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the trials of one task that have a finite value of a metric, the best first.

    Trials that were stopped early rank after all finished ones, and others do not count, as when a study chooses its
    candidates. Ties are broken by `trainables.objective.rank_key`.

    Args:
        runs: Runs with their `last_values`.
        column: The metric's column.
    """
    if column not in runs:
        return runs.iloc[:0]
    mode = mode_of(runs, column)
    keys = {}
    for index, run in runs.iterrows():
        value, own = _number(run[column]), _number(run.get(f"{LAST}{run['primary_metric']}"))
        if run["status"] in (FINISHED, STOPPED) and math.isfinite(value):
            key = rank_key(value, mode, str(run["trial_id"]), own=own, own_mode=str(run["primary_mode"]))
            keys[index] = (run["status"] == STOPPED, *key)
    return runs.loc[sorted(keys, key=keys.__getitem__)]


def _number(value: object) -> float:
    return math.nan if value is None or pd.isna(value) else float(value)  # type: ignore[arg-type]
