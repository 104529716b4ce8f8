"""Paired effects: what each cell of an ablation changes against its baseline, over new seeds and new images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.comparisons.cells import COMPARISON, KEY, check_one_run_per_seed, planned_comparisons
from analysis.comparisons.images import image_contributions
from analysis.comparisons.selection import outcomes
from analysis.data.per_image import PerImage
from analysis.stats import paired
from analysis.stats.crossed import least_seeds, paired_test, seeds_mean
from analysis.stats.significance import ALPHA
from trainables.errors import UserError

Mode = Literal["max", "min"]

BETTER, WORSE, EQUIVALENT, INCONCLUSIVE = "better", "worse", "equivalent", "inconclusive"
TOO_FEW = "too few seeds"
ANSWERS = (BETTER, WORSE, EQUIVALENT, INCONCLUSIVE, TOO_FEW)

PAIR_DTYPES = {
    **dict.fromkeys(KEY, "str"),
    "seed": "int64",
    **dict.fromkeys(("value", "baseline_value", "difference"), "float64"),
}
EFFECT_DTYPES = {
    **dict.fromkeys(KEY, "str"),
    **dict.fromkeys(("n_seeds", "n_failed", "n_baseline_failed"), "int64"),
    "n_evaluated": "Int64",
    **dict.fromkeys(("mean", "baseline_mean", "mean_difference", "ci_low", "ci_high"), "float64"),
    **dict.fromkeys(("family_low", "family_high", "picked_low", "picked_high"), "float64"),
    **dict.fromkeys(("seeds_low", "seeds_high"), "float64"),
    **dict.fromkeys(("p", "p_holm", "hedges_g"), "float64"),
    **dict.fromkeys(("pairing_correlation", "smallest_detectable"), "float64"),
    **dict.fromkeys(("p_equivalence", "p_equivalence_holm"), "float64"),
    **dict.fromkeys(("answer", "note", "test"), "str"),
    **dict.fromkeys(("bca_low", "bca_high"), "float64"),
    "seeds_needed": "Int64",
    "min_seeds": "Int64",
}


def effects(
    runs: pd.DataFrame,
    metric: str,
    baseline: str = "base",
    *,
    designs: pd.DataFrame | None = None,
    mode: Mode = "max",
    margin: float | None = None,
    confidence: float = 1 - ALPHA,
    per_image: PerImage | None = None,
    across_tasks: bool = False,
) -> pd.DataFrame:
    """Compare each cell with its baseline over the seeds that both have, one row per comparison.

    Seeds. n_seeds counts the seeds with a value of both cells; mean, baseline_mean and all further columns are computed
    from these. n_failed counts the seeds at which the cell failed (status FAILED, or no finite value) and the baseline
    did not, n_baseline_failed the reverse. A trial that has not ended, or was killed from outside, is not an outcome.
    With fewer than min_seeds, 5 seeds or 3 if all have per-image results and the family has no other comparison of the
    task, nothing is tested: there are means, all other numbers are NaN, and the answer is `too few seeds`.

    Numbers. mean_difference is cell minus baseline; ci_low and ci_high are its interval for this comparison alone, over
    new seeds and new images (`analysis.stats.crossed`); n_evaluated is the number of images. Without per-image results
    of at least two seeds n_evaluated is missing, and the interval is over new seeds alone, on the same images.
    seeds_low and seeds_high are always the t interval over seeds alone. family_low and family_high are the ends of
    ci_low and ci_high at 1 - alpha/M for the M comparisons tested in the family, which are all correct at once
    (Bonferroni). picked_low and picked_high do the same for all tested comparisons of the task with one baseline, over
    all designs: they are the ends for a comparison that was picked as the largest of these. test is `crossed t` over
    seeds and images, and otherwise chosen by `paired.choose_test`; p is two-sided; p_holm is adjusted over the family
    (Holm), from the larger of p and the p-value over seeds alone.
    hedges_g is the standardized difference, in standard deviations of the differences. pairing_correlation is the
    correlation of the two cells' values over seeds: high where pairing gained much. smallest_detectable is the
    difference that a t-test at alpha/M would have detected with probability 0.8, and seeds_needed the number of seeds
    with which it would detect a difference of the margin on these images; missing if the answer is not `inconclusive`,
    or if no number of seeds is enough. p_equivalence is the p-value of two one-sided tests against the margin;
    p_equivalence_holm is adjusted over the family separately. So each kind of claim, a difference or an equivalence, is
    wrong anywhere in a family at a rate of at most alpha. bca_low and bca_high are a bootstrap interval.

    Answer. `equivalent` if p_equivalence_holm <= alpha and both ends of the interval (ci_low, ci_high) are within the
    margin, even if there is a significant difference that is smaller than the margin; else `better` or `worse` if
    p_holm <= alpha; else `inconclusive`. A failure is an outcome: a cell that failed at a seed at which the baseline
    did not is never better or equivalent, and never worse or equivalent in the reverse case. note says why the answer
    differs from what the interval suggests, and is empty otherwise.

    Args:
        runs: Runs of the ablation.
        metric: A column of `runs`, for example `probe/cifar10/linear`, or `last/val/accuracy` of `last_values`.
        baseline: If `designs` is None, the cell that all other cells of a task are compared with: one family per task.
        designs: Columns task, design, cell, baseline; a family is one (task, design). A comparison that several designs
            share counts once: it belongs to the family of the first and has the same numbers in all of them. Rows
            without a baseline (factorial and screening designs: see `factorial_effects`) and tasks that are not in
            `runs` are left out.
        mode: Whether more (`max`) or less (`min`) of the metric is better.
        margin: The smallest difference that matters, in the metric's units; None skips equivalence.
        confidence: Confidence of the intervals; alpha, the level of all tests, is 1 - confidence.
        per_image: Per-image results of the trials, found by the runs' columns `trial_id` and, if it exists, `result`,
            the name of the result in place of `metric`.
        across_tasks: Whether the comparisons of a design in all tasks are one family, for a claim on any of the tasks.

    Returns:
        A frame with the columns EFFECT_DTYPES.

    Raises:
        UserError: If the metric is unknown, the baseline of a cell did not run, or a task, cell and seed has two runs.
    """
    _check(mode, margin, confidence)
    comparisons = planned_comparisons(runs, baseline, designs)
    distinct = comparisons.drop_duplicates(COMPARISON)
    pairs = _pairs(runs, metric, distinct)
    families = [
        _family(rows, pairs.merge(rows), mode, margin, 1 - confidence, per_image or PerImage())
        for _, rows in distinct.groupby(["design"] if across_tasks else ["task", "design"], sort=False)
    ]
    every = [row for rows in families for row in rows]
    _add_picked(every, 1 - confidence, across_tasks=across_tasks)
    found = pd.DataFrame(every, columns=list(EFFECT_DTYPES))
    return comparisons.merge(found.drop(columns="design"), on=COMPARISON)[list(EFFECT_DTYPES)].astype(EFFECT_DTYPES)


def paired_differences(
    runs: pd.DataFrame, metric: str, baseline: str = "base", designs: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the seeds behind each comparison that `effects` makes with the same arguments, as columns PAIR_DTYPES.

    One row per seed at which both trials have ended. value and baseline_value are NaN for a trial that failed, and
    difference, value minus baseline_value, is NaN if either is.

    Raises:
        UserError: For the reasons of `effects`.
    """
    pairs = _pairs(runs, metric, planned_comparisons(runs, baseline, designs))
    return pairs[list(PAIR_DTYPES)].astype(PAIR_DTYPES)


def _check(mode: str, margin: float | None, confidence: float) -> None:
    if mode not in ("max", "min"):
        raise UserError(f"mode = {mode!r}: must be 'max' or 'min'")
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        raise UserError(f"margin = {margin}: give the smallest difference that matters, above 0, or None")
    if not 0.5 <= confidence < 1:
        raise UserError(f"confidence = {confidence}: a share from 0.5 to below 1, for example 0.95")


def _pairs(runs: pd.DataFrame, metric: str, comparisons: pd.DataFrame) -> pd.DataFrame:
    used = pd.concat([comparisons[["task", name]].set_axis(["task", "cell"], axis=1) for name in ("cell", "baseline")])
    ended = outcomes(runs, metric).merge(used.drop_duplicates(), on=["task", "cell"])
    check_one_run_per_seed(ended, ["task", "cell"])
    ended = ended.assign(trial_id=ended.get("trial_id", ""), result=ended.get("result", metric))
    values = ended[["task", "cell", "seed", "value", "trial_id", "result"]].sort_values("seed")
    renamed = {name: f"baseline_{name}" for name in ("value", "trial_id", "result")}
    references = values.rename(columns={"cell": "baseline", **renamed})
    pairs = comparisons.merge(values, on=["task", "cell"]).merge(references, on=["task", "baseline", "seed"])
    return pairs.assign(difference=pairs["value"] - pairs["baseline_value"])


def _family(
    comparisons: pd.DataFrame,
    pairs: pd.DataFrame,
    mode: Mode,
    margin: float | None,
    alpha: float,
    per_image: PerImage,
) -> list[dict[str, Any]]:
    by_comparison = pairs.groupby(COMPARISON)
    of_task = comparisons["task"].value_counts()
    rows = []
    for row in comparisons.to_dict("records"):
        key = tuple(row[name] for name in COMPARISON)
        own = pairs.loc[by_comparison.groups.get(key, [])]
        rows.append(
            row
            | _counts_and_means(own)
            | _differences(own.dropna(subset="difference"), per_image, int(of_task[row["task"]]))
        )
    tested = [row for row in rows if row["n_seeds"] >= row["min_seeds"]]
    for row in tested:
        row.update(_tests(row["differences"], row["images"], len(tested), margin, alpha))
    for name in ("p", "p_equivalence"):
        adjusted = paired.holm(np.array([row[name if len(tested) == 1 else f"conservative_{name}"] for row in tested]))
        for row, value in zip(tested, adjusted, strict=True):
            row[f"{name}_holm"] = value
    for row in rows:
        row["answer"] = _answer(row, mode, margin, alpha) if row["n_seeds"] >= row["min_seeds"] else TOO_FEW
        if row["answer"] == INCONCLUSIVE and margin is not None:
            row["seeds_needed"] = row["estimate"].seeds_needed(margin, alpha / len(tested))
        row["note"] = "; ".join(_notes(row, len(tested), margin, alpha))
        row.setdefault("test", "")
    return rows


def _add_picked(rows: list[dict[str, Any]], alpha: float, *, across_tasks: bool) -> None:
    """Add the interval of a comparison that is picked from all of its task, or of all tasks, with its baseline."""
    tested = [row for row in rows if "estimate" in row]
    groups = [(None if across_tasks else row["task"], row["baseline"]) for row in tested]
    for row, group in zip(tested, groups, strict=True):
        row["picked_low"], row["picked_high"] = row["estimate"].interval(1 - alpha / groups.count(group))


def _counts_and_means(pairs: pd.DataFrame) -> dict[str, Any]:
    cell, baseline = pairs["value"].notna(), pairs["baseline_value"].notna()
    both = pairs.loc[cell & baseline]
    enough = len(both) >= paired.MIN_SEEDS and both["value"].nunique() > 1 and both["baseline_value"].nunique() > 1
    return {
        "n_seeds": len(both),
        "n_failed": int((~cell & baseline).sum()),
        "n_baseline_failed": int((cell & ~baseline).sum()),
        "mean": both["value"].mean(),
        "baseline_mean": both["baseline_value"].mean(),
        "mean_difference": both["difference"].mean(),
        "pairing_correlation": both["value"].corr(both["baseline_value"]) if enough else math.nan,
    }


def _differences(pairs: pd.DataFrame, per_image: PerImage, n_comparisons: int) -> dict[str, Any]:
    """Return the differences of seeds, float64 [S], and of images, [S1, N] or None, and how many seeds a test needs."""
    trials, results = (pairs[[name, f"baseline_{name}"]].to_numpy().T for name in ("trial_id", "result"))
    contributions = image_contributions(trials, results, per_image)
    images = None if contributions is None else contributions[0] - contributions[1]
    differences = pairs["difference"].to_numpy()
    return {
        "differences": differences,
        "images": images,
        "min_seeds": least_seeds(len(differences), images, n_comparisons),
    }


def _tests(
    differences: np.ndarray, images: np.ndarray | None, n_comparisons: int, margin: float | None, alpha: float
) -> dict[str, Any]:
    """Return the numbers that need enough seeds for a test, and `estimate`, the mean difference with its error."""
    tested = paired_test(differences, images, n_comparisons, alpha)
    found: dict[str, Any] = {
        "estimate": tested.estimate,
        "test": tested.test,
        "n_evaluated": tested.n_images,
        "p": tested.p_value(),
        "p_equivalence": math.nan if margin is None else tested.equivalence_p(margin),
        "hedges_g": paired.hedges_g(differences),
        "smallest_detectable": tested.estimate.smallest_detectable(alpha / n_comparisons),
    }
    alone = seeds_mean(differences)
    found["conservative_p"] = tested.conservative_p(found["p"], alone.p_value())
    equivalence = math.nan if margin is None else alone.equivalence_p(margin)
    found["conservative_p_equivalence"] = tested.conservative_p(found["p_equivalence"], equivalence)
    intervals = {
        "ci": tested.estimate.interval(1 - alpha),
        "family": tested.estimate.interval(1 - alpha / n_comparisons),
        "seeds": paired.t_interval(differences, 1 - alpha),
    }
    if len(differences) >= paired.BCA_SEEDS:
        intervals["bca"] = paired.bca_interval(differences, 1 - alpha)
    for name, (low, high) in intervals.items():
        found |= {f"{name}_low": low, f"{name}_high": high}
    return found


def _answer(row: dict[str, Any], mode: Mode, margin: float | None, alpha: float) -> str:
    inside = margin is not None and -margin < row["ci_low"] and row["ci_high"] < margin  # false without an interval
    if inside and row["p_equivalence_holm"] <= alpha and not row["n_failed"] and not row["n_baseline_failed"]:
        return EQUIVALENT
    gained = (row["mean_difference"] > 0) == (mode == "max")
    failures = row["n_failed"] if gained else row["n_baseline_failed"]
    if row["p_holm"] <= alpha and not failures:
        return BETTER if gained else WORSE
    return INCONCLUSIVE


def _notes(row: dict[str, Any], n_comparisons: int, margin: float | None, alpha: float) -> list[str]:
    """Return why the answer differs from what the other numbers suggest, as plain clauses."""
    answer, n_seeds, notes = row["answer"], row["n_seeds"], []
    if row["n_failed"]:
        of = n_seeds + row["n_failed"]
        notes.append(f"failed at {row['n_failed']} of {of} seeds of its baseline, so neither better nor equivalent")
    if row["n_baseline_failed"]:
        of = n_seeds + row["n_baseline_failed"]
        notes.append(
            f"the baseline failed at {row['n_baseline_failed']} of {of} seeds, so neither worse nor equivalent"
        )
    if answer == TOO_FEW:
        return [*notes, f"seeds with a value of both: {n_seeds}; a test needs {row['min_seeds']}"]
    low, high = row["ci_low"], row["ci_high"]
    if math.isnan(low):
        return [*notes, "every seed has the same difference, so there is no interval, and only signs are tested"]
    excludes_zero, certain = low > 0 or high < 0, row["p_holm"] <= alpha
    if excludes_zero and not certain:
        reason = _reason(row, "p", n_comparisons, alpha)
        notes.append(f"the interval excludes 0, but {reason} leaves the answer open")
    if certain and not excludes_zero:
        notes.append("the sign-flip test finds a difference, although the t interval includes 0")
    if margin is None:
        return notes
    if answer == INCONCLUSIVE and row["seeds_needed"] is None and row["n_evaluated"]:
        least = row["estimate"].least_images(margin, alpha / n_comparisons, row["n_evaluated"])
        notes.append(f"more seeds alone cannot settle it: a margin of {margin:g} needs more than {least} images")
    inside = -margin < low and high < margin
    if answer == EQUIVALENT and certain:
        notes.append("there is a difference, smaller than the margin")
    if answer != EQUIVALENT and not inside and row["p_equivalence_holm"] <= alpha:
        notes.append("one-sided tests find it within the margin, but the interval reaches beyond it")
    if inside and row["p_equivalence_holm"] > alpha:
        reason = _reason(row, "p_equivalence", n_comparisons, alpha)
        notes.append(f"the interval is within the margin, but {reason} leaves equivalence open")
    return notes


def _reason(row: Mapping[str, Any], name: str, n_comparisons: int, alpha: float) -> str:
    """Return what makes a p-value larger than its interval suggests."""
    if row[name] > alpha:
        return "the sign-flip test"
    if n_comparisons > 1 and row[f"conservative_{name}"] > row[name]:
        return f"the p-value over seeds alone, adjusted for {n_comparisons} comparisons,"
    return f"Holm's adjustment for {n_comparisons} comparisons"
