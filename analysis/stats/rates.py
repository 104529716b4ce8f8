"""How often does a cell converge, and more often than its baseline? Exact binomial statistics over seeds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from scipy.stats import binom
from statsmodels.stats.proportion import proportion_confint

from analysis.comparisons.cells import KEY, check_one_run_a_seed, comparisons
from analysis.convergence import VERDICTS
from analysis.records import FAILED, FINISHED, STOPPED
from analysis.stats.paired import holm
from trainables.errors import UserError
from trainables.trial import BASELINES

ALPHA = 0.05  # of every interval: 95 %
CONVERGED = ("converged",)
LEARNED = ("converged", "still_improving", "overfit")  # left chance, whatever came of it

_IDENTITY = ["trial_id", "phase", "task", "cell", "seed"]
_STOPPED = "stopped early for its values: whether it would have converged is unknown"
_SURVIVOR = "trained beside trials that were stopped for their values: those that were let finish are a selection"


def fixed_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that convergence can be counted over: trained, ended, and never in danger of an early stop.

    Left out are baselines and probes of finished encoders, which train nothing, and what `left_out` lists. A FAILED
    trial stays: within its budget it did not converge. Raises UserError where nothing remains.
    """
    _require(runs, [*_IDENTITY, "status", "budget_steps", "init_from"], "runs")
    kept = _trained(runs)
    missing = left_out(runs)
    kept = kept.loc[~kept["trial_id"].isin(missing["trial_id"])]
    if kept.empty:
        why = f": {len(missing)} left out, {missing['why'].iloc[0]}" if len(missing) else ""
        raise UserError(f"no trial that trained to a fixed budget in these runs{why}; pass those of the ablate phase")
    return kept


def left_out(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the trained trials that convergence is not counted over: trial_id, phase, task, cell, seed, status, why.

    A stop by a scheduler is informative censoring: the trial was stopped because of its values. So is the survival of
    its neighbors, and all trials of a phase and task with one stop are left out together.
    """
    trained = _trained(runs)
    stops = (trained["status"] == STOPPED).groupby([trained["phase"], trained["task"]]).transform("any")
    why = pd.Series("", trained.index, dtype="str")
    why[stops.to_numpy(bool)] = _SURVIVOR
    ended = trained["status"].isin([FINISHED, FAILED, STOPPED])
    why[~ended] = "has not ended: " + trained.loc[~ended, "status"]
    why[trained["status"] == STOPPED] = _STOPPED
    return trained.assign(why=why).loc[why != "", [*_IDENTITY, "status", "why"]].reset_index(drop=True)


def convergence_rates(
    runs: pd.DataFrame,
    verdicts: pd.DataFrame,
    by: Sequence[str] = ("task", "cell"),
    converged: Collection[str] = CONVERGED,
) -> pd.DataFrame:
    """Return how many seeds of each group converged: *by, n_seeds, n_converged, rate, ci_low, ci_high.

    verdicts: trial_id and verdict of every trial that trained, as `analysis.convergence.verdicts` gives them.
    by: columns of `runs`; a missing n_images (all images) is a group of its own.
    converged: the verdicts that count; LEARNED asks whether a trial left chance at all. A failed trial does not count.
    ci_low, ci_high: exact 95 % interval (Clopper and Pearson 1934). It covers at least 95 % at any number of seeds,
    and is wide: 3 of 3 leave [0.29, 1], 5 of 5 [0.48, 1], 10 of 10 [0.69, 1].

    Groups are in the order in which they started. Raises UserError where a trial has no verdict, where no trial
    trained to a fixed budget, or where a group holds a seed twice: the interval takes its trials as independent.
    """
    judged = _judged(runs, verdicts, converged)
    by = list(by)
    check_one_run_a_seed(judged, by)
    groups = judged.groupby(by, sort=False, dropna=False)["converged"]
    rates = groups.agg(n_seeds="size", n_converged="sum").reset_index()
    rates["rate"] = rates["n_converged"] / rates["n_seeds"]
    rates["ci_low"], rates["ci_high"] = exact_interval(rates["n_converged"], rates["n_seeds"])
    return rates


def rate_differences(
    runs: pd.DataFrame,
    verdicts: pd.DataFrame,
    designs: pd.DataFrame | None = None,
    baseline: str = "base",
    converged: Collection[str] = CONVERGED,
) -> pd.DataFrame:
    """Compare how often cells converge with how often their baseline does, on the same seeds.

    designs, baseline: as `analysis.comparisons.cells.comparisons` takes them.
    Returns task, design, cell, baseline, n_pairs, only_cell, only_baseline, rate_difference, p, p_holm: the seeds that
    both have, those on which one of the two alone converged, and the difference of the rates over these pairs, cell
    minus baseline.
    p: exact McNemar test (1947), the binomial one of the pairs that disagree; p_holm: adjusted by Holm (1979) over one
    task and design. Both err at most at their nominal rate, at any number of pairs, and need many to show anything:
    p cannot fall below 2^(1 - n_pairs), which is 0.25 with 3 pairs, 0.06 with 5 and 0.03 with 6.
    A comparison without a pair has n_pairs 0 and no numbers.

    Raises UserError as `convergence_rates` does, and for a baseline without trials.
    """
    judged = _judged(runs, verdicts, converged)
    check_one_run_a_seed(judged, ["task", "cell"])
    if designs is not None:
        _require(designs, KEY, "designs")
    wanted = comparisons(judged, baseline, designs)
    table = wanted.merge(_discordant(judged, wanted), how="left", on=list(wanted))
    counts = ["n_pairs", "only_cell", "only_baseline"]
    table[counts] = table[counts].fillna(0).astype(np.int64)
    paired = table["n_pairs"] > 0
    disagree = table["only_cell"] + table["only_baseline"]
    fewer = table[["only_cell", "only_baseline"]].min(axis=1)
    table["rate_difference"] = (table["only_cell"] - table["only_baseline"]) / table["n_pairs"].where(paired)
    table["p"] = pd.Series(np.minimum(1.0, 2 * binom.cdf(fewer, disagree, 0.5))).where(paired)
    table["p_holm"] = table.groupby(["task", "design"], sort=False)["p"].transform(lambda p: holm(p.to_numpy()))
    return table


def grid(
    frame: pd.DataFrame,
    value: str,
    rows: str = "n_images",
    columns: str = "augmentation_strength",
    *,
    all_images: int | None = None,
    aggregate: str = "mean",
) -> pd.DataFrame:
    """Return the table behind a heat map: `value` for each pair of `rows` and `columns`, both in ascending order.

    frame: runs of one task, or what `convergence_rates` gives by (rows, columns). `aggregate` joins the seeds of runs,
        passing over trials that did not finish or have no finite value; "count" tells how many there were.
    all_images: the number of images that a missing n_images stands for. Without it their line is named "all".

    Raises UserError for a column that is not there, for several tasks, and where one field would mix trials that
    differ in more than their seed: keep the cells of one design.
    """
    _require(frame, [rows, columns, value], "the frame")
    if "task" in frame and frame["task"].nunique() > 1:
        raise UserError(f"a grid shows one task, these are {', '.join(frame['task'].unique())}; pass runs of one")
    cells = frame.assign(**{value: finished_values(frame, value)})
    if "n_images" in (rows, columns):
        sizes = cells["n_images"]
        cells["n_images"] = sizes.astype(object).where(sizes.notna(), "all" if all_images is None else all_images)
    check_one_run_a_seed(cells.assign(seed=cells.get("seed", 0)), [rows, columns])
    table = cells.pivot_table(value, rows, columns, aggfunc=aggregate, dropna=False, sort=False)
    return _ascending(_ascending(table).T).T


def finished_values(runs: pd.DataFrame, metric: str) -> np.ndarray:
    """Return a metric of the trials that finished, float64 [N]; NaN for all others, whatever they had reported.

    A frame without a column `status` holds finished ones only.
    """
    value = runs[metric].to_numpy(np.float64, na_value=np.nan)
    finished = (runs["status"] == FINISHED).to_numpy(bool) if "status" in runs else np.ones(len(runs), dtype=bool)
    return np.where(np.isfinite(value) & finished, value, np.nan)


def exact_interval(count: pd.Series, n: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return both ends, float64 [M], of the 95 % interval of Clopper and Pearson (1934) of `count` of `n`."""
    low, high = proportion_confint(np.asarray(count), np.asarray(n), alpha=ALPHA, method="beta")
    return np.asarray(low, np.float64), np.asarray(high, np.float64)


def _trained(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.loc[~runs["task"].isin(BASELINES) & (runs["init_from"] == "") & (runs["budget_steps"] > 0)]


def _judged(runs: pd.DataFrame, verdicts: pd.DataFrame, converged: Collection[str]) -> pd.DataFrame:
    """Return the fixed-budget runs with a boolean column `converged`."""
    _require(verdicts, ["trial_id", "verdict"], "verdicts")
    if unknown := sorted(set(converged) - set(VERDICTS)):
        raise UserError(f"converged names no verdict: {', '.join(unknown)}; verdicts are {', '.join(VERDICTS)}")
    kept = fixed_budget(runs)
    verdict = kept["trial_id"].map(verdicts.drop_duplicates("trial_id").set_index("trial_id")["verdict"])
    if verdict.isna().any():
        first = kept.loc[verdict.isna(), "trial_id"].iloc[0]
        raise UserError(
            f"{verdict.isna().sum()} of {len(kept)} trials have no verdict, the first is {first}; "
            "make the verdicts from the same runs: verdicts(runs, curves)"
        )
    return kept.assign(converged=verdict.isin(list(converged)))


def _discordant(judged: pd.DataFrame, wanted: pd.DataFrame) -> pd.DataFrame:
    """Return the number of pairs, and of those that disagree in either way, of each comparison that has a pair."""
    outcomes = judged[["task", "cell", "seed", "converged"]]
    references = outcomes.rename(columns={"cell": "baseline", "converged": "reference"})
    pairs = wanted.merge(outcomes, on=["task", "cell"]).merge(references, on=["task", "baseline", "seed"])
    pairs["only_cell"] = pairs["converged"] & ~pairs["reference"]
    pairs["only_baseline"] = ~pairs["converged"] & pairs["reference"]
    groups = pairs.groupby(list(wanted), sort=False)
    return groups.agg(
        n_pairs=("seed", "size"), only_cell=("only_cell", "sum"), only_baseline=("only_baseline", "sum")
    ).reset_index()


def _ascending(table: pd.DataFrame) -> pd.DataFrame:
    """Sort the index by value, with the name "all" at its end."""
    return table.loc[sorted(table.index, key=lambda label: (isinstance(label, str), label))]


def _require(frame: pd.DataFrame, names: Collection[str], what: str) -> None:
    if missing := [name for name in names if name not in frame]:
        raise UserError(f"{what} has no column {', '.join(missing)}; its columns are in analysis/data/frames.py")
