"""Which hyperparameters mattered in a search? Optuna's evaluators, and how much their answer hangs on single trials."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    MeanDecreaseImpurityImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)

from analysis.stats.rates import finished_values
from trainables.errors import UserError
from trainables.trial import BASELINES, NON_TRAINING_FIELDS, TrialConfig

Evaluator = Literal["fanova", "mean_decrease_impurity", "ped_anova"]

MIN_TRIALS = 15
LOG_SCALED = ("lr", "weight_decay", "batch_size", "n_images", "budget_steps", "width", "option/temperature")

_SEARCH = "search"
_TREES, _BOOTSTRAP_TREES = 64, 16  # Optuna's own number, and a quarter of the time for each resample
_TARGET_QUANTILE = 0.25  # of PED-ANOVA; at Optuna's 0.1 three trials of thirty would speak for all
_MOST_RESAMPLED = 1000  # trials of one resample: Optuna takes a millisecond to take in each
_LEVEL = 0.95
_COLUMNS = ["task", "hyperparameter", "importance", "low", "high", "first", "n_trials", "n_left_out", "note"]


def importance(
    runs: pd.DataFrame,
    metric: str,
    mode: Literal["max", "min"] = "max",
    *,
    evaluator: Evaluator = "fanova",
    seed: int = 0,
    n_bootstrap: int = 50,
    log_scaled: Collection[str] = LOG_SCALED,
) -> pd.DataFrame:
    """Return how much each searched hyperparameter explains of `metric`, by task, the most important first.

    runs: those of the phase `search` are taken; what was searched is what varies among the finished trials of a task.
    metric: a numeric column of `runs`. mode: which end of it `ped_anova` asks about; the others explain all of it.
    evaluator: `fanova`, the share of variance that each explains by itself over the values seen (Hutter 2014), and
        `mean_decrease_impurity`, both of a random forest of scikit-learn; `ped_anova`, what sets the best quarter of
        the trials apart (Watanabe 2023, 2304.10255). In simulated searches where one of three settings rules, it came
        out first in 70, 93 and 100 % with 8, 15 and 30 trials by fANOVA, in 88 and 98 % with 15 and 30 by PED-ANOVA.
        fANOVA takes some 3 s a task of 30 trials at the default n_bootstrap, the others a quarter of that and less.
    log_scaled: columns taken as log10 where all their values are above 0: fANOVA weighs values by their range, and in
        plain units the lowest decades of a learning rate would count for nothing.

    Returns task, hyperparameter, importance, low, high, first, n_trials, n_left_out, note.
    importance: share in [0, 1]; those of a task sum to 1, also where nothing matters at all.
    low, high: middle 95 % over `n_bootstrap` resamples of the trials; first: share of the resamples in which this one
        came out first, which is the figure to trust a ranking by. The range shows how much hangs on single trials and
        is no confidence interval: few trials shrink importances toward one another, and it held what fANOVA finds
        in 1,500 trials in under a tenth of cases with 15 to 60 of them. Of more than 1,000 trials a resample takes
        1,000, and the range is that of so many. NaN where n_bootstrap is 0.
    n_left_out: search trials of the task that were stopped, failed or have no finite value. What is left after stops by
        a scheduler is a selection: the importance is that among trials good enough to be finished.
    note: why there is no number: fewer than MIN_TRIALS trials, nothing that varies, or a metric that does not.

    Raises UserError where `runs` hold no search or no such metric, and where a searched column has gaps.
    """
    _check(runs, metric, mode, evaluator)
    searched = runs.loc[(runs["phase"] == _SEARCH) & ~runs["task"].isin(BASELINES)]
    if searched.empty:
        raise UserError(f"no trial of the phase {_SEARCH!r} in these runs; importance is about what a search varied")
    usable = np.isfinite(finished_values(searched, metric))
    tables = []
    for task, all_trials in searched.groupby("task", sort=False):
        trials = searched.loc[usable & (searched["task"] == task).to_numpy(bool)]
        table = _of_task(trials, metric, mode, evaluator, np.random.default_rng(seed), n_bootstrap, log_scaled)
        counts = {"task": task, "n_trials": len(trials), "n_left_out": len(all_trials) - len(trials)}
        tables.append(table.assign(**counts)[_COLUMNS])
    return pd.concat(tables, ignore_index=True)


def searched_columns(trials: pd.DataFrame) -> list[str]:
    """Return the columns of a trial's configuration that take more than one value in these trials of one task."""
    fields = [name for name in TrialConfig.__dataclass_fields__ if name not in NON_TRAINING_FIELDS]
    names = [name for name in trials if name in fields or name.startswith(("option/", "augmentation/"))]
    return [name for name in names if trials[name].nunique(dropna=False) > 1]


def _of_task(
    trials: pd.DataFrame,
    metric: str,
    mode: str,
    evaluator: str,
    rng: np.random.Generator,
    n_bootstrap: int,
    log_scaled: Collection[str],
) -> pd.DataFrame:
    names = searched_columns(trials)
    if note := _no_answer(trials, metric, names):
        nothing = dict.fromkeys(("importance", "low", "high", "first"), np.nan)
        return pd.DataFrame({"hyperparameter": names or [""], **nothing, "note": note})
    columns = {name: _as_searched(trials[name], name in log_scaled) for name in names}
    values = trials[metric].to_numpy(np.float64)
    seed = int(rng.integers(2**31))  # of the forests: they differ from task to task by their trials alone
    with _quiet_optuna():
        found = _evaluate(columns, values, mode, _evaluator(evaluator, seed, _TREES))
        draws = np.array(
            [
                _evaluate(
                    {name: (column[rows], kind) for name, (column, kind) in columns.items()},
                    values[rows],
                    mode,
                    _evaluator(evaluator, seed, _BOOTSTRAP_TREES),
                )
                for rows in rng.integers(0, len(trials), (n_bootstrap, min(len(trials), _MOST_RESAMPLED)))
            ]
        ).reshape(n_bootstrap, len(names))
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0) if n_bootstrap else (np.nan, np.nan)
    first = np.bincount(draws.argmax(axis=1), minlength=len(names)) / n_bootstrap if n_bootstrap else np.nan
    table = pd.DataFrame({"hyperparameter": names, "importance": found, "low": low, "high": high, "first": first})
    return table.assign(note="").sort_values("importance", ascending=False, kind="stable")


def _no_answer(trials: pd.DataFrame, metric: str, names: list[str]) -> str:
    if len(trials) < MIN_TRIALS:
        return f"too few trials: {len(trials)} finished, at least {MIN_TRIALS} are needed"
    if not names:
        return "nothing varies among these trials"
    if trials[metric].nunique() == 1:
        return f"{metric} is the same in all trials"
    for name in names:
        if trials[name].isna().any():
            raise UserError(
                f"{name} is missing in {trials[name].isna().sum()} of {len(trials)} search trials; "
                f"fill in what it was there: runs[{name!r}].fillna(...)"
            )
    return ""


def _as_searched(column: pd.Series, log_scaled: bool) -> tuple[np.ndarray, BaseDistribution]:
    """Return a column's values as Optuna is to see them, and their distribution over the range seen."""
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(object)
        return values, CategoricalDistribution(sorted(set(values)))
    numbers = column.to_numpy(np.float64)
    if log_scaled and (numbers > 0).all():
        numbers = np.log10(numbers)
    return numbers, FloatDistribution(float(numbers.min()), float(numbers.max()))


def _evaluate(
    columns: dict[str, tuple[np.ndarray, BaseDistribution]],
    values: np.ndarray,
    mode: str,
    evaluator: BaseImportanceEvaluator,
) -> list[float]:
    """Return the importance of each column, in their order."""
    distributions = {name: kind for name, (_, kind) in columns.items()}
    study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={name: column[row] for name, (column, _) in columns.items()},
                distributions=distributions,
                value=float(value),
            )
            for row, value in enumerate(values)
        ]
    )
    found = get_param_importances(study, evaluator=evaluator)  # no params=: with it Optuna 5.0 mixes up MDI's names
    return [float(found[name]) for name in columns]


def _evaluator(name: str, seed: int, n_trees: int) -> BaseImportanceEvaluator:
    if name == "fanova":
        return FanovaImportanceEvaluator(n_trees=n_trees, seed=seed)
    if name == "mean_decrease_impurity":
        return MeanDecreaseImpurityImportanceEvaluator(n_trees=n_trees, seed=seed)
    return PedAnovaImportanceEvaluator(target_quantile=_TARGET_QUANTILE)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep Optuna from announcing each of the studies in memory, and leave its logging as it was."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _check(runs: pd.DataFrame, metric: str, mode: str, evaluator: str) -> None:
    if metric not in runs or not pd.api.types.is_numeric_dtype(runs[metric]):
        raise UserError(
            f"no numeric column {metric!r} in these runs; analysis.data.tables.last_values adds last/METRIC"
        )
    if mode not in ("max", "min"):
        raise UserError(f"mode = {mode!r}: better is either 'max' or 'min'")
    if evaluator not in ("fanova", "mean_decrease_impurity", "ped_anova"):
        raise UserError(f"evaluator = {evaluator!r}: there are fanova, mean_decrease_impurity and ped_anova")
