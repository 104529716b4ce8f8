"""What each evaluated image contributes to the results that are compared, and what intervals are therefore over."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.data.per_image import PerImage
from analysis.stats.crossed import MIN_SEEDS_WITH_IMAGES

OVER_BOTH = "over new seeds and new images"
OVER_SEEDS = "over seeds alone, on the same images (this study kept no per-image results of the metric)"
SOME_OVER_SEEDS = "and over seeds alone where no per-image results were kept"


def image_contributions(trials: np.ndarray, results: np.ndarray, per_image: PerImage) -> np.ndarray | None:
    """Return how much each image contributes to the results of several cells, at the seeds at which all kept it.

    Args:
        trials: Trial ids by cell and seed, str [C, S].
        results: Name of the result of each trial, str [C, S].
        per_image: Per-image results of these trials.

    Returns:
        float64 [C, S1, N], in the order of the split. None if fewer than MIN_SEEDS_WITH_IMAGES seeds have per-image
        results, or if the trials were not evaluated on the same number of images, as after a change of the data.
    """
    seeds: list[list[np.ndarray]] = []
    for names in zip(trials.T, results.T, strict=True):
        found = [per_image.contributions(trial, result) for trial, result in zip(*names, strict=True)]
        own = [each for each in found if each is not None]
        if len(own) == len(found):
            seeds.append(own)
    sizes = {len(each) for own in seeds for each in own}
    if len(seeds) < MIN_SEEDS_WITH_IMAGES or len(sizes) > 1 or sizes <= {0, 1}:
        return None
    return np.swapaxes(np.array(seeds), 0, 1)


def interval_scope(effects: pd.DataFrame) -> str:
    """Return a sentence on what the intervals of `effects` hold for; empty without an interval."""
    given = effects.loc[effects["ci_low"].notna()]
    if given.empty:
        return ""
    with_images = given["n_evaluated"].notna()
    if with_images.all():
        return f"Intervals are {OVER_BOTH}."
    return f"Intervals are {OVER_BOTH}, {SOME_OVER_SEEDS}." if with_images.any() else f"Intervals are {OVER_SEEDS}."
