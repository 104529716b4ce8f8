"""Shortcuts: whether a pretext task is solved as well on images that are reduced to their lighting or their border.

`trainables.training.shortcuts` measures both at the end of training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from analysis.data.study import Study
from analysis.data.tables import LAST, chance_column, is_accuracy, last_values
from analysis.records.phases import CONFIRM
from analysis.stats import ALPHA

CUES: Mapping[str, str] = {  # metric: what the images are reduced to
    "shortcut/lighting": "their smooth lighting",
    "shortcut/border": "their border",
}
# Share of what the task has learned that must be left, and share of the way from chance to a perfect score that it must
# have learned: the little that a weak network knows of natural images is often light, as of the sky. docs/statistics.md
# has the rates with which real images reach both.
LEFT, LEARNED = 0.75, 0.5
COLUMNS = ["task", "cue", "metric", "n_seeds", "whole", "reduced", "chance", "ci_low", "ci_high", "left"]


def shortcuts(study: Study) -> pd.DataFrame:
    """Compare each task's chosen configuration on whole validation images and on reduced ones, at the end of training.

    Returns:
        One row per cue that was measured on a task with an accuracy, with the columns COLUMNS: means over the fresh
        seeds of the metric on whole and on reduced images, its chance level, the 95% interval of the mean on reduced
        images over new images and new seeds (over new images only for one seed, which does not show how seeds differ),
        and the share `left` of what the task has learned above chance.
    """
    last, rows = last_values(study.runs, study.curves).set_index("trial_id"), []
    for task, choice in study.outcomes.get(CONFIRM, {}).get("chosen", {}).items():
        own = last.loc[last.index.isin(choice["trial_ids"])]
        for cue in CUES:
            if LAST + cue not in own or own[LAST + cue].isna().any() or own.empty:
                continue
            metric = str(own["primary_metric"].iloc[0])
            if not is_accuracy(metric):
                continue  # no scale from guessing to a perfect score
            whole, chance = float(own[LAST + metric].mean()), float(own[chance_column(metric)].iloc[0])
            values, over_images = (own[name].to_numpy(np.float64) for name in (LAST + cue, f"{LAST}{cue}_se"))
            reduced, half = float(values.mean()), float(half_width(values, over_images))
            left = (reduced - chance) / (whole - chance) if whole > chance else math.nan
            rows.append((task, cue, metric, len(own), whole, reduced, chance, reduced - half, reduced + half, left))
    return pd.DataFrame(rows, columns=COLUMNS)


def is_shortcut(rows: pd.DataFrame) -> pd.Series:
    """Whether each row of `shortcuts` shows that the cue suffices.

    The task has learned at least LEARNED of the way to a perfect score, and the whole interval on reduced images is
    beyond LEFT of what it has learned.
    """
    learned = rows["whole"] - rows["chance"]
    return (learned >= LEARNED * (1 - rows["chance"])) & (rows["ci_low"] >= rows["chance"] + LEFT * learned)


def half_width(values: np.ndarray, over_images: np.ndarray) -> np.ndarray:
    """Return half the width of the 95% interval of a mean over seeds, float64 [...].

    The seeds share their images, so their errors over images do not average out. Each of the two parts has its own
    quantile: Student's t with S - 1 degrees of freedom for the seeds, the normal distribution for the images. For one
    seed, the interval is over new images only.

    Args:
        values: The metric of each seed, float64 [..., S].
        over_images: Its standard error over images, float64 [..., S].
    """
    n_seeds = values.shape[-1]
    images = stdtrit(math.inf, 1 - ALPHA / 2) ** 2 * np.mean(np.square(over_images), axis=-1)
    if n_seeds == 1:
        return np.sqrt(images)
    return np.sqrt(stdtrit(n_seeds - 1, 1 - ALPHA / 2) ** 2 * values.var(axis=-1, ddof=1) / n_seeds + images)
