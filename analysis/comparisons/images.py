"""Differences between the paired trials of a comparison on each evaluated image."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.data.per_image import PerImage
from analysis.stats.crossed import MIN_SEEDS_WITH_IMAGES

OVER_BOTH = "over new seeds and new images"
OVER_SEEDS = "over seeds alone, on the same images (this study kept no per-image results of the metric)"
SOME_OVER_SEEDS = "and over seeds alone where no per-image results were kept"


def image_differences(pairs: pd.DataFrame, per_image: PerImage) -> np.ndarray | None:
    """Return how much each image contributes to the difference of each seed.

    Args:
        pairs: One row per seed: `trial_id` and `result`, the name of the compared result, of a cell, and
            `baseline_trial_id` and `baseline_result` of its baseline.
        per_image: Per-image results of these trials.

    Returns:
        float64 [S, N], for the seeds at which both trials have per-image results, in the order of the split. None if
        these are fewer than MIN_SEEDS_WITH_IMAGES, or if they were not evaluated on the same number of images, as after
        a change of the data.
    """
    rows: list[np.ndarray] = []
    for pair in pairs.to_dict("records"):
        cell = per_image.contributions(pair["trial_id"], pair["result"])
        baseline = per_image.contributions(pair["baseline_trial_id"], pair["baseline_result"])
        if cell is None or baseline is None:
            continue
        if len(cell) != len(baseline) or (rows and len(rows[0]) != len(cell)):
            return None
        rows.append(cell - baseline)
    return np.stack(rows) if len(rows) >= MIN_SEEDS_WITH_IMAGES and rows[0].size > 1 else None


def interval_scope(effects: pd.DataFrame) -> str:
    """Return what the intervals of `effects` are over, as a sentence; empty if there is no interval."""
    given = effects.loc[effects["ci_low"].notna()]
    if given.empty:
        return ""
    with_images = given["n_images"].notna()
    if with_images.all():
        return f"Intervals are {OVER_BOTH}."
    return f"Intervals are {OVER_BOTH}, {SOME_OVER_SEEDS}." if with_images.any() else f"Intervals are {OVER_SEEDS}."
