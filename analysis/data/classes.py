"""Classes of a data set: where balanced accuracy replaces accuracy, and the accuracy of each class."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.data.baselines import are_baselines
from analysis.data.study import Study
from analysis.data.tables import LAST, chance_column, is_comparison_probe, is_final_result, level_names, probe_results
from analysis.stats.binomial import wilson_interval
from trainables.objective import is_imbalanced
from trainables.per_image import LABELS
from trainables.trial import CLASS_AVERAGES, ONLINE_PROBES, is_baseline

FEW_IMAGES = 20  # the 95% interval of the accuracy of a class with fewer images may be wider than 0.4

ROUNDING = 1e-6  # relative difference between two records of one level
BALANCED = "linear_balanced_accuracy"
_LARGEST = re.compile(r"probe/(?P<dataset>.+)/largest_class")
_IOU = re.compile(r"probe/(?P<dataset>.+)/iou/(?P<name>.+)")


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


class Levels(NamedTuple):
    """Scores of predictors that do not look at the image; NaN if unknown, not defined for a metric, or not one number.

    Attributes:
        chance: Of guessing every class equally often.
        largest_class: Of always predicting the most frequent class of the evaluated images.
    """

    chance: float = np.nan
    largest_class: float = np.nan


def levels_of(runs: pd.DataFrame, column: str) -> Levels:
    """Return the levels to compare the accuracy of a probe with.

    A level that the runs do not agree on is NaN: different pretext tasks, and SimCLR at different batch sizes, have
    different levels of chance.

    Args:
        runs: Runs of one split, with `last_values` for the online probes.
        column: A column of `runs`: a final result, or `last/METRIC`.
    """
    if is_final_result(column):
        dataset, probe = column.rsplit("/", 1)
        names = [f"{dataset}/{name}" for name in level_names(probe)]
    else:
        metric = column.removeprefix(LAST)
        names = [chance_column(metric), "largest_class" if metric in ONLINE_PROBES else ""]
    return Levels(*(_agreed(runs[name]) if name in runs else np.nan for name in names))


def _agreed(values: pd.Series) -> float:
    """Return the value that all runs with one have; NaN if they differ by more than a rounding error."""
    low, high = float(values.min()), float(values.max())
    return high if high - low <= ROUNDING * abs(high) else np.nan


def online_probe(last: pd.DataFrame) -> str:
    """Return the online probe that answers are based on: the linear one, by balanced accuracy for imbalanced classes.

    Args:
        last: Runs with their `last_values`. If some have an accuracy but no balanced accuracy, as from an earlier
            version, accuracy is the one to compare them by.
    """
    accuracy, balanced = LAST + ONLINE_PROBES[0], f"{LAST}probe/{BALANCED}"
    if balanced not in last or (last[accuracy].notna() & last[balanced].isna()).any():
        return ONLINE_PROBES[0]
    levels = levels_of(last, accuracy)
    return f"probe/{BALANCED}" if is_imbalanced(levels.largest_class, 1 / levels.chance) else ONLINE_PROBES[0]


def class_accuracies(study: Study, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of the linear probe on the images of each class, by task.

    Args:
        study: The study, with the results of each image.
        runs: Runs of the study, of one split and one configuration per task.

    Returns:
        One row per data set, class of its evaluated images, and task, the baselines last: dataset, class, task,
        n_seeds, n_images of the class, mean over seeds, the ends ci_low and ci_high of its `wilson_interval`, which
        holds for other images of the class and not for other seeds, and few (whether n_images is below FEW_IMAGES).
        Trials of earlier versions, which kept no results of images, are left out.
    """
    rows = []
    for column in (name for name in runs if is_comparison_probe(name) and name.endswith("/linear")):
        prefix = column.removesuffix("linear")
        dataset = prefix.removeprefix("probe/").removesuffix("/")
        names = list(study.datasets.get(dataset, {}).get("class_names") or ())
        for trial_id, task in runs.loc[runs[column].notna(), ["trial_id", "task"]].itertuples(index=False):
            correct, labels = (study.per_image.array(trial_id, f"{prefix}{name}") for name in ("linear", LABELS))
            if correct is None or labels is None:
                continue
            counts = np.bincount(labels)
            for label in np.flatnonzero(counts):
                name = names[label] if label < len(names) else str(label)
                rows.append((dataset, name, task, counts[label], correct[labels == label].mean()))
    found = pd.DataFrame(rows, columns=["dataset", "class", "task", "n_images", "value"])
    found = found.sort_values("task", key=are_baselines, kind="stable")
    groups = found.groupby(["dataset", "class", "task", "n_images"], sort=False)["value"]
    found = groups.agg(n_seeds="size", mean="mean").reset_index()
    found["ci_low"], found["ci_high"] = wilson_interval(found["mean"], found["n_images"])
    return found.assign(few=found["n_images"] < FEW_IMAGES)


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
    tasks = sorted(runs["task"].unique(), key=is_baseline)
    means = runs.groupby("task", sort=False)[columns].mean().T.reindex(columns=tasks).dropna(axis=1, how="all")
    parts = [_IOU.fullmatch(name) for name in columns]
    means.insert(0, "dataset", [part["dataset"] for part in parts if part])
    means.insert(1, "class", [part["name"] for part in parts if part])
    return means.reset_index(drop=True).rename_axis(columns=None)
