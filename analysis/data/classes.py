"""Classes of a data set: the rule that replaces accuracy by balanced accuracy, and the accuracy of each class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.tables import is_comparison_probe, long_form, probe_results
from analysis.stats.binomial import wilson_interval
from trainables.trial import BASELINES, CLASS_AVERAGES

MIN_RATIO = 3.0
FEW_IMAGES = 20  # the 95 % interval of the accuracy of a class with fewer images may be wider than 0.4

BALANCED = "linear_balanced_accuracy"
SPLITS = {"validation": "probe_validation", "test": "test"}  # names of `class_counts` by `probe_split`
_LARGEST = re.compile(r"probe/(?P<dataset>.+)/largest_class")
_IOU = re.compile(r"probe/(?P<dataset>.+)/iou/(?P<name>.+)")
_CLASS = re.compile(r"probe/(?P<dataset>.+)/class_accuracy/(?P<name>[^/]+)")


def is_imbalanced(largest_class: float, n_classes: float) -> bool:
    """Whether answers about a data set use balanced accuracy instead of accuracy.

    They do if the largest class has at least MIN_RATIO times as many of the evaluated images as the other classes have
    on average: a share of at least 3 / (K + 2), which is 0.75 for two classes, 0.25 for ten and 0.03 for a hundred. It
    separates the data sets that are usually reported by accuracy (SVHN, 0.20 of 10) from those usually reported by the
    mean of the classes' accuracies (Caltech-101 and Flowers-102; Kornblith 2019, 1805.08974, table 1). Draws of
    images from equally frequent classes rarely do: with probability 0.01 for 50 images of ten classes, and 0.0001 for
    100.

    Args:
        largest_class: Share of the largest class among the evaluated images; NaN if it is not known, which is never
            imbalanced.
        n_classes: Number of classes K.
    """
    return n_classes > 1 and largest_class * (n_classes - 1) >= MIN_RATIO * (1 - largest_class)


def imbalanced(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the data sets whose evaluated images are imbalanced and were scored by balanced accuracy.

    A data set with a run that has an accuracy but no balanced accuracy, as from an earlier version, is left out: its
    runs can be compared by accuracy only.

    Returns:
        One row per data set and split: dataset, probe_split, largest_class, n_classes.
    """
    rows = []
    for column in runs:
        match = _LARGEST.fullmatch(column)
        prefix = column.removesuffix("largest_class")
        if not match or not {f"{prefix}{name}" for name in ("chance", "linear", BALANCED)} <= set(runs):
            continue
        if (runs[f"{prefix}linear"].notna() & runs[f"{prefix}{BALANCED}"].isna()).any():
            continue
        known = runs.loc[runs[column].notna() & runs[f"{prefix}chance"].notna()]
        for split, own in known.groupby("probe_split", sort=False):
            share, n_classes = own[column].iloc[0], round(1 / own[f"{prefix}chance"].iloc[0])
            if is_imbalanced(share, n_classes):
                rows.append((match["dataset"], split, share, n_classes))
    return pd.DataFrame(rows, columns=["dataset", "probe_split", "largest_class", "n_classes"])


def comparison_columns(runs: pd.DataFrame) -> list[str]:
    """Return the final results by which encoders are compared: of data sets with labels first, then of masks.

    The result of a data set with labels is the accuracy of the linear probe, or its balanced accuracy if the data set
    is `imbalanced`.
    """
    names = [name for name in runs if is_comparison_probe(name)]
    replaced = {f"probe/{name}/linear": f"probe/{name}/{BALANCED}" for name in imbalanced(runs)["dataset"]}
    return [replaced.get(name, name) for name in sorted(names, key=lambda name: name.endswith("/miou"))]


def headline_results(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `tables.probe_results` to show: averages over classes only where these are `imbalanced`."""
    results = probe_results(runs)
    is_average = results["probe"].str.endswith(CLASS_AVERAGES)
    return results.loc[~is_average | results["dataset"].isin(imbalanced(runs)["dataset"])]


def class_accuracies(runs: pd.DataFrame, datasets: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return the accuracy of the linear probe on the images of each class, by task.

    Args:
        runs: Runs of one configuration per task.
        datasets: `Study.datasets`, with `class_names` and `class_counts`.

    Returns:
        One row per data set, split, class and task, the baselines last: dataset, probe_split, class, task, n_seeds,
        n_images (Int64, of this class in the split; missing if it was not recorded), mean over seeds, ci_low and
        ci_high, the `wilson_interval` of a probe with this mean over n_images, which is about other images of the
        class and not about other seeds; and few (whether n_images is below FEW_IMAGES). Classes are in the order of
        the data set.
    """
    found = long_form(runs, _CLASS, ["task", "probe_split"]).rename(columns={"name": "class"})
    keys = ["dataset", "probe_split", "class", "task"]
    found = found.groupby(keys, sort=False, as_index=False).agg(n_seeds=("value", "size"), mean=("value", "mean"))
    found = found.sort_values("task", key=lambda tasks: tasks.isin(BASELINES), kind="stable", ignore_index=True)
    known = [_n_images(datasets.get(name, {}), split, label) for name, split, label in found[keys[:3]].to_numpy()]
    found["n_images"] = pd.array(known, "Int64")
    n_images = found["n_images"].to_numpy(np.float64, na_value=np.nan)
    found["ci_low"], found["ci_high"] = wilson_interval(found["mean"].to_numpy(np.float64), n_images)
    return found.assign(few=n_images < FEW_IMAGES)


def class_ious(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the mean IoU of each class by task.

    Args:
        runs: Runs of one split and one configuration per task.

    Returns:
        dataset, class, then one column per task, the baselines last. Classes are in the order of the data set; classes
        that do not occur in the split have no row.
    """
    columns = [name for name in runs if _IOU.fullmatch(name) and runs[name].notna().any()]
    if not columns:
        return pd.DataFrame({"dataset": [], "class": []})
    tasks = sorted(runs["task"].unique(), key=lambda task: task in BASELINES)
    means = runs.groupby("task", sort=False)[columns].mean().T.reindex(columns=tasks).dropna(axis=1, how="all")
    parts = [_IOU.fullmatch(name) for name in columns]
    means.insert(0, "dataset", [part["dataset"] for part in parts if part])
    means.insert(1, "class", [part["name"] for part in parts if part])
    return means.reset_index(drop=True).rename_axis(columns=None)


def _n_images(dataset: Mapping[str, Any], split: str, label: str) -> int | None:
    """Return the number of images of a class in a probed split; None if the study does not record it."""
    counts = (dataset.get("class_counts") or {}).get(SPLITS.get(split, ""))
    names = list(dataset.get("class_names") or ())
    return counts[names.index(label)] if counts and label in names else None
