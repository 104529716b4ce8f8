"""Effects of several changes together: factorial designs, pairs of changes, and tasks beside changes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.comparisons.designs import Metric
from analysis.comparisons.interactions import (
    ANOVA_DTYPES,
    FACTORIAL_DTYPES,
    SYNERGY_DTYPES,
    factorial_effects,
    pair_synergy,
    task_interaction,
)
from analysis.comparisons.selection import outcomes
from analysis.data.study import Study
from analysis.records.phases import ABLATE

FACTORIAL_DESIGNS = ("factorial", "screening")


def factorials(study: Study, by_task: dict[str, pd.DataFrame], metrics: dict[str, Metric]) -> pd.DataFrame:
    """Return `factorial_effects` of every task's factorial and screening designs, with the column design."""
    factors = list(ablation_settings(study).get("factors") or {})
    parts = []
    for task, own in by_task.items():
        for design in FACTORIAL_DESIGNS:
            runs = own.loc[own["cell"].isin(cells_of(study, task, design))]
            varied = any(name in runs and runs[name].nunique(dropna=False) > 1 for name in factors)
            if varied and all(name in runs for name in factors):
                parts.append(
                    factorial_effects(runs, metrics[task].column, factors, study.per_image).assign(design=design)
                )
    return joined(parts, {"design": "str", **FACTORIAL_DTYPES})


def synergies(study: Study, by_task: dict[str, pd.DataFrame], metrics: dict[str, Metric]) -> pd.DataFrame:
    """Return `pair_synergy` of every task that has all cells of its pairs design."""
    parts = []
    for task, own in by_task.items():
        wanted = set(cells_of(study, task, "pairs"))
        if wanted and wanted <= set(own["cell"]):
            parts.append(pair_synergy(own, metrics[task].column, study.designs, study.per_image))
    return joined(parts, SYNERGY_DTYPES)


def across_tasks(ablated: pd.DataFrame, metrics: dict[str, Metric]) -> pd.DataFrame:
    """Return `task_interaction` of the cells that all tasks have, if there are enough seeds to fit it."""
    columns, tasks = {metric.column for metric in metrics.values()}, list(metrics)
    if len(columns) != 1 or len(tasks) < 2:
        return no_rows(ANOVA_DTYPES)
    column = columns.pop()
    runs = outcomes(ablated.loc[ablated["task"].isin(tasks)], column)
    n_tasks = runs.groupby("cell", sort=False)["task"].nunique()
    cells = list(n_tasks.index[n_tasks == len(tasks)])
    values = runs.loc[runs["cell"].isin(cells)].pivot(index="seed", columns=["task", "cell"], values="value")
    if len(cells) < 2 or len(values.dropna()) < 2:
        return no_rows(ANOVA_DTYPES)
    return task_interaction(ablated.loc[ablated["task"].isin(tasks)], column, cells)


def ablation_settings(study: Study) -> dict[str, Any]:
    """Return the settings under `ablate` of a study's configuration, empty where it has none."""
    return study.config.get(ABLATE) or {}


def cells_of(study: Study, task: str, design: str) -> list[str]:
    """Return the cells of one design of one task."""
    designs = study.designs
    return list(designs.loc[(designs["task"] == task) & (designs["design"] == design), "cell"])


def joined(parts: list[pd.DataFrame], dtypes: dict[str, str]) -> pd.DataFrame:
    """Return the frames as one with these columns and dtypes, without rows where `parts` is empty."""
    return pd.concat(parts, ignore_index=True)[list(dtypes)].astype(dtypes) if parts else no_rows(dtypes)


def no_rows(dtypes: dict[str, str]) -> pd.DataFrame:
    """Return a frame with these columns and dtypes and without rows."""
    return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in dtypes.items()})
