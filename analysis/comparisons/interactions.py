"""Main effects and interactions of factors, synergy of augmentation ops, and interaction of cells with tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.comparisons.cells import check_one_run_per_seed
from analysis.comparisons.factor_levels import POLICY, factor_levels
from analysis.comparisons.images import image_contributions
from analysis.comparisons.paired_effects import TOO_FEW
from analysis.comparisons.selection import outcomes
from analysis.data.baselines import are_baselines
from analysis.data.per_image import PerImage
from analysis.stats import factorial, paired
from analysis.stats.crossed import least_seeds, paired_test, seeds_mean
from analysis.stats.significance import ALPHA
from analysis.stats.split_plot import interaction_p
from trainables.errors import UserError

SYNERGY = np.array([1.0, -1.0, -1.0, 1.0])  # weights of the pair, each op alone, and neither

_STATISTICS = {
    **dict.fromkeys(("n_seeds", "n_failed"), "int64"),
    "n_evaluated": "Int64",
    **dict.fromkeys(("estimate", "ci_low", "ci_high", "p", "p_holm"), "float64"),
    "test": "str",
}
FACTORIAL_DTYPES = {**dict.fromkeys(("task", "term", "levels"), "str"), **_STATISTICS, "aliased_with": "str"}
SYNERGY_DTYPES = {
    **dict.fromkeys(("task", "first", "second"), "str"),
    "mean": "float64",
    **{"synergy" if name == "estimate" else name: dtype for name, dtype in _STATISTICS.items()},
}
MODEL = "value ~ C(task) * C(cell) + C(task):C(seed)"
DIFFERENT, NOT_SHOWN = "different", "not shown to differ"  # answers of `task_interaction`, besides TOO_FEW
TESTED_TERMS = ("task", "cell", "task:cell")
TERMS = (*TESTED_TERMS, "task:seed", "residual")
ANOVA_DTYPES = {"term": "str", **dict.fromkeys(("df", "sum_sq", "F", "p"), "float64"), "answer": "str"}


def factorial_effects(
    runs: pd.DataFrame, metric: str, factors: Sequence[str], per_image: PerImage | None = None
) -> pd.DataFrame:
    """Estimate main effects and two-factor interactions in a factorial or a screening design, one row per term.

    A main effect is the difference between the means at a level and at the lowest level, over all levels of the other
    factors; an interaction is the difference of a factor's effect between two levels of another.

    The seed is the block: each seed, which ran every cell, has its own least-squares estimates, and their mean over
    seeds is tested like any other paired difference, with Holm's correction over the terms of a task. Pooling the
    residuals of all seeds would leave more degrees of freedom, but it assumes that a factor's effect is the same for
    every seed. If the effect varies between seeds as much as the noise does, that test rejects 19% of the time instead
    of 5%.

    Args:
        runs: Trials of the cells of one design, of one task or several.
        metric: A numeric column of `runs`.
        factors: Columns of `runs` that the design varies: `lr`, `option/gap`, `augmentation/flip`. A missing value
            means that an op is off, that an option has its default, or, for `n_images`, all images. A factor that does
            not vary within a task is ignored there.
        per_image: Per-image results of the trials, for intervals over new seeds and new images (see `effects`).

    Returns:
        A frame with the columns FACTORIAL_DTYPES, in the metric's units. levels is `0 to 1` or, for an interaction, `0
        to 1, 0.001 to 0.01`. aliased_with names the terms that the design cannot distinguish from this one: the
        estimate is of their sum, with the factors shown. Of several aliased terms, the first has the estimate; the rows
        of the others have none. Only seeds with a value of every cell count; n_failed is the number of failed trials. A
        cell that failed at every seed is left out of the design, and the terms that it would have separated are
        aliased. A task has no rows if all of its trials failed, or if those that ended vary no factor. With fewer than
        5 seeds, there are estimates but no tests; one term alone needs 3 if all have per-image results. n_evaluated is
        the number of images of intervals over new images, missing for those over seeds alone.

    Raises:
        UserError: If a metric or factor is unknown, no task varies any factor, or two cells have the same factors.
    """
    ended = _named(_pretext(outcomes(runs, metric)))
    if unknown := [name for name in factors if name not in runs]:
        raise UserError(f"no column {unknown[0]!r} in these runs; factors are columns such as lr, option/NAME")
    if not any(len(_levels(own, factors).columns) for _, own in _pretext(runs).groupby("task")):
        raise UserError(f"no task of these runs has two levels of any of {', '.join(factors)}; nothing to estimate")
    rows: list[dict[str, Any]] = []
    for task, own in ended.groupby("task", sort=False):
        levels = _levels(own, factors)
        if varied := list(levels):  # empty while the other levels are still running
            design = own[["task", "seed", "value", "trial_id"]].join(levels)
            check_one_run_per_seed(design, ["task", *varied])
            rows += _factorial(str(task), design, varied, metric, per_image or PerImage())
    return pd.DataFrame(rows, columns=list(FACTORIAL_DTYPES)).astype(FACTORIAL_DTYPES)


def pair_synergy(
    runs: pd.DataFrame, metric: str, designs: pd.DataFrame, per_image: PerImage | None = None
) -> pd.DataFrame:
    """Return the synergy of two augmentation ops, beyond what each does alone, from the design `pairs`.

    synergy = pair - first alone - second alone + neither, in the metric's units, with its interval and test,
    Holm-adjusted over the pairs of a task.

    Args:
        runs: Runs of the ablation.
        metric: A numeric column of `runs`.
        designs: Designs of the study.
        per_image: Per-image results of the trials, for intervals over new seeds and new images (see `effects`).

    Returns:
        A frame with the columns SYNERGY_DTYPES: one row per pair of ops, and one with first == second per op alone,
        which has no synergy. mean is that cell's mean over the n_seeds seeds that have a value of all four cells (of
        the one cell for an op alone). n_failed counts the seeds at which any of the cells failed.

    Raises:
        UserError: If `designs` has no pairs among these runs, or a cell that a pair needs did not run.
    """
    cells = designs.loc[designs["design"] == "pairs", ["task", "cell"]].drop_duplicates()
    started = _named(runs).merge(cells, on=["task", "cell"])
    ended = outcomes(started, metric)
    if started.empty:
        raise UserError("no cell of a design `pairs` in these runs; to run it: --set 'ablate.designs=[pairs]'")
    check_one_run_per_seed(ended, ["task", "cell"])
    rows: list[dict[str, Any]] = []
    for task, own in started.groupby("task", sort=False):
        rows += _synergies(str(task), own, ended.loc[ended["task"] == task], metric, per_image or PerImage())
    return pd.DataFrame(rows, columns=list(SYNERGY_DTYPES)).astype(SYNERGY_DTYPES)


def task_interaction(runs: pd.DataFrame, metric: str, cells: Sequence[str] | None = None) -> pd.DataFrame:
    """Test whether cells have the same effect in every task: analysis of variance with seeds as blocks.

    The model is `value ~ C(task) * C(cell) + C(task):C(seed)`, by ordinary least squares. The effect of the cell and
    its interaction with the task are tested against the residual, the task against the seeds within it, which are a
    random sample. The seeds themselves are not tested.

    p does not use the df of the table: with them, the test rejects 10 to 20% of the time instead of 5% if noise
    differs between tasks or cells, as it does between a cell that learned and one at chance. With estimated degrees of
    freedom (`box_p`) it rejects at most 6% of the time, and 1 to 4% if all noise is equal.

    Args:
        runs: Runs of several tasks. Seeds that lack a value of any cell in any task are left out.
        metric: A numeric column of `runs`.
        cells: Cells to compare; by default those that every task has.

    Returns:
        A frame with the columns ANOVA_DTYPES, one row per term of TERMS. answer is DIFFERENT, NOT_SHOWN or TOO_FEW for
        each of TESTED_TERMS, at level ALPHA, and empty for the others. With fewer than 5 seeds, there are sums of
        squares but no tests.

    Raises:
        UserError: If the metric is unknown, or there are fewer than two tasks, cells or seeds.
    """
    runs = _pretext(outcomes(runs, metric))
    if cells is None:
        n_tasks = runs.groupby("cell", sort=False)["task"].nunique()
        cells = list(n_tasks.index[n_tasks == runs["task"].nunique()])
    used = runs.loc[runs["cell"].isin(cells)]
    check_one_run_per_seed(used, ["task", "cell"])
    tasks = used["task"].unique()
    if len(tasks) < 2 or len(cells) < 2 or len(used[["task", "cell"]].drop_duplicates()) < len(tasks) * len(cells):
        have = "; ".join(f"{task}: {', '.join(own['cell'].unique())}" for task, own in runs.groupby("task"))
        raise UserError(f"an interaction needs two tasks that both have the same two cells; there are {have}")
    whole = used.pivot(index=["task", "cell"], columns="seed", values="value").dropna(axis="columns")
    if whole.shape[1] < 2:
        raise UserError(f"{whole.shape[1]} seeds have a value of each of these cells in every task; 2 are needed")
    return _anova(whole, len(tasks))


def _levels(runs: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """Return the levels of the factors that vary among one task's runs, as ordered categories."""
    known = [name for name in factors if runs[name].notna().any()]  # not another task's option
    task = str(runs["task"].iloc[0])
    levels = {name: factor_levels(runs[name], task) for name in known}
    return pd.DataFrame({name: own for name, own in levels.items() if own.nunique() > 1}, index=runs.index)


def _factorial(
    task: str, runs: pd.DataFrame, factors: list[str], metric: str, per_image: PerImage
) -> list[dict[str, Any]]:
    """Return the rows of one task; none if all of its trials failed.

    runs: seed, value, trial_id, and the factors as ordered categories.
    """
    values = runs.pivot(index=factors, columns="seed", values="value").dropna(how="all")
    if values.empty:
        return []
    whole = values.dropna(axis="columns")
    model = factorial.terms(whole.index.to_frame(index=False))
    estimates, aliases = factorial.fit(model, whole.to_numpy(np.float64))
    trials = runs.pivot(index=factors, columns="seed", values="trial_id").loc[whole.index, whole.columns].to_numpy()
    images: list[np.ndarray | None] = [None] * len(model)
    if (contributions := image_contributions(trials, np.full_like(trials, metric), per_image)) is not None:
        of_images, _ = factorial.fit(model, contributions.reshape(len(trials), -1))
        images = list(of_images.reshape(len(model), *contributions.shape[1:]))
    common = {"task": task, "n_seeds": whole.shape[1], "n_failed": int(runs["value"].isna().sum())}
    return [
        common | {"term": term.name, "levels": term.levels, "aliased_with": aliased} | statistics
        for term, aliased, statistics in zip(model, aliases, _statistics(list(estimates), images), strict=True)
    ]


def _synergies(
    task: str, started: pd.DataFrame, ended: pd.DataFrame, metric: str, per_image: PerImage
) -> list[dict[str, Any]]:
    """Return the rows of one task.

    Args:
        task: Name of the task.
        started: Runs of its cells of the design `pairs`, with their policies.
        ended: Those that have ended, with their values.
        metric: Name of the result.
        per_image: Per-image results of the trials.
    """
    policy = [name for name in started if name.startswith(POLICY)]
    values: dict[tuple[str, ...], pd.DataFrame] = {}
    for cell, own in started.groupby("cell", sort=False):
        active = tuple(name.removeprefix(POLICY) for name in policy if own[name].iloc[0] > 0)  # NaN: off
        values[active] = ended.loc[ended["cell"] == cell].set_index("seed")[["value", "trial_id"]]
    singles = [ops for ops in values if len(ops) == 1]
    pairs = [ops for ops in values if len(ops) == 2]
    needed = {part for pair in pairs for part in ((), pair[:1], pair[1:])}
    if missing := needed - set(values):
        names = ", ".join(" + ".join(ops) or "no augmentation" for ops in sorted(missing))
        raise UserError(f"{task}: a synergy compares a pair with each op alone and with neither; no run of: {names}")
    rows: list[dict[str, Any]] = []
    synergies: list[np.ndarray] = []
    images: list[np.ndarray | None] = []
    for ops in [*singles, *pairs]:
        parts = [ops] if len(ops) == 1 else [ops, ops[:1], ops[1:], ()]
        seeds = pd.concat([values[part] for part in parts], axis=1, join="inner", keys=range(len(parts)))
        complete = seeds.dropna().swaplevel(axis=1)
        whole, trials = complete["value"].to_numpy(np.float64), complete["trial_id"].to_numpy().T
        synergies.append(whole @ SYNERGY if len(ops) == 2 else np.full(len(whole), np.nan))
        found = image_contributions(trials, np.full_like(trials, metric), per_image) if len(ops) == 2 else None
        images.append(None if found is None else np.tensordot(SYNERGY, found, 1))
        rows.append(
            {
                "task": task,
                "first": ops[0],
                "second": ops[-1],
                "n_seeds": len(whole),
                "n_failed": len(seeds) - len(whole),
                "mean": whole[:, 0].mean() if len(whole) else math.nan,
            }
        )
    statistics = [{**each, "synergy": each.pop("estimate")} for each in _statistics(synergies, images)]
    return [row | each for row, each in zip(rows, statistics, strict=True)]


def _statistics(estimates: Sequence[np.ndarray], images: Sequence[np.ndarray | None]) -> list[dict[str, Any]]:
    """Return estimate, n_evaluated, ci_low, ci_high, p, p_holm and test of each term of a family.

    Args:
        estimates: Estimates of each term by seed, float64 [S].
        images: Contributions of each image to them, float64 [S1, N], or None.
    """
    pairs = list(zip(estimates, images, strict=True))
    enough = [
        len(own) >= least_seeds(len(own), table, len(pairs)) and bool(np.isfinite(own).all()) for own, table in pairs
    ]
    rows: list[dict[str, Any]] = []
    for (own, table), is_tested in zip(pairs, enough, strict=True):
        row: dict[str, Any] = {"estimate": own.mean() if len(own) else math.nan, "p": math.nan, "test": ""}
        if is_tested:
            tested = paired_test(own, table, sum(enough))
            row |= {"test": tested.test, "p": tested.p_value(), "n_evaluated": tested.n_images}
            row["conservative_p"] = tested.conservative_p(row["p"], seeds_mean(own).p_value())
            row["ci_low"], row["ci_high"] = tested.estimate.interval(1 - ALPHA)
        rows.append(row)
    adjusted_from = [row.pop("conservative_p", row["p"]) if sum(enough) > 1 else row["p"] for row in rows]
    adjusted = paired.holm(np.array(adjusted_from))
    return [row | {"p_holm": p} for row, p in zip(rows, adjusted, strict=True)]


def _anova(values: pd.DataFrame, n_tasks: int) -> pd.DataFrame:
    """Return the table of `task_interaction`. values: one row per task and cell, one column per seed, without NaN."""
    table = anova_lm(ols(MODEL, values.melt(ignore_index=False).reset_index()).fit(), typ=2).set_axis(list(TERMS))
    mean_square = table["sum_sq"] / table["df"]
    table.loc["task", "F"] = mean_square["task"] / mean_square["task:seed"]
    table["p"] = math.nan
    if values.shape[1] >= paired.MIN_SEEDS:
        array = values.to_numpy(np.float64).reshape(n_tasks, -1, values.shape[1])
        for term, p in interaction_p(array, table["F"]).items():
            table.loc[term, "p"] = p
    table["answer"] = [_answer(term, p) for term, p in table["p"].items()]
    table["F"] = table["F"].where(table["p"].notna())
    return table.rename_axis("term").reset_index()[list(ANOVA_DTYPES)].astype(ANOVA_DTYPES)


def _answer(term: str, p: float) -> str:
    if term not in TESTED_TERMS:
        return ""
    return TOO_FEW if math.isnan(p) else DIFFERENT if p <= ALPHA else NOT_SHOWN


def _named(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with a column `trial_id`, empty where there is none and therefore no per-image results."""
    return runs if "trial_id" in runs else runs.assign(trial_id="")


def _pretext(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.loc[~are_baselines(runs["task"])]
