"""Normalized scores of runs, and their aggregates over tasks: interquartile mean and probability of improvement."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from analysis.comparisons.cells import check_one_run_per_seed
from analysis.comparisons.selection import finished_values, fixed_budget
from analysis.data.tables import LAST, chance_column, is_share
from analysis.stats.aggregates import (
    MIN_INTERVAL_SEEDS,
    improvement_interval,
    improvement_probability,
    interquartile_mean,
    interquartile_mean_interval,
)
from trainables.errors import UserError
from trainables.trial import RANDOM_INIT

Reference = Literal["random_init", "chance"]


def normalized_scores(runs: pd.DataFrame, metric: str, reference: Reference = "random_init") -> pd.DataFrame:
    """Return each trial's score on a scale from the reference to perfect: task, cell, seed, score, failed.

    score = (value - reference) / (1 - reference): 0 is as good as the reference, 1 is perfect, negative is worse than
    the reference. A trial that failed or has no finite value scores 0, because its user is left with the reference, and
    has failed True.

    Args:
        runs: Runs of a study; those of `fixed_budget` count.
        metric: A column of `runs` whose best value is 1: an accuracy or mIoU.
        reference: `random_init`, the mean over untrained encoders under the same probe, or `chance`, the chance level
            of the metric in the task, for `last/METRIC` columns, which untrained encoders do not have.

    Raises:
        UserError: If the metric is not an accuracy or mIoU or has no reference, runs mix probe splits, or a task, cell
            and seed occurs twice.
    """
    if metric not in runs or not is_share(metric):
        raise UserError(f"{metric!r} is not a column of these runs with an accuracy or mIoU, whose best value is 1")
    kept = fixed_budget(runs)
    check_one_run_per_seed(kept, ["task", "cell"])
    level = _chance(kept, metric) if reference == "chance" else _untrained(runs, kept, metric)
    value = finished_values(kept, metric)
    failed = np.isnan(value)
    score = np.where(failed, 0.0, (value - level) / (1 - level))
    return kept[["task", "cell", "seed"]].assign(score=score, failed=failed).reset_index(drop=True)


def interquartile_means(scores: pd.DataFrame) -> pd.DataFrame:
    """Return each cell's `interquartile_mean` with its 95% interval.

    Args:
        scores: Frame that `normalized_scores` returns.

    Returns:
        Columns cell, tasks, n_seeds, n_failed, iqm, ci_low, ci_high, note. `tasks` are the names joined by ", ";
        compare only cells with the same tasks. A seed that one task lacks is left out of all tasks. Below
        MIN_INTERVAL_SEEDS seeds, there is a note instead of an interval. The interval treats the tasks and the
        reference as fixed.
    """
    rows = []
    for cell, group in scores.groupby("cell", sort=False):
        wide = group.pivot(index="seed", columns="task", values="score").dropna()
        values = wide.to_numpy(np.float64)
        iqm = interquartile_mean(values) if len(values) else np.nan
        n_failed = int(group.loc[group["seed"].isin(wide.index), "failed"].sum())
        interval = interquartile_mean_interval(values)
        rows.append((cell, ", ".join(wide.columns), len(values), n_failed, iqm, *interval, _note(len(values))))
    names = ["cell", "tasks", "n_seeds", "n_failed", "iqm", "ci_low", "ci_high", "note"]
    return pd.DataFrame(rows, columns=names)


def improvement_probabilities(scores: pd.DataFrame, baseline: str = "base") -> pd.DataFrame:
    """Return the `improvement_probability` of each cell over the baseline with its 95% interval.

    It is averaged over the tasks that have both. Only runs of different seeds are compared; `effects` compares runs of
    one seed, which share images and initialization.

    Args:
        scores: Frame that `normalized_scores` returns.
        baseline: Cell that the others are compared with.

    Returns:
        Columns cell, baseline, tasks, n_seeds, probability, ci_low, ci_high, note. Below MIN_INTERVAL_SEEDS seeds,
        there is a note instead of an interval.

    Raises:
        UserError: If no task has both the baseline and another cell.
    """
    reference = scores.loc[scores["cell"] == baseline]
    others = scores.loc[(scores["cell"] != baseline) & scores["task"].isin(reference["task"])]
    if others.empty:
        cells = ", ".join(scores["cell"].unique())
        raise UserError(f"no task has the baseline {baseline!r} and another cell; the cells are: {cells}")
    rows = []
    for cell, group in others.groupby("cell", sort=False):
        pairs = group.merge(reference, on=["task", "seed"], suffixes=("", "_baseline"))
        wide = pairs.pivot(index="seed", columns="task", values=["score", "score_baseline"]).dropna()
        tasks = list(wide.columns.get_level_values("task").unique())
        values = np.stack([wide[name][tasks].to_numpy(np.float64) for name in ("score", "score_baseline")], axis=-1)
        probability = improvement_probability(values) if len(values) > 1 else np.nan
        interval = improvement_interval(values)
        rows.append((cell, baseline, ", ".join(tasks), len(values), probability, *interval, _note(len(values))))
    names = ["cell", "baseline", "tasks", "n_seeds", "probability", "ci_low", "ci_high", "note"]
    return pd.DataFrame(rows, columns=names)


def _chance(kept: pd.DataFrame, metric: str) -> np.ndarray:
    columns = [chance_column(metric.removeprefix(LAST)), f"{metric.rsplit('/', 1)[0]}/chance"]
    column = next((name for name in columns if name in kept and not metric.endswith("_macro_f1")), None)
    level = np.full(len(kept), np.nan) if column is None else kept[column].to_numpy(np.float64, na_value=np.nan)
    unknown = kept[metric].notna().to_numpy() & np.isnan(level)
    if column is None or unknown.any():
        raise UserError(f"the chance level of {metric!r} is not known in these runs; use reference='random_init'")
    return level


def _untrained(runs: pd.DataFrame, kept: pd.DataFrame, metric: str) -> np.ndarray:
    untrained = runs.loc[(runs["task"] == RANDOM_INIT) & runs[metric].notna()]
    if untrained.empty:
        raise UserError(f"these runs have no {RANDOM_INIT} trial with {metric!r}; add them, or use reference='chance'")
    splits = set(untrained["probe_split"]) | set(kept.loc[kept[metric].notna(), "probe_split"])
    if len(splits) > 1:
        raise UserError(f"these runs mix probe splits ({', '.join(sorted(splits))}); pass runs of one")
    return np.full(len(kept), untrained[metric].to_numpy(np.float64).mean())


def _note(n_seeds: int) -> str:
    return (
        "" if n_seeds >= MIN_INTERVAL_SEEDS else f"descriptive: {n_seeds} seeds, an interval needs {MIN_INTERVAL_SEEDS}"
    )
