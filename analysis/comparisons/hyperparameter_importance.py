"""Hyperparameter importance in a search by Optuna's evaluators, with its range over resampled trials."""

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

from analysis.comparisons.selection import finished_values
from analysis.data.baselines import are_baselines
from analysis.records.phases import SEARCH
from analysis.stats.significance import ALPHA
from trainables.errors import UserError
from trainables.trial import NON_TRAINING_FIELDS, TrialConfig

Evaluator = Literal["fanova", "mean_decrease_impurity", "ped_anova"]

MIN_TRIALS = 15
LOG_SCALED = ("lr", "weight_decay", "batch_size", "n_images", "budget_steps", "width", "option/temperature")

_TREES, _BOOTSTRAP_TREES = 64, 16  # Optuna's default, and a quarter of the time per resample
_TARGET_QUANTILE = 0.25  # share of best trials in PED-ANOVA; Optuna's default, 0.1, is 3 of 30 trials
_MAX_RESAMPLED = 1000  # trials per resample: Optuna needs a millisecond to add each
_LEVEL = 1 - ALPHA
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
    """Estimate the importance of each searched hyperparameter for `metric`, per task, the most important first.

    The range (low, high) shows how much the importance depends on single trials. It is not a confidence interval: with
    few trials, importances shrink toward one another, and with 15 to 60 trials the range contained the importance that
    fANOVA finds in 1,500 trials in fewer than a tenth of cases.

    Args:
        runs: Runs of a study; those of the phase `search` count. The searched hyperparameters are the columns that vary
            among the finished trials of a task.
        metric: A numeric column of `runs`.
        mode: Whether more (`max`) or less (`min`) of the metric is better; used by `ped_anova` only.
        evaluator: `fanova` is the share of variance that each hyperparameter explains by itself over the observed
            values (Hutter et al. 2014); like `mean_decrease_impurity`, it uses a random forest of scikit-learn.
            `ped_anova` is how well each hyperparameter distinguishes the best quarter of the trials (Watanabe 2023,
            2304.10255). In simulated searches in which one of three hyperparameters dominates, fANOVA ranked it first
            in 70, 93 and 100% of cases with 8, 15 and 30 trials, PED-ANOVA in 88 and 98% with 15 and 30. fANOVA takes
            about 3 s per task of 30 trials at the default n_bootstrap, the others a quarter of that or less.
        seed: Seed of the forests and resamples.
        n_bootstrap: Number of resamples of the trials.
        log_scaled: Columns that are converted to log10 if all their values are positive: fANOVA weighs values by their
            range, so on a linear scale the lowest decades of a learning rate would not count.

    Returns:
        Columns task, hyperparameter, importance, low, high, first, n_trials, n_left_out, note. importance is a share in
        [0, 1]; the shares of a task sum to 1, even if nothing matters. low and high bound the middle 95% over the
        resamples, of at most 1,000 trials each. first is the share of resamples in which this hyperparameter ranked
        first: it shows how far to trust a ranking. All three are NaN if n_bootstrap is 0; for `fanova`, a resample
        whose values are all equal does not count. n_left_out counts the search trials of the task that were stopped,
        failed or have no finite value: after stops by a scheduler, the remaining trials are a selection, and the
        importance applies to trials that were good enough to finish. note says why there is no number: there are fewer
        than MIN_TRIALS trials, nothing varies, the metric is constant, or some trials lack a setting.

    Raises:
        UserError: If `runs` have no search or no such metric.
    """
    _check(runs, metric, mode, evaluator)
    searched = runs.loc[(runs["phase"] == SEARCH) & ~are_baselines(runs["task"])]
    if searched.empty:
        raise UserError(f"no trial of the phase {SEARCH!r} in these runs; importance needs the trials of a search")
    usable = np.isfinite(finished_values(searched, metric))
    tables = []
    for task, all_trials in searched.groupby("task", sort=False):
        trials = searched.loc[usable & (searched["task"] == task).to_numpy(bool)]
        table = _of_task(trials, metric, mode, evaluator, np.random.default_rng(seed), n_bootstrap, log_scaled)
        counts = {"task": task, "n_trials": len(trials), "n_left_out": len(all_trials) - len(trials)}
        tables.append(table.assign(**counts)[_COLUMNS])
    return pd.concat(tables, ignore_index=True)


def searched_columns(trials: pd.DataFrame) -> list[str]:
    """Return the configuration columns that take more than one value in these trials of one task.

    Fields of TrialConfig come first, in their order.
    """
    names = [name for name in TrialConfig.__dataclass_fields__ if name not in NON_TRAINING_FIELDS]
    names += [name for name in trials if name.startswith(("option/", "augmentation/"))]
    return [name for name in names if name in trials and trials[name].nunique(dropna=False) > 1]


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
    if note := why_no_importance(trials, metric):
        nothing = dict.fromkeys(("importance", "low", "high", "first"), np.nan)
        return pd.DataFrame({"hyperparameter": names or [""], **nothing, "note": note})
    columns = {name: _as_searched(trials[name], name in log_scaled) for name in names}
    values = trials[metric].to_numpy(np.float64)
    seed = int(rng.integers(2**31))  # the same forests for every task
    with _quiet_optuna():
        found = _evaluate(columns, values, mode, _evaluator(evaluator, seed, _TREES))
        found_again = []
        for rows in rng.integers(0, len(trials), (n_bootstrap, min(len(trials), _MAX_RESAMPLED))):
            resampled = {name: (column[rows], kind) for name, (column, kind) in columns.items()}
            forest = _evaluator(evaluator, seed, _BOOTSTRAP_TREES)
            try:
                found_again.append(_evaluate(resampled, values[rows], mode, forest))
            except RuntimeError as error:
                if "zero total variance" not in str(error):  # raised by fANOVA where no tree has two different values
                    raise
    draws = np.array(found_again).reshape(-1, len(names))
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0) if len(draws) else (np.nan, np.nan)
    first = np.bincount(draws.argmax(axis=1), minlength=len(names)) / len(draws) if len(draws) else np.nan
    table = pd.DataFrame({"hyperparameter": names, "importance": found, "low": low, "high": high, "first": first})
    return table.assign(note="").sort_values("importance", ascending=False, kind="stable")


def why_no_importance(trials: pd.DataFrame, metric: str) -> str:
    """Return why the importance of hyperparameters cannot be estimated; empty if it can.

    Args:
        trials: Finished search trials of one task, with finite values.
        metric: Column of the metric.
    """
    names = searched_columns(trials)
    if len(trials) < MIN_TRIALS:
        return f"too few trials: {len(trials)} finished, at least {MIN_TRIALS} are needed"
    if not names:
        return "nothing varies among these trials"
    if trials[metric].nunique() == 1:
        return f"{metric} is the same in all trials"
    gaps = {name: int(trials[name].isna().sum()) for name in names if trials[name].isna().any()}
    return ", ".join(f"{name} is missing in {n} of {len(trials)} trials" for name, n in gaps.items())


def _as_searched(column: pd.Series, log_scaled: bool) -> tuple[np.ndarray, BaseDistribution]:
    """Return a column's values on the scale given to Optuna, and their distribution over the observed range."""
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
    """Return the importance of each column, in the order of `columns`."""
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
    """Silence Optuna's message per in-memory study, and restore its logging afterwards."""
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
        raise UserError(f"mode = {mode!r}: must be 'max' or 'min'")
    if evaluator not in ("fanova", "mean_decrease_impurity", "ped_anova"):
        raise UserError(f"evaluator = {evaluator!r}: there are fanova, mean_decrease_impurity and ped_anova")
