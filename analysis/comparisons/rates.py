"""Convergence rates: the share of seeds at which a cell converges, and its difference from the baseline's share."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from analysis.comparisons.cells import COMPARISON, KEY, check_one_run_per_seed, planned_comparisons
from analysis.comparisons.event_times import Event
from analysis.comparisons.selection import ended_runs, fixed_budget, require_columns, runs_that_left_chance
from analysis.convergence import CONVERGED
from analysis.stats.binomial import exact_interval, mcnemar_can_reject, mcnemar_p, mcnemar_pairs_needed
from analysis.stats.paired import holm

RATE_DTYPES = {
    **dict.fromkeys(("phase", "task", "cell"), "str"),
    **dict.fromkeys(("n_seeds", "n_converged", "n_undecided"), "int64"),
    **dict.fromkeys(("rate", "ci_low", "ci_high"), "float64"),
}
RATE_DIFFERENCE_DTYPES = {
    **dict.fromkeys(KEY, "str"),
    **dict.fromkeys(("n_pairs", "both", "only_cell", "only_baseline"), "int64"),
    **dict.fromkeys(("rate_difference", "p", "p_holm"), "float64"),
    "pairs_needed": "int64",
}


def convergence_rates(
    runs: pd.DataFrame,
    verdicts: pd.DataFrame,
    by: Sequence[str] = ("task", "cell"),
    converged: Collection[str] = (CONVERGED,),
    event: Event = "converged",
) -> pd.DataFrame:
    """Return how many seeds of each group converged, in the order in which the groups started.

    Args:
        runs: Runs of a study; those of `fixed_budget` count.
        verdicts: `analysis.convergence.verdicts` of the trials. An undecided trial counts where every verdict that it
            leaves possible is, or none is, convergence.
        by: Columns of `runs`; a missing n_images (all images) is a group of its own.
        converged: The verdicts that count as convergence.
        event: `left_chance` counts trials that left chance in place of those that converged, by the column of that name
            of `verdicts`. A failed trial did not.

    Returns:
        Columns *by, n_seeds, n_converged, n_undecided, rate, ci_low, ci_high. rate is the share that is shown to have
        converged, NaN if all seeds are undecided. The interval is the exact one of Clopper and Pearson (95%); its
        lower end counts the undecided seeds as not converged, its upper end as converged.

    Raises:
        UserError: If a trial has no verdict, no trial trained to a fixed budget, or a group has a seed twice: the
            interval takes its trials as independent.
    """
    counted = _with_converged(runs, verdicts, converged, event)
    by = list(by)
    check_one_run_per_seed(counted, by)
    groups = counted.groupby(by, sort=False, dropna=False)
    rates = groups.agg(
        n_seeds=("converged", "size"), n_converged=("converged", "sum"), n_undecided=("undecided", "sum")
    ).reset_index()
    decided = rates["n_undecided"] < rates["n_seeds"]
    rates["rate"] = (rates["n_converged"] / rates["n_seeds"]).where(decided)
    rates["ci_low"], _ = exact_interval(rates["n_converged"], rates["n_seeds"])
    _, rates["ci_high"] = exact_interval(rates["n_converged"] + rates["n_undecided"], rates["n_seeds"])
    return rates


def rate_differences(
    runs: pd.DataFrame,
    verdicts: pd.DataFrame,
    designs: pd.DataFrame | None = None,
    baseline: str = "base",
    converged: Collection[str] = (CONVERGED,),
    event: Event = "converged",
) -> pd.DataFrame:
    """Compare how often cells converge with how often their baseline does, on the same seeds.

    p is from the exact McNemar test; p_holm is adjusted over one task and design, where a comparison that several
    designs share belongs to the first. Both keep their nominal error rate at any number of pairs but need many pairs to
    reject: p cannot fall below 2^(1 - n_pairs), which is 0.06 with 5 pairs. A comparison that cannot reject in its
    family whatever its outcome is not tested: its p-values are NaN, and it does not count in the family.

    Args:
        runs: Runs of a study; those of `fixed_budget` count.
        verdicts: As for `convergence_rates`.
        designs: As for `planned_comparisons`.
        baseline: As for `planned_comparisons`.
        converged: As for `convergence_rates`.
        event: As for `convergence_rates`.

    Returns:
        Columns RATE_DIFFERENCE_DTYPES: n_pairs, the seeds that both have, neither undecided; both, only_cell and
        only_baseline, the pairs in which both or only one converged; rate_difference, cell minus baseline over these
        pairs; p; p_holm; pairs_needed, the number of pairs with which every comparison of the family could reject. A
        comparison without a pair has n_pairs 0, and NaN as its rate_difference.

    Raises:
        UserError: For the reasons of `convergence_rates`, or if a baseline did not run.
    """
    counted = _with_converged(runs, verdicts, converged, event)
    check_one_run_per_seed(counted, ["task", "cell"])
    if designs is not None:
        require_columns(designs, KEY, "designs")
    wanted = planned_comparisons(counted, baseline, designs)
    table = wanted.merge(_discordant(counted, wanted), how="left", on=list(wanted))
    counts = ["n_pairs", "both", "only_cell", "only_baseline"]
    table[counts] = table[counts].fillna(0).astype(np.int64)
    table["rate_difference"] = (table["only_cell"] - table["only_baseline"]) / table["n_pairs"].where(
        table["n_pairs"] > 0
    )
    distinct = table.drop_duplicates(COMPARISON)
    families = [_tested(family) for _, family in distinct.groupby(["task", "design"], sort=False)]
    tests = pd.concat(families) if families else distinct.assign(p=np.nan, p_holm=np.nan, pairs_needed=0)
    return table.merge(tests[[*COMPARISON, "p", "p_holm", "pairs_needed"]], on=COMPARISON)


def _tested(family: pd.DataFrame) -> pd.DataFrame:
    """Return the comparisons of one family with p, p_holm and pairs_needed."""
    can_reject = mcnemar_can_reject(family["n_pairs"].to_numpy())
    p = np.where(can_reject, mcnemar_p(family["only_cell"], family["only_baseline"]), np.nan)
    return family.assign(p=p, p_holm=holm(p), pairs_needed=mcnemar_pairs_needed(int((family["n_pairs"] > 0).sum())))


def _with_converged(
    runs: pd.DataFrame, verdicts: pd.DataFrame, converged: Collection[str], event: Event
) -> pd.DataFrame:
    """Return the fixed-budget runs with the boolean columns `converged`, for the event, and `undecided`."""
    kept = fixed_budget(runs)
    left_chance = event == "left_chance"
    found = runs_that_left_chance(kept, verdicts) if left_chance else ended_runs(kept, verdicts, converged)
    return kept.assign(converged=found.fillna(False).astype(bool), undecided=found.isna())


def _discordant(counted: pd.DataFrame, wanted: pd.DataFrame) -> pd.DataFrame:
    """Return the number of pairs, and of discordant ones in either direction, of each comparison with a pair."""
    outcomes = counted.loc[~counted["undecided"], ["task", "cell", "seed", "converged"]]
    references = outcomes.rename(columns={"cell": "baseline", "converged": "reference"})
    pairs = wanted.merge(outcomes, on=["task", "cell"]).merge(references, on=["task", "baseline", "seed"])
    pairs["both"] = pairs["converged"] & pairs["reference"]
    pairs["only_cell"] = pairs["converged"] & ~pairs["reference"]
    pairs["only_baseline"] = ~pairs["converged"] & pairs["reference"]
    groups = pairs.groupby(list(wanted), sort=False)
    return groups.agg(
        n_pairs=("seed", "size"),
        both=("both", "sum"),
        only_cell=("only_cell", "sum"),
        only_baseline=("only_baseline", "sum"),
    ).reset_index()
