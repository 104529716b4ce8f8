"""Frozen features, fine-tuning and supervised training from scratch at each number of labeled images.

Supervised training from scratch is fine-tuning of an untrained encoder: the evaluation runs it at the same seeds, on
the same labeled images, for the same number of steps.
"""

from __future__ import annotations

import re

import pandas as pd

from analysis.comparisons.cells import KEY
from analysis.comparisons.designs import Compared, Metric, compare
from analysis.data.classes import imbalanced
from analysis.data.study import Study
from analysis.data.tables import long_form
from trainables.trial import BASELINES, RANDOM_INIT, WEIGHTS, is_baseline, labels_name

DESIGN = "few labels"
FROZEN, TUNED, SUPERVISED = "frozen", "fine-tuned", "supervised"
PAIRS = ((FROZEN, SUPERVISED), (TUNED, SUPERVISED), (TUNED, FROZEN))  # (method, baseline)
_RESULT = re.compile(r"probe/(?P<dataset>.+)/(?P<way>linear|fine_tuned)/(?P<labels>\d+|all)_labels")
_BALANCED = re.compile(f"{_RESULT.pattern}_balanced_accuracy")
_STEP = re.compile(f"{_RESULT.pattern}_step")
_WAYS = {"linear": FROZEN, "fine_tuned": TUNED}
_PROBES = {way: name for name, way in _WAYS.items()}
_ABOUT = ["trial_id", "task", "seed", "status"]


def label_results(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the results with few labels in long form, fewest labels first.

    Args:
        runs: Runs of one probe split and of one configuration per task.

    Returns:
        Columns trial_id, task, seed, status, dataset, labels, way, value, step, balanced. labels is the number of
        labeled images per class, Int64, missing for all of them. way is the method, FROZEN or TUNED; TUNED of the task
        `random_init` is supervised training from scratch. value is the top-1 accuracy, or the balanced accuracy if
        balanced, which is true for data sets that are `analysis.data.classes.imbalanced`. step is the fine-tuning step
        with the best validation accuracy, NaN for frozen features. No rows if `evaluate.labels_per_class` was not set.
    """
    steps = long_form(runs, _STEP, ["trial_id"]).rename(columns={"value": "step"})
    replaced = set(imbalanced(runs)["dataset"])
    parts = [long_form(runs, pattern, _ABOUT) for pattern in (_RESULT, _BALANCED)]
    kept = [part.loc[part["dataset"].isin(replaced) == averaged] for averaged, part in enumerate(parts)]
    found = pd.concat(kept, ignore_index=True)
    found = found.merge(steps, how="left", on=["trial_id", "dataset", "way", "labels"])
    found["balanced"] = found["dataset"].isin(replaced)
    found["labels"] = found["labels"].replace("all", None).astype("Int64")
    found["way"] = found["way"].map(_WAYS)
    found = found[[*_ABOUT, "dataset", "labels", "way", "value", "step", "balanced"]]
    return found.sort_values("labels", na_position="last", kind="stable", ignore_index=True)


def compare_few_labels(study: Study, margin: float | None) -> list[Compared]:
    """Compare the methods at each number of labels, paired by seed, with one family per task and data set.

    Each task, and pretrained weights, are compared with supervised training of the study's encoder. Each task's
    encoders are also compared with the weights, used in the same way. A trial without a result that others of its task
    have failed there.
    """
    results = _with_missing(label_results(study.tested), study.tested)
    return [
        compare(runs, designs, Metric(column_of(str(dataset)), "max"), margin, study.per_image)
        for dataset, of_dataset in results.groupby("dataset", sort=False)
        for task in networks(of_dataset)
        for runs, designs in [_planned(of_dataset, task)]
        if len(designs)
    ]


def _with_missing(results: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Return `label_results` of runs with a row, without a value, for each result that only other seeds of a task have.

    The columns of the results that comparisons do not need are left out.
    """
    about = ["task", "dataset", "labels", "way", "balanced"]
    every = results[about].drop_duplicates().merge(runs[_ABOUT], on="task")
    own = [*about, "trial_id"]
    return every.merge(results[[*own, "value"]], how="left", on=own)


def networks(results: pd.DataFrame) -> list[str]:
    """Return the tasks of `label_results` with networks that were trained: pretext tasks, then pretrained weights."""
    return sorted(results.loc[~results["task"].isin(BASELINES), "task"].unique(), key=is_baseline)


def _planned(results: pd.DataFrame, task: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the runs of a task and of what it is compared with, a cell per way and number of labels, and designs."""
    others = [] if is_baseline(task) else [other for other in networks(results) if is_baseline(other)]
    runs = results.loc[results["task"].isin([task, *others, RANDOM_INIT])].copy()
    runs = runs.loc[(runs["task"] != RANDOM_INIT) | (runs["way"] == TUNED)]
    dataset = str(runs["dataset"].iloc[0])
    runs["result"] = [
        f"probe/{dataset}/{_PROBES[way]}/{labels_word(labels)}_labels{'_balanced_accuracy' if balanced else ''}"
        for way, labels, balanced in zip(runs["way"], runs["labels"], runs["balanced"], strict=True)
    ]
    runs["way"] = [way_of(way, of, task) for way, of in zip(runs["way"], runs["task"], strict=True)]
    runs["cell"] = [cell_of(way, labels) for way, labels in zip(runs["way"], runs["labels"], strict=True)]
    pairs = [*PAIRS, *((way, way_of(way, other, task)) for other in others for way in (FROZEN, TUNED))]
    rows = [
        (task, DESIGN, cell_of(way, labels), cell_of(other, labels))
        for labels in results.loc[results["task"] == task, "labels"].unique()
        for way, other in pairs
    ]
    ran = set(runs["cell"])
    designs = pd.DataFrame([row for row in rows if ran >= set(row[2:])], columns=KEY, dtype="str")
    runs = runs.rename(columns={"value": column_of(dataset)}).assign(task=task, probe_split="test")
    return runs, designs


def way_of(way: str, network: str, task: str) -> str:
    """Return what a method is called that is compared with those of `task`: `frozen`, `supervised`, `frozen NAME`.

    Args:
        way: FROZEN or TUNED.
        network: Task of `label_results` whose network is used: `task`, `random_init`, or weights.
        task: The task that others are compared with.
    """
    if network == RANDOM_INIT:
        return SUPERVISED
    return way if network == task else f"{way} {network.removeprefix(WEIGHTS)}"


def cell_of(way: str, labels: int | None) -> str:
    """Return the cell name of one method at one number of labels: `frozen, 10 labels a class`."""
    return f"{way}, {labels_word(labels)} labels a class"


def labels_word(labels: int | None) -> str:
    """Return a number of `label_results` as text: `10`, or `all` where it is missing."""
    return labels_name(None if pd.isna(labels) else labels)


def column_of(dataset: str) -> str:
    """Return the name of the metric in comparisons with few labels of a data set."""
    return f"probe/{dataset}/few_labels"
