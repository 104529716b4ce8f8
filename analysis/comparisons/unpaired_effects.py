"""Effects between cells that were evaluated on different images, whose means are independent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparisons.designs import COMPARED_DTYPES, Metric
from analysis.comparisons.images import image_contributions
from analysis.comparisons.paired_effects import BETTER, INCONCLUSIVE, TOO_FEW, WORSE
from analysis.comparisons.selection import outcomes
from analysis.data import tables
from analysis.data.per_image import PerImage
from analysis.stats import paired
from analysis.stats.crossed import CrossedMean, crossed_mean, least_seeds
from analysis.stats.significance import ALPHA
from analysis.stats.unpaired import UnpairedMean

OTHER_IMAGES = "other images"
UNPAIRED_T = "unpaired t"
NO_IMAGES = "other images and no per-image results of both, so the choice of images is not excluded and nothing tested"


def unpaired_effects(runs: pd.DataFrame, metric: Metric, baseline: str, per_image: PerImage) -> pd.DataFrame:
    """Compare the cells of one task with the baseline as independent samples of seeds and images, as one family.

    The choice of images can be excluded only with per-image results, so there is no interval without them. Equivalence
    is not tested: other images may be harder ones.

    Args:
        runs: Runs of one task.
        metric: The metric to compare by.
        baseline: Cell that the others are compared with.
        per_image: Per-image results of the runs.

    Returns:
        A frame with the columns COMPARED_DTYPES; n_seeds is the smaller number of the two cells.
    """
    ended = outcomes(runs, metric.column)
    cells = [name for name in ended["cell"].unique() if name != baseline]
    reference = ended.loc[ended["cell"] == baseline]
    split, task = tables.split_of(runs, metric.column), runs["task"].iloc[0]
    rows = []
    for name in cells:
        key = {"task": task, "design": OTHER_IMAGES, "cell": name, "baseline": baseline, "split": split}
        measured = {"metric": metric.column, "mode": metric.mode}
        own = ended.loc[ended["cell"] == name]
        rows.append(key | measured | _row(own, reference, metric.column, per_image, len(cells)))
    tested = [row for row in rows if "p" in row]
    # Without `conservative_p`: the critical value of a difference of two means leaves enough room for Holm's levels.
    for row, p_holm in zip(tested, paired.holm(np.array([row["p"] for row in tested])), strict=True):
        row["p_holm"] = p_holm
        row["answer"] = _answer(row, metric)
    return pd.DataFrame(rows, columns=list(COMPARED_DTYPES)).astype(COMPARED_DTYPES)


def _row(
    own: pd.DataFrame, reference: pd.DataFrame, column: str, per_image: PerImage, n_comparisons: int
) -> dict[str, Any]:
    """Return counts and means, and the tests where both cells have enough seeds and per-image results."""
    frames = [own.dropna(subset="value"), reference.dropna(subset="value")]
    means = [frame["value"].mean() for frame in frames]
    row: dict[str, Any] = {
        "n_seeds": min(map(len, frames)),
        "n_failed": len(own) - len(frames[0]),
        "n_baseline_failed": len(reference) - len(frames[1]),
        "mean": means[0],
        "baseline_mean": means[1],
        "mean_difference": means[0] - means[1],
        "answer": TOO_FEW,
        "note": "",
        "test": "",
    }
    images = [_images(frame, column, per_image) for frame in frames]
    needed = max(least_seeds(len(frame), found, n_comparisons) for frame, found in zip(frames, images, strict=True))
    if any(found is None for found in images) and row["n_seeds"] >= paired.MIN_SEEDS:
        return row | {"answer": INCONCLUSIVE, "note": NO_IMAGES}
    if row["n_seeds"] < needed:
        return row | {"note": f"seeds with a value: {row['n_seeds']}; a test needs {needed}"}
    cell, baseline = (_mean(frame, found) for frame, found in zip(frames, images, strict=True))
    estimate = UnpairedMean(cell, baseline)
    if math.isnan(estimate.error):
        return row | {"answer": INCONCLUSIVE, "note": "no variance between seeds or images, so there is no interval"}
    intervals = {"ci": estimate.interval(1 - ALPHA), "family": estimate.interval(1 - ALPHA / n_comparisons)}
    row |= {
        f"{name}_{end}": each
        for name, ends in intervals.items()
        for end, each in zip(("low", "high"), ends, strict=True)
    }
    n_evaluated = min(found.shape[1] for found in images if found is not None)
    return row | {"p": estimate.p_value(), "test": UNPAIRED_T, "n_evaluated": n_evaluated}


def _images(runs: pd.DataFrame, column: str, per_image: PerImage) -> np.ndarray | None:
    """Return the contribution of each image at each seed, float64 [S1, N]; None without per-image results."""
    trials = runs["trial_id"].to_numpy(str)[None]
    found = image_contributions(trials, np.full(trials.shape, column, dtype=object), per_image)
    return None if found is None else found[0]


def _mean(runs: pd.DataFrame, images: np.ndarray | None) -> CrossedMean:
    assert images is not None
    return crossed_mean(runs["value"].to_numpy(), images)


def _answer(row: dict[str, Any], metric: Metric) -> str:
    gained = (row["mean_difference"] > 0) == (metric.mode == "max")
    if row["p_holm"] > ALPHA or row["n_failed" if gained else "n_baseline_failed"]:
        return INCONCLUSIVE
    return BETTER if gained else WORSE
