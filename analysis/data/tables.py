"""Tables of the numbers that the report prints and the figures draw. Functions take frames and return frames."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import beta, norm

from analysis.data.baselines import are_baselines
from analysis.stats import ALPHA
from trainables.objective import direction
from trainables.trial import BASELINES, CLASS_AVERAGES, NON_TRAINING_FIELDS, TrialConfig

CONFIDENCE = 1 - ALPHA
LAST = "last/"
ACCURACIES = ("accuracy", "linear", "knn")  # last parts of the names of metrics that are accuracies
COMPARISON_PROBES = ("linear", "miou")  # final probes by which encoders are compared; the first that a data set has
_SCORES = "|".join(("linear|knn|miou", *(f"linear_{average}|knn_{average}" for average in CLASS_AVERAGES)))
_PROBE = re.compile(rf"probe/(?P<dataset>.+)/(?P<probe>{_SCORES})")
_LEVEL = re.compile(r"probe/(?P<dataset>.+)/(?P<level>chance|miou_chance|largest_class)")
_STAGE = re.compile(r"probe/(?P<dataset>.+)/(?P<probe>linear|miou)/stage(?P<stage>\d+)")
_NOT_SEARCHED = (*NON_TRAINING_FIELDS, "report_every")


def last_values(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Return `runs` with a column `last/METRIC` for every metric of `curves`: its value at the trial's last report.

    The last value is used because the best of many noisy reports is optimistic for the encoder that is kept.
    """
    wide = _last_points(curves).pivot(index="trial_id", columns="metric", values="value").add_prefix(LAST)
    return runs.merge(wide, how="left", left_on="trial_id", right_index=True)


def is_accuracy(metric: str) -> bool:
    """Whether a metric is the fraction of correct answers, which is in [0, 1] and has binomial bounds."""
    return metric.rsplit("/", 1)[-1] in ACCURACIES


def is_share(metric: str) -> bool:
    """Whether a metric is an accuracy, an average over classes or mIoU, which is in [0, 1] with 1 as its best value."""
    return is_accuracy(metric) or metric.rsplit("/", 1)[-1] == "miou" or metric.endswith(CLASS_AVERAGES)


def is_final_accuracy(column: str) -> bool:
    """Whether a column of `runs` is an accuracy of a final probe, such as `probe/DATASET/linear`, balanced or not."""
    return _PROBE.fullmatch(column) is not None and (is_accuracy(column) or column.endswith(CLASS_AVERAGES[0]))


def chance_column(metric: str) -> str:
    """Return the column of `runs` with the chance level of a metric of the curves; balanced accuracy has accuracy's."""
    return f"chance/{metric.removesuffix(f'_{CLASS_AVERAGES[0]}')}"


def is_comparison_probe(column: str) -> bool:
    """Whether a column of `runs` is a result by which encoders are compared: a final linear accuracy or mIoU."""
    match = _PROBE.fullmatch(column)
    return match is not None and match["probe"] in COMPARISON_PROBES


def is_final_result(column: str) -> bool:
    """Whether a column of `runs` is a result of the final evaluation, `probe/DATASET/WHAT`, and not a curve's value."""
    return column.startswith("probe/") and column.count("/") > 1


def dataset_of(column: str, known: Iterable[str] = ()) -> str:
    """Return the data set of a final result, `probe/DATASET/WHAT`, where both parts may contain slashes.

    Args:
        column: Name of the result.
        known: Names of data sets; the longest that fits is it. Without one, it is all up to the last slash.
    """
    fitting = [name for name in known if column.startswith(f"probe/{name}/")]
    return max(fitting, key=len, default=column.removeprefix("probe/").rpartition("/")[0])


def split_of(runs: pd.DataFrame, column: str) -> str:
    """Return the split on which a metric was measured: `train`, `validation` or `test`.

    Args:
        runs: Runs of one probe split.
        column: Column of `last_values` or metric of a curve.

    Returns:
        Empty if the runs mix splits or do not name theirs, or if it is not a metric of a split, such as `lr`.
    """
    if is_final_result(column):
        if "probe_split" not in runs:
            return ""
        measured = runs.loc[runs[column].notna()] if column in runs else runs
        splits = list(measured["probe_split"].unique())
        return str(splits[0]) if len(splits) == 1 else ""
    place = column.removeprefix(LAST).partition("/")[0]
    return {"train": "train", "val": "validation", "probe": "validation", "health": "validation"}.get(place, "")


def split_note(column: str, split: str) -> str:
    """Return ` (test split)` for a metric's name; empty if the name says it, as `val/loss`, or the split is unknown."""
    return f" ({split} split)" if split and not column.removeprefix(LAST).startswith(("val/", "train/")) else ""


def mode_of(runs: pd.DataFrame, column: str) -> Literal["max", "min"]:
    """Return the better direction of a metric, as its task declares it or else by its name."""
    name = column.removeprefix(LAST)
    primary = runs.loc[runs["primary_metric"] == name, "primary_mode"]
    if len(primary):
        return "min" if primary.iloc[0] == "min" else "max"
    return "min" if direction(name.rsplit("/", 1)[-1]) == "min" else "max"


def accuracy_lower_bound(accuracy: np.ndarray, n_images: np.ndarray) -> np.ndarray:
    """Return the exact one-sided 95% lower bound (Clopper and Pearson 1934) of accuracies over independent images.

    Args:
        accuracy: float64 [M], in [0, 1].
        n_images: [M], positive.

    Returns:
        float64 [M]; NaN where either argument is missing or out of range.
    """
    accuracy, n_images = np.asarray(accuracy, np.float64), np.asarray(n_images, np.float64)
    right = np.round(accuracy * n_images)
    bound = beta.ppf(1 - CONFIDENCE, right, n_images - right + 1)  # NaN for no correct answer, where the bound is 0
    return np.where(right == 0, 0.0, bound)


def against_chance(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Compare each trial's primary validation metric, at its last report, with its chance level.

    Returns:
        One row per trial that has a primary metric and a report, with these columns:

        trial_id, phase, task, cell, seed, metric, mode, value, chance, n_validation: The trial and its last report.
        untrained: Value at step 0, NaN if it was not reported. It may be better than chance, for example because
            colors tell views of two images apart.
        bound: End of the value's one-sided 95% interval toward chance: value -+ 1.645 standard errors over images where
            `METRIC_se` is reported; `accuracy_lower_bound`, which takes predictions as independent, for an accuracy
            without it or without scatter; otherwise NaN.
        ratio: value / chance.
        beats_chance: Whether `bound` is better than chance; missing if either is unknown, False for a value of NaN.
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
    is_exact = found["metric"].map(is_accuracy).astype(bool) & ~(found["standard_error"] > 0)
    found["bound"] = np.where(is_exact, exact, normal)
    found["ratio"] = found["value"] / found["chance"]
    beats = pd.Series(sign * (found["chance"] - found["bound"]) > 0, dtype="boolean")
    is_unknown = found["bound"].isna() & found["value"].notna()
    found["beats_chance"] = beats.mask(found["chance"].isna() | is_unknown)
    names = ["trial_id", "phase", "task", "cell", "seed", "metric", "mode", "value", "untrained", "chance"]
    return found[[*names, "n_validation", "bound", "ratio", "beats_chance"]]


def probe_results(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the results of the final probes in long form.

    Returns:
        One row per result: trial_id, phase, task, seed, probe_split, dataset, probe (`linear`, `knn`, either with an
        ending of CLASS_AVERAGES, or `miou`), value, chance and largest_class. `chance` is NaN for macro-F1 and if the
        number of classes is unknown; for mIoU it is the value of predicting background everywhere. `largest_class`,
        the accuracy of always predicting the most frequent class of the split, is NaN for anything but an accuracy,
        and if an earlier version has not recorded it.
    """
    found = long_form(runs, _PROBE, ["trial_id", "phase", "task", "seed", "probe_split"])
    known = long_form(runs, _LEVEL, ["trial_id"])
    for place, name in enumerate(("chance", "largest_class")):
        found["level"] = pd.Series([level_names(probe)[place] for probe in found["probe"]], dtype="str")
        found = found.merge(known.rename(columns={"value": name}), how="left", on=["trial_id", "dataset", "level"])
    return found.drop(columns="level")


def level_names(probe: str) -> tuple[str, str]:
    """Return the results of predictors that do not look at the image for the result `probe/DATASET/PROBE`.

    They are its chance level and the share of the largest class; an empty name for a level that it does not have.
    """
    if probe.endswith(CLASS_AVERAGES[1]):
        return "", ""
    return "miou_chance" if probe == "miou" else "chance", "largest_class" if is_accuracy(probe) else ""


def long_form(runs: pd.DataFrame, pattern: re.Pattern[str], about: list[str]) -> pd.DataFrame:
    """Return the values in all columns whose names match a pattern in long form, without missing values.

    Args:
        runs: The `runs` frame.
        pattern: Matches whole column names; its named groups become columns.
        about: Columns of `runs` to keep.

    Returns:
        One row per value, column by column: the columns `about`, each named group, and `value`, float64.
    """
    groups = {name: match.groupdict() for name in runs if (match := pattern.fullmatch(name))}
    found = runs.melt(about, list(groups), var_name="column").dropna(subset="value").astype({"value": float})
    for group in pattern.groupindex:
        found[group] = found["column"].map({name: parts[group] for name, parts in groups.items()})
    return found[[*about, *pattern.groupindex, "value"]].reset_index(drop=True)


def probe_summary(results: pd.DataFrame) -> pd.DataFrame:
    """Average `probe_results` over seeds.

    Args:
        results: Rows of one split and one configuration per task; otherwise the mean mixes them.

    Returns:
        One row per task, data set and probe, the baselines last: task, dataset, probe, n_seeds, mean, sd (ddof 1, NaN
        for one seed), chance, largest_class.
    """
    groups = results.groupby(["task", "dataset", "probe"], sort=False)
    found = groups.agg(
        n_seeds=("value", "size"),
        mean=("value", "mean"),
        sd=("value", "std"),
        **{level: (level, "first") for level in ("chance", "largest_class")},
    ).reset_index()
    return found.sort_values("task", key=are_baselines, kind="stable", ignore_index=True)


def stage_results(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the probes of every encoder stage in long form.

    Returns:
        trial_id, task, seed, dataset, probe (`linear` or `miou`), stage (int, from 1) and value. Empty unless
        `evaluate.probe_layers` was `all`.
    """
    found = long_form(runs, _STAGE, ["trial_id", "task", "seed"])
    return found.astype({"stage": int})[["trial_id", "task", "seed", "dataset", "probe", "stage", "value"]]


def not_above_baselines(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a `probe_summary` whose mean does not exceed an untrained baseline's under the same probe.

    Returns:
        One row per pair, where pre-training has shown no benefit: task, dataset, probe, mean, baseline, baseline_mean.
    """
    baselines = summary.loc[summary["task"].isin(BASELINES), ["task", "dataset", "probe", "mean"]]
    baselines = baselines.rename(columns={"task": "baseline", "mean": "baseline_mean"})
    pairs = summary.loc[~are_baselines(summary["task"])].merge(baselines, on=["dataset", "probe"])
    names = ["task", "dataset", "probe", "mean", "baseline", "baseline_mean"]
    return pairs.loc[pairs["mean"] <= pairs["baseline_mean"], names].reset_index(drop=True)


def configurations(runs: pd.DataFrame) -> pd.Series:
    """Return a short name for each run's configuration, from the settings that differ within `runs`.

    Seeds of one configuration share a name, for example `rotation, lr=0.01, batch_size=64`.

    Returns:
        str [N], indexed like `runs`; empty strings if all configurations are equal.
    """
    fields = [name for name in TrialConfig.__dataclass_fields__ if name in runs and name not in _NOT_SEARCHED]
    fields += [name for name in runs if name.startswith(("option/", "augmentation/"))]
    shown = [name for name in ("task", *fields) if runs[name].nunique(dropna=False) > 1]
    settings = [
        [_setting(*pair) for pair in zip(shown, row, strict=True)] for row in runs[shown].to_numpy(dtype=object)
    ]
    return pd.Series([", ".join(filter(None, row)) for row in settings], runs.index, dtype="str")


def statuses(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the number of trials per task and status: task, trials, then one column per status."""
    counts = pd.crosstab(runs["task"], runs["status"])
    counts.insert(0, "trials", counts.sum(axis=1))
    return counts.reset_index().rename_axis(columns=None)


def cost(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the cost of each phase.

    Returns:
        One row per phase in the order in which the phases started: phase, trials, wall_s (summed over trials), steps,
        samples_seen, and images_per_s (mean over the trials that trained).
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
