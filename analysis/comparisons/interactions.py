"""Interactions: what factors do on average and together, and whether a cell acts alike in every task."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.comparisons.cells import check_one_run_a_seed
from analysis.comparisons.effects import TOO_FEW, outcomes
from analysis.stats import factorial, paired
from trainables.errors import UserError
from trainables.trial import BASELINES

ALPHA = 0.05
POLICY, OPTION = "augmentation/", "option/"

_STATISTICS = {
    **dict.fromkeys(("n_seeds", "n_failed"), "int64"),
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
SENTENCES: dict[str, tuple[str, ...]] = {  # of each term: what is said where it is significant, and where not
    "task": ("the tasks differ, on average over cells", "no sure difference between tasks, on average over cells"),
    "cell": ("the cells differ, on average over tasks", "no sure difference between cells, on average over tasks"),
    "task:cell": ("what a cell does depends on the task", "no sign that what a cell does depends on the task"),
    "task:seed": (),
    "residual": (),
}
ANOVA_DTYPES = {"term": "str", **dict.fromkeys(("df", "sum_sq", "F", "p"), "float64"), "answer": "str"}


def factorial_effects(runs: pd.DataFrame, metric: str, factors: Sequence[str]) -> pd.DataFrame:
    """Estimate main effects and two-factor interactions in a factorial or a screening design: FACTORIAL_DTYPES.

    runs: the trials of one design (those whose cells it names), of one task or several.
    factors: columns of `runs` that the design varies: `lr`, `option/gap`, `augmentation/flip`. An op without a
        magnitude is off, an option without a value has its default, `n_images` without one is all. A factor that does
        not vary within a task plays no part there.

    One row a term, in the metric's units. A main effect is the difference between the means at a level and at the
    lowest, over all levels of the other factors; an interaction, the difference of a factor's effect between two levels
    of another. `levels` names them: `0 to 1` or, of an interaction, `0 to 1, 0.001 to 0.01`.

    The seed is the block: each seed, which ran every cell, gives its own least-squares estimates, and their mean over
    seeds is tested as any other difference is (`paired`), with Holm over the terms of a task. Pooling the residuals of
    all seeds would leave more degrees of freedom, but take a factor's effect to be the same for every seed, and err
    where it is not (19 % of the time instead of 5 % where it varies by seed as much as the noise does).

    aliased_with: terms that the design cannot tell from this one: the estimate is of their sum, with the factors shown.
    Of aliased terms the first stands for all; the others have rows of their own, without an estimate.
    Only seeds with a value of every cell count; n_failed is the number of failed trials. A cell that failed at every
    seed is left out of the design, and what it could have told apart is then aliased. Below 5 seeds there are estimates
    and no tests.

    Raises UserError for an unknown metric or factor, for factors that no task varies, and for two cells with the same
    factors.
    """
    runs = _pretext(outcomes(runs, metric))
    if unknown := [name for name in factors if name not in runs]:
        raise UserError(f"no column {unknown[0]!r} in these runs; factors are columns such as lr, option/NAME")
    rows: list[dict[str, Any]] = []
    for task, own in runs.groupby("task", sort=False):
        known = [name for name in factors if own[name].notna().any()]  # not another task's option
        levels = pd.DataFrame({name: _levels(own[name], str(task)) for name in known}, index=own.index)
        varied = [name for name in known if levels[name].nunique() > 1]
        if varied:
            design = own[["task", "seed", "value"]].join(levels[varied])
            check_one_run_a_seed(design, ["task", *varied])
            rows += _factorial(str(task), design, varied)
    if not rows:
        raise UserError(f"no task of these runs has two levels of any of {', '.join(factors)}; nothing to estimate")
    return pd.DataFrame(rows, columns=list(FACTORIAL_DTYPES)).astype(FACTORIAL_DTYPES)


def pair_synergy(runs: pd.DataFrame, metric: str, designs: pd.DataFrame) -> pd.DataFrame:
    """Say what two augmentation ops do together beyond what each does alone, from the design `pairs`: SYNERGY_DTYPES.

    One row for each two ops, and one with first == second for each op alone. mean: of the cell, over the n_seeds seeds
    that have a value of all four cells (of the one cell for an op alone, which has no synergy).
    synergy: pair - first alone - second alone + neither, in the metric's units, with its paired t interval and test;
    Holm over the pairs of a task. n_failed: seeds at which any of the cells failed.

    Raises UserError where `designs` has no pairs among these runs, or a cell that a pair needs was not run.
    """
    cells = designs.loc[designs["design"] == "pairs", ["task", "cell"]].drop_duplicates()
    used = outcomes(runs, metric).merge(cells, on=["task", "cell"])
    if used.empty:
        raise UserError("no cell of a design `pairs` in these runs; ask for it: --set 'ablate.designs=[pairs]'")
    check_one_run_a_seed(used, ["task", "cell"])
    rows: list[dict[str, Any]] = []
    for task, own in used.groupby("task", sort=False):
        rows += _synergies(str(task), own)
    return pd.DataFrame(rows, columns=list(SYNERGY_DTYPES)).astype(SYNERGY_DTYPES)


def task_interaction(runs: pd.DataFrame, metric: str, cells: Sequence[str] | None = None) -> pd.DataFrame:
    """Ask whether the cells act alike in every task: analysis of variance with seeds as blocks: ANOVA_DTYPES.

    The model is `value ~ C(task) * C(cell) + C(task):C(seed)`, ordinary least squares. term: task, cell, task:cell,
    task:seed, residual. A cell's effect and its interaction are held against the residual; the task against the seeds
    within it, which are a sample and not all there are. The seeds themselves are not tested.
    answer: one plain sentence a tested term, at 5 %.
    cells: those compared, by default those that every task has.

    p is not that of F with these df, which errs 10 to 20 % of the time instead of 5 % where noise differs by task or by
    cell, as it does between one that learned and one at chance. Its degrees of freedom are estimated (`box_p`): so it
    errs at most 6 % of the time, and 1 to 4 % where all noise is alike.
    Seeds that lack a value of any cell in any task are left out. Below 5 seeds there are sums of squares and no tests.

    Raises UserError for an unknown metric, and for fewer than two tasks, cells or seeds.
    """
    runs = _pretext(outcomes(runs, metric))
    if cells is None:
        n_tasks = runs.groupby("cell", sort=False)["task"].nunique()
        cells = list(n_tasks.index[n_tasks == runs["task"].nunique()])
    used = runs.loc[runs["cell"].isin(cells)]
    check_one_run_a_seed(used, ["task", "cell"])
    tasks = used["task"].unique()
    if len(tasks) < 2 or len(cells) < 2 or len(used[["task", "cell"]].drop_duplicates()) < len(tasks) * len(cells):
        have = "; ".join(f"{task}: {', '.join(own['cell'].unique())}" for task, own in runs.groupby("task"))
        raise UserError(f"an interaction needs two tasks that both have the same two cells; there are {have}")
    whole = used.pivot(index=["task", "cell"], columns="seed", values="value").dropna(axis="columns")
    if whole.shape[1] < 2:
        raise UserError(f"{whole.shape[1]} seeds have a value of each of these cells in every task; it takes 2")
    return _anova(whole, len(tasks))


def interaction_p(values: np.ndarray, f: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return p-values [...] of the terms task, cell and task:cell, of which `f` gives F [...].

    values: float64 [..., tasks, cells, seeds].
    """
    n_tasks = values.shape[-3]
    seeds = values.mean(axis=-2, keepdims=True)
    between = seeds - seeds.mean(axis=-1, keepdims=True)
    within = values - values.mean(axis=-1, keepdims=True) - between
    mean = np.full((n_tasks, n_tasks), 1 / n_tasks)
    differences = np.eye(n_tasks) - mean
    tests = {"task": (differences, between), "cell": (mean, within), "task:cell": (differences, within)}
    return {term: box_p(f[term], hypothesis, residuals) for term, (hypothesis, residuals) in tests.items()}


def box_p(f: np.ndarray, hypothesis: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Return p-values [...] of F in a balanced split plot, whatever the noise of each task and its correlations.

    Box 1954 (Annals of Mathematical Statistics 25:290 and 25:484): F with as many degrees of freedom as give numerator
    and denominator their variances; with estimated covariances, as in Brunner, Dette and Munk 1997.
    hypothesis: float64 [T, T], the projection of the tasks' means that is tested.
    residuals: float64 [..., T, C, n], of n seeds, what F's denominator is the mean square of.
    """
    n_seeds, weight = residuals.shape[-1], np.diag(hypothesis)
    covariances = residuals @ np.swapaxes(residuals, -1, -2) / (n_seeds - 1)
    products = np.einsum("...tcd,...udc->...tu", covariances, covariances)
    total = (weight * np.trace(covariances, axis1=-2, axis2=-1)).sum(axis=-1) ** 2
    df = total / (hypothesis**2 * products).sum(axis=(-2, -1))
    df_rest = (n_seeds - 1) * total / (weight**2 * np.diagonal(products, axis1=-2, axis2=-1)).sum(axis=-1)
    return stats.f.sf(f, df, df_rest)


def _factorial(task: str, runs: pd.DataFrame, factors: list[str]) -> list[dict[str, Any]]:
    """Return the rows of one task. runs: seed, value, and the factors as ordered categories."""
    values = runs.pivot(index=factors, columns="seed", values="value").dropna(how="all")
    whole = values.dropna(axis="columns")
    model = factorial.terms(whole.index.to_frame(index=False))
    estimates, aliases = factorial.fit(model, whole.to_numpy(np.float64))
    common = {"task": task, "n_seeds": whole.shape[1], "n_failed": int(runs["value"].isna().sum())}
    return [
        common | {"term": term.name, "levels": term.levels, "aliased_with": aliased} | statistics
        for term, aliased, statistics in zip(model, aliases, _statistics(list(estimates)), strict=True)
    ]


def _synergies(task: str, runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of one task. runs: its cells of the design `pairs`, with their policies."""
    policy = [name for name in runs if name.startswith(POLICY)]
    values: dict[tuple[str, ...], pd.Series] = {}
    for _, own in runs.groupby("cell", sort=False):
        active = tuple(name.removeprefix(POLICY) for name in policy if own[name].iloc[0] > 0)  # NaN: off
        values[active] = own.set_index("seed")["value"]
    singles = [ops for ops in values if len(ops) == 1]
    pairs = [ops for ops in values if len(ops) == 2]
    needed = {part for pair in pairs for part in ((), pair[:1], pair[1:])}
    if missing := needed - set(values):
        names = ", ".join(" + ".join(ops) or "no augmentation" for ops in sorted(missing))
        raise UserError(f"{task}: a synergy compares a pair with each op alone and with neither; no run of: {names}")
    rows, synergies = [], []
    for ops in [*singles, *pairs]:
        parts = [ops] if len(ops) == 1 else [ops, ops[:1], ops[1:], ()]
        ended = pd.concat([values[part] for part in parts], axis=1, join="inner")
        whole = ended.dropna().to_numpy(np.float64)
        synergies.append(whole @ [1, -1, -1, 1] if len(ops) == 2 else np.full(len(whole), np.nan))
        rows.append(
            {
                "task": task,
                "first": ops[0],
                "second": ops[-1],
                "n_seeds": len(whole),
                "n_failed": len(ended) - len(whole),
                "mean": whole[:, 0].mean() if len(whole) else math.nan,
            }
        )
    statistics = [{**found, "synergy": found.pop("estimate")} for found in _statistics(synergies)]
    return [row | found for row, found in zip(rows, statistics, strict=True)]


def _statistics(estimates: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Return estimate, ci_low, ci_high, p, p_holm, test of each family member's estimates by seed; NaN where none."""
    tested = [len(own) >= paired.MIN_SEEDS and bool(np.isfinite(own).all()) for own in estimates]
    rows: list[dict[str, Any]] = []
    for own, enough in zip(estimates, tested, strict=True):
        row: dict[str, Any] = {"estimate": own.mean() if len(own) else math.nan, "p": math.nan, "test": ""}
        if enough:
            row["test"] = paired.choose_test(len(own), sum(tested), ALPHA)
            row["p"] = paired.p_value(own, row["test"])
            row["ci_low"], row["ci_high"] = paired.t_interval(own, 1 - ALPHA)
        rows.append(row)
    adjusted = paired.holm(np.array([row["p"] for row in rows]))
    return [row | {"p_holm": p} for row, p in zip(rows, adjusted, strict=True)]


def _anova(values: pd.DataFrame, n_tasks: int) -> pd.DataFrame:
    """Return the table of `task_interaction`. values: a row a task and cell, a column a seed, no gap."""
    table = anova_lm(ols(MODEL, values.melt(ignore_index=False).reset_index()).fit(), typ=2).set_axis(list(SENTENCES))
    mean_square = table["sum_sq"] / table["df"]
    table.loc["task", "F"] = mean_square["task"] / mean_square["task:seed"]
    table["p"] = math.nan
    if values.shape[1] >= paired.MIN_SEEDS:
        array = values.to_numpy(np.float64).reshape(n_tasks, -1, values.shape[1])
        for term, p in interaction_p(array, table["F"]).items():
            table.loc[term, "p"] = p
    table["answer"] = [_sentence(*row) for row in table[["F", "p"]].itertuples()]
    table["F"] = table["F"].where(table["p"].notna())
    return table.rename_axis("term").reset_index()[list(ANOVA_DTYPES)].astype(ANOVA_DTYPES)


def _sentence(term: str, f: float, p: float) -> str:
    if not SENTENCES[term]:
        return ""
    if math.isnan(p):
        return TOO_FEW
    yes, no = SENTENCES[term]
    return f"{yes if p <= ALPHA else no} (F = {f:.3g}, p = {p:.2g})"


def _levels(factor: pd.Series, task: str) -> pd.Series:
    """Return a factor as ordered categories: numbers by size, words by the alphabet, what is missing by its meaning."""
    name, is_text = str(factor.name), factor.dtype == "str"
    values = factor.astype(object)
    if factor.isna().any():
        absent = _absent(name, task)
        values = values.where(factor.notna(), json.dumps(absent) if is_text and type(absent) is not str else absent)
    order = {value: _text(value) for value in sorted(values.unique())}
    return pd.Series(pd.Categorical(values.map(order), list(order.values()), ordered=True), factor.index)


def _absent(factor: str, task: str) -> Any:
    """Return what a trial without a value of this factor was trained with."""
    if factor.startswith(POLICY):
        return 0.0
    if factor == "n_images":
        return math.inf
    if factor.startswith(OPTION):
        from trainables.tasks import TASKS, build_options  # torch takes seconds to import

        if task in TASKS and hasattr(options := build_options(TASKS[task], {}), factor.removeprefix(OPTION)):
            return getattr(options, factor.removeprefix(OPTION))
    raise UserError(f"{task}: a run without a value of {factor}, which has no default; leave it out of the factors")


def _text(level: Any) -> str:
    if level == math.inf:
        return "all"
    return str(level).removesuffix(".0")


def _pretext(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.loc[~runs["task"].isin(BASELINES)]
