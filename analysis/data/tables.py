"""Tables: frame in, frame out. The numbers that the report prints and the figures draw."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import beta, norm

from analysis.stats import ALPHA
from trainables.trial import BASELINES, NON_TRAINING_FIELDS, TrialConfig

CONFIDENCE = 1 - ALPHA
LAST = "last/"
ACCURACIES = ("accuracy", "linear", "knn")  # last words of the metrics that are shares of right answers
JUDGING = ("linear", "miou")  # final probes that encoders are compared by; the first that a data set has
MINIMISED = ("loss", "alignment", "uniformity")  # words in the names of metrics of which less is better
_PROBE = re.compile(r"probe/(?P<dataset>.+)/(?P<probe>linear|knn|miou)")
_CHANCE = re.compile(r"probe/(?P<dataset>.+)/(?P<level>chance|miou_chance)")
_STAGE = re.compile(r"probe/(?P<dataset>.+)/(?P<probe>linear|miou)/stage(?P<stage>\d+)")
_CLASS = re.compile(r"probe/(?P<dataset>.+)/iou/(?P<name>.+)")
_NOT_SEARCHED = (*NON_TRAINING_FIELDS, "report_every")


def last_values(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Return `runs` with a column `last/METRIC` for every metric of `curves`: its value at the trial's last report.

    The last value, not the best: the best of many noisy reports looks better than the encoder that is kept.
    """
    wide = _last_points(curves).pivot(index="trial_id", columns="metric", values="value").add_prefix(LAST)
    return runs.merge(wide, how="left", left_on="trial_id", right_index=True)


def is_accuracy(metric: str) -> bool:
    """Whether a metric is a share of right answers, so that it lies in [0, 1] and binomial bounds apply."""
    return metric.rsplit("/", 1)[-1] in ACCURACIES


def is_share(metric: str) -> bool:
    """Whether a metric is an accuracy or mIoU, so that it lies in [0, 1] and 1 is its best."""
    return is_accuracy(metric) or metric.rsplit("/", 1)[-1] == "miou"


def is_final_accuracy(column: str) -> bool:
    """Whether a column of `runs` is the accuracy of a final probe, `probe/DATASET/linear` or `probe/DATASET/knn`."""
    return _PROBE.fullmatch(column) is not None and is_accuracy(column)


def is_judging(column: str) -> bool:
    """Whether a column of `runs` is what encoders are compared by: a final linear probe's accuracy or a final mIoU."""
    match = _PROBE.fullmatch(column)
    return match is not None and match["probe"] in JUDGING


def mode_of(runs: pd.DataFrame, column: str) -> Literal["max", "min"]:
    """Return whether more (`max`) or less (`min`) of a metric is better: as its task says, otherwise by its name."""
    name = column.removeprefix(LAST)
    primary = runs.loc[runs["primary_metric"] == name, "primary_mode"]
    if len(primary):
        return "min" if primary.iloc[0] == "min" else "max"
    return "min" if any(word in name.rsplit("/", 1)[-1] for word in MINIMISED) else "max"


def accuracy_lower_bound(accuracy: np.ndarray, n_images: np.ndarray) -> np.ndarray:
    """Return the exact one-sided 95 % lower bound (Clopper and Pearson 1934) of accuracies over independent images.

    accuracy: float64 [M] in [0, 1]; n_images: [M], positive. NaN where either is missing or out of range.
    """
    accuracy, n_images = np.asarray(accuracy, np.float64), np.asarray(n_images, np.float64)
    right = np.round(accuracy * n_images)
    bound = beta.ppf(1 - CONFIDENCE, right, n_images - right + 1)  # NaN for none right, where the bound is 0
    return np.where(right == 0, 0.0, bound)


def against_chance(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Compare each trial's primary validation metric, at its last report, with its chance level.

    Returns trial_id, phase, task, cell, seed, metric, mode, value, untrained, chance, n_validation, bound, ratio,
    beats_chance, one row for each trial with a primary metric and a report. ratio is value / chance.
    untrained: the value at step 0, NaN where that was not reported; a network that has learned nothing may stand
    beyond chance already, as one does that tells views of two images apart by their colors.
    bound: the end of the value's one-sided 95 % interval on the side of chance: `accuracy_lower_bound` for an
    accuracy, value -+ 1.645 standard errors for other metrics where `METRIC_se` was reported, NaN otherwise.
    beats_chance: whether that bound, or for want of one the value itself, lies on the good side of chance; missing
    where chance is unknown. Both bounds take the n_validation predictions as independent.
    """
    last = _last_points(curves)
    errors = last.loc[last["metric"].str.endswith("_se")].rename(columns={"value": "standard_error"})
    errors["metric"] = errors["metric"].str.removesuffix("_se")
    found = runs.rename(columns={"primary_metric": "metric", "primary_mode": "mode"}).merge(
        last, on=["trial_id", "metric"]
    )
    found = found.merge(errors, how="left", on=["trial_id", "metric"])
    first = curves.loc[curves["step"] == 0, ["trial_id", "metric", "value"]].rename(columns={"value": "untrained"})
    found = found.merge(first, how="left", on=["trial_id", "metric"])
    sign = np.where(found["mode"] == "min", 1, -1)
    exact = accuracy_lower_bound(found["value"].to_numpy(), found["n_validation"].to_numpy(np.float64, na_value=np.nan))
    normal = found["value"] + sign * norm.ppf(CONFIDENCE) * found["standard_error"]
    found["bound"] = np.where(found["metric"].map(is_accuracy).astype(bool), exact, normal)
    found["ratio"] = found["value"] / found["chance"]
    judged = found["bound"].fillna(found["value"])
    beats = pd.Series(sign * (found["chance"] - judged) > 0, dtype="boolean")
    found["beats_chance"] = beats.mask(found["chance"].isna())
    names = ["trial_id", "phase", "task", "cell", "seed", "metric", "mode", "value", "untrained", "chance"]
    return found[[*names, "n_validation", "bound", "ratio", "beats_chance"]]


def probe_results(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the final probes in long form: trial_id, phase, task, seed, probe_split, dataset, probe, value, chance.

    probe is `linear`, `knn` or `miou`; chance is NaN where the number of classes is unknown. That of mIoU is background
    everywhere.
    """
    found = long_form(runs, _PROBE, ["trial_id", "phase", "task", "seed", "probe_split"])
    found["level"] = np.where(found["probe"] == "miou", "miou_chance", "chance")
    chances = long_form(runs, _CHANCE, ["trial_id"]).rename(columns={"value": "chance"})
    return found.merge(chances, how="left", on=["trial_id", "dataset", "level"]).drop(columns="level")


def long_form(runs: pd.DataFrame, pattern: re.Pattern[str], about: list[str]) -> pd.DataFrame:
    """Return one row for each value in the columns whose names match, column by column, without the missing ones.

    Its columns are those `about` the run, each named group of the pattern, and `value`, float64.
    """
    groups = {name: match.groupdict() for name in runs if (match := pattern.fullmatch(name))}
    found = runs.melt(about, list(groups), var_name="column").dropna(subset="value").astype({"value": float})
    for group in pattern.groupindex:
        found[group] = found["column"].map({name: parts[group] for name, parts in groups.items()})
    return found[[*about, *pattern.groupindex, "value"]].reset_index(drop=True)


def probe_summary(results: pd.DataFrame) -> pd.DataFrame:
    """Average `probe_results` over seeds: task, dataset, probe, n_seeds, mean, sd (ddof 1, NaN for one seed), chance.

    The baselines come last. Pass rows of one split and one configuration a task; others would be mixed.
    """
    groups = results.groupby(["task", "dataset", "probe"], sort=False)
    found = groups.agg(
        n_seeds=("value", "size"), mean=("value", "mean"), sd=("value", "std"), chance=("chance", "first")
    ).reset_index()
    return found.sort_values("task", key=lambda tasks: tasks.isin(BASELINES), kind="stable", ignore_index=True)


def stage_results(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the probes of every stage in long form: trial_id, task, seed, dataset, probe, stage (int, from 1), value.

    probe is `linear` or `miou`. Empty where `evaluate.probe_layers` was not `all`.
    """
    found = long_form(runs, _STAGE, ["trial_id", "task", "seed"])
    return found.astype({"stage": int})[["trial_id", "task", "seed", "dataset", "probe", "stage", "value"]]


def class_ious(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the mean IoU of each class by task: dataset, class, then one column a task, the baselines last.

    Classes are in the order of the data set; those that do not occur in a split's truth have no row. Pass the runs of
    one split and of one configuration a task.
    """
    columns = [name for name in runs if _CLASS.fullmatch(name) and runs[name].notna().any()]
    if not columns:
        return pd.DataFrame({"dataset": [], "class": []})
    tasks = sorted(runs["task"].unique(), key=lambda task: task in BASELINES)
    means = runs.groupby("task", sort=False)[columns].mean().T.reindex(columns=tasks).dropna(axis=1, how="all")
    parts = [_CLASS.fullmatch(name) for name in columns]
    means.insert(0, "dataset", [part["dataset"] for part in parts if part])
    means.insert(1, "class", [part["name"] for part in parts if part])
    return means.reset_index(drop=True).rename_axis(columns=None)


def not_above_baselines(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a `probe_summary` whose mean is no higher than an untrained baseline's under the same probe.

    Columns task, dataset, probe, mean, baseline, baseline_mean: pre-training that has shown no use there.
    """
    baselines = summary.loc[summary["task"].isin(BASELINES), ["task", "dataset", "probe", "mean"]]
    baselines = baselines.rename(columns={"task": "baseline", "mean": "baseline_mean"})
    pairs = summary.loc[~summary["task"].isin(BASELINES)].merge(baselines, on=["dataset", "probe"])
    names = ["task", "dataset", "probe", "mean", "baseline", "baseline_mean"]
    return pairs.loc[pairs["mean"] <= pairs["baseline_mean"], names].reset_index(drop=True)


def configurations(runs: pd.DataFrame) -> pd.Series:
    """Return a short name for each run's configuration, of the settings that differ within `runs`; seeds share one.

    Example: `rotation, lr=0.01, batch_size=64`. Returns str [N], indexed like `runs`; empty names where all are alike.
    """
    fields = [name for name in TrialConfig.__dataclass_fields__ if name in runs and name not in _NOT_SEARCHED]
    fields += [name for name in runs if name.startswith(("option/", "augmentation/"))]
    shown = [name for name in ("task", *fields) if runs[name].nunique(dropna=False) > 1]
    settings = [
        [_setting(*pair) for pair in zip(shown, row, strict=True)] for row in runs[shown].to_numpy(dtype=object)
    ]
    return pd.Series([", ".join(filter(None, row)) for row in settings], runs.index, dtype="str")


def best(runs: pd.DataFrame, column: str) -> Hashable | None:
    """Return the index label of the run with the best value in `column`; None where no run has a value.

    Best is lowest where `mode_of` says so.
    """
    values = runs[column].dropna() if column in runs else pd.Series(dtype=float)
    if values.empty:
        return None
    return values.idxmin() if mode_of(runs, column) == "min" else values.idxmax()


def statuses(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the number of trials of each task, and how many are in each status: task, trials, one column a status."""
    counts = pd.crosstab(runs["task"], runs["status"])
    counts.insert(0, "trials", counts.sum(axis=1))
    return counts.reset_index().rename_axis(columns=None)


def cost(runs: pd.DataFrame) -> pd.DataFrame:
    """Return what each phase cost: phase, trials, wall_s (summed over trials), steps, samples_seen, images_per_s.

    images_per_s is the mean over the trials that trained. Phases are in the order in which they started.
    """
    return (
        runs.groupby("phase", sort=False)
        .agg(
            trials=("trial_id", "size"),
            wall_s=("wall_s", "sum"),
            steps=("steps", "sum"),
            samples_seen=("samples_seen", "sum"),
            images_per_s=("images_per_s", "mean"),
        )
        .reset_index()
    )


def _last_points(curves: pd.DataFrame) -> pd.DataFrame:
    last = curves.sort_values("step", kind="stable").drop_duplicates(["trial_id", "metric"], keep="last")
    return last[["trial_id", "metric", "value"]]


def _setting(name: str, value: object) -> str:
    if name == "task":
        return str(value)
    if pd.isna(value):  # another task's option
        return ""
    return (
        f"{name.rsplit('/', 1)[-1]}={value:.3g}" if isinstance(value, float) else f"{name.rsplit('/', 1)[-1]}={value}"
    )
