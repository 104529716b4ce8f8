"""What pays more, labels or images: the gains that the laws of few labels and of the data size expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparisons.few_labels import FROZEN, label_results
from analysis.comparisons.selection import finished_values
from analysis.data.study import Study
from analysis.stats.scaling_law import MIN_LAW_SEEDS, MIN_LAW_SIZES, Gain, expected_gain, gain_difference

MORE_LABELS, MORE_IMAGES = 100, 1_000
SIZES_DESIGN = "size_by_strength"


@dataclass(frozen=True)
class MoreData:
    """The answer for one task.

    Attributes:
        labels: Gain from MORE_LABELS labels, of the linear probe on the test split; None if the study cannot say.
        images: Gain from MORE_IMAGES images, of the ablation's metric; None if the study cannot say.
        difference: 95% interval of `labels` minus `images`; None without both.
        needed: What it would take to know, in the words of a configuration; empty if it is known.
    """

    labels: Gain | None
    images: Gain | None
    difference: tuple[float, float] | None
    needed: tuple[str, ...] = ()


def more_data(study: Study, dataset: str, task: str, sizes: pd.DataFrame, metric: str | None) -> MoreData:
    """Return what more labels and more images are expected to add to the linear probe of a task.

    Args:
        study: The study.
        dataset: Data set that it trains on and probes.
        task: The task.
        sizes: Runs of the ablation over numbers of images, with otherwise equal settings; may be empty.
        metric: Column of `sizes` with a linear probe; None if the ablation has another metric.
    """
    counts = study.datasets.get(dataset, {}).get("counts", {})
    by_labels = _by_labels(study, dataset, task, counts.get("probe_train"))
    by_images = pd.DataFrame()
    if metric is not None and len(sizes):
        points = sizes.assign(value=finished_values(sizes, metric))
        points["n"] = points["n_images"].astype("Float64").fillna(counts.get("pretext_train", pd.NA))
        by_images = _wide(points)
    labels, images = _gain(by_labels, MORE_LABELS), _gain(by_images, MORE_IMAGES)
    needed = []
    if labels is None:
        needed.append(_needed(by_labels, MORE_LABELS, "labels", "evaluate.labels_per_class", "confirm.seeds"))
    if images is None:
        needed.append(_needed(by_images, MORE_IMAGES, "images", f"{SIZES_DESIGN} and ablate.sizes", "ablate.seeds"))
    difference = gain_difference(labels, images) if labels and images else None
    return MoreData(labels, images, difference, tuple(needed))


def _by_labels(study: Study, dataset: str, task: str, n_labeled: int | None) -> pd.DataFrame:
    """Return the probe on frozen features by seed and total number of labels."""
    results = label_results(study.tested)
    own = results.loc[(results["dataset"] == dataset) & (results["task"] == task) & (results["way"] == FROZEN)]
    n_classes = study.datasets.get(dataset, {}).get("n_classes", 0)
    total: Any = own["labels"].astype("Float64") * n_classes
    return _wide(own.assign(n=total.fillna(pd.NA if n_labeled is None else n_labeled)))


def _wide(points: pd.DataFrame) -> pd.DataFrame:
    """Return values by seed and number n, only seeds with all numbers."""
    known = points.loc[points["n"].notna()]
    return known.pivot_table("value", "seed", "n").sort_index(axis=1).dropna()


def _gain(wide: pd.DataFrame, more: int) -> Gain | None:
    if wide.empty:
        return None
    return expected_gain(wide.columns.to_numpy(np.float64), wide.to_numpy(np.float64), more)


def _needed(wide: pd.DataFrame, more: int, what: str, setting: str, seeds: str) -> str:
    """Return why a gain is not known and which setting would tell."""
    n_seeds, n_sizes = wide.shape
    if n_sizes < MIN_LAW_SIZES or n_seeds < MIN_LAW_SEEDS:
        return (
            f"for {what}, {MIN_LAW_SIZES} numbers in {setting} at {seeds} = {MIN_LAW_SEEDS} or more "
            f"(there are {n_sizes} at {n_seeds} seeds)"
        )
    largest, second = wide.columns[-1], wide.columns[-2]
    if (largest + more) / largest > largest / second:
        return (
            f"for {what}, larger numbers in {setting}: {more:,} more than {largest:,.0f} is further than the step from "
            f"{second:,.0f}, over which the law was tested"
        )
    return f"for {what}, another law: the one of {setting} does not predict the largest number"
