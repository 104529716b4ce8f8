"""The comparisons of a study: which cells are compared with which, and by which metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from analysis.comparisons.cells import KEY, planned_comparisons
from analysis.comparisons.paired_effects import (
    EFFECT_DTYPES,
    PAIR_DTYPES,
    Mode,
    effects,
    paired_differences,
)
from analysis.data import tables
from analysis.data.baselines import are_baselines
from analysis.data.classes import comparison_columns
from analysis.data.per_image import PerImage
from analysis.data.study import Study
from analysis.records import FINISHED
from analysis.records.phases import ABLATE
from trainables.errors import UserError
from trainables.trial import RANDOM_INIT, WEIGHTS

BASE = "base"
CHOSEN = "chosen"  # cell of the confirmed encoders on the test split
PRETRAINING = "pre-training"  # design that compares with untrained encoders of the same shape and seeds
PRETRAINING_TEST = "pre-training, test split"
WEIGHTS_TEST = "weights, test split"  # design that compares with pretrained weights
COMPARED_DTYPES = {
    **{name: EFFECT_DTYPES[name] for name in KEY},
    **dict.fromkeys(("metric", "mode", "split"), "str"),
    **EFFECT_DTYPES,
}
SEED_DTYPES = {**PAIR_DTYPES, "metric": "str"}

Compared = tuple[pd.DataFrame, pd.DataFrame]  # effects (COMPARED_DTYPES) and their paired differences (SEED_DTYPES)


class Metric(NamedTuple):
    """The metric by which a task's cells are compared.

    Attributes:
        column: Column of the runs.
        mode: Whether more (`max`) or less (`min`) of it is better.
    """

    column: str
    mode: Mode


def task_metrics(ablated: pd.DataFrame, probes: Sequence[str], wanted: str | None = None) -> dict[str, Metric]:
    """Return the metric by which each task's cells are compared; a task without any value has no entry.

    By default it is the final linear probe on the data set the task trained on, by its balanced accuracy if the classes
    are imbalanced; the segmentation probe for a data set with masks only; and otherwise the task's primary metric at
    the last report.

    Args:
        ablated: Runs of the ablate phase with their `last_values`.
        probes: `comparison_columns` of the ablate phase.
        wanted: Another column of the runs, or a metric of the curves at the last report.
    """
    found = {}
    for task, own in ablated.groupby("task", sort=False):
        if wanted is not None:
            column = next((name for name in (wanted, tables.LAST + wanted) if name in own), wanted)
        else:
            primary = tables.LAST + next((name for name in own["primary_metric"] if name), "")
            datasets = {f"probe/{dataset}" for dataset in own["dataset"].unique()}
            of_own = [name for name in probes if name.rsplit("/", 1)[0] in datasets]
            column = next((name for name in (*of_own, primary) if name in own and own[name].notna().any()), "")
        if column:
            found[str(task)] = Metric(column, tables.mode_of(own, column))
    return found


def task_comparisons(designs: pd.DataFrame, own: pd.DataFrame, baseline: str | None = None) -> pd.DataFrame:
    """Return the comparisons of one task for which both cells ran: task, design, cell, baseline.

    Args:
        designs: Designs of the study, which are empty until the ablate phase has ended. If they are empty, every cell
            is compared with the base.
        own: Runs of the task.
        baseline: Cell to compare all others with, instead of the designs' baselines.

    Raises:
        UserError: If the baseline did not run.
    """
    task, cells = own["task"].iloc[0], list(own["cell"].unique())
    if baseline is not None and baseline not in cells:
        raise UserError(f"{task}: no cell {baseline!r}; there are {', '.join(map(repr, cells))}")
    if baseline is not None or designs.empty:
        reference = baseline or BASE
        return planned_comparisons(own if reference in cells else own.iloc[:0], reference, None)
    ran = designs["cell"].isin(cells) & designs["baseline"].isin(cells)
    return designs.loc[(designs["task"] == task) & ran & (designs["cell"] != designs["baseline"])]


def compare(
    runs: pd.DataFrame,
    designs: pd.DataFrame,
    metric: Metric,
    margin: float | None,
    per_image: PerImage,
    *,
    across_tasks: bool = False,
) -> Compared:
    """Return the effects of designs and their paired differences.

    The column split names the split that the metric was measured on, the same for a cell and its baseline.

    Args:
        runs: Runs of the cells.
        designs: Columns task, design, cell and baseline.
        metric: The metric to compare by.
        margin: The smallest difference that matters; None skips equivalence.
        per_image: Per-image results of the runs.
        across_tasks: As for `effects`.
    """
    seeds = paired_differences(runs, metric.column, designs=designs).assign(metric=metric.column)
    found = effects(
        runs,
        metric.column,
        designs=designs,
        mode=metric.mode,
        margin=margin,
        per_image=per_image,
        across_tasks=across_tasks,
    )
    return found.assign(metric=metric.column, mode=metric.mode, split=tables.split_of(runs, metric.column)), seeds


def cells_against_untrained(
    study: Study, ablated: pd.DataFrame, metrics: dict[str, Metric], margin: float | None
) -> list[Compared]:
    """Compare cells with the untrained encoders of the ablate phase that have the same shape."""
    untrained = study.runs.loc[(study.runs["phase"] == ABLATE) & (study.runs["task"] == RANDOM_INIT)]
    shapes = untrained[["encoder", "width"]].drop_duplicates()
    found = []
    for task, metric in metrics.items():
        own = ablated.loc[ablated["task"] == task].merge(shapes, on=["encoder", "width"])
        if metric.column in untrained and untrained[metric.column].notna().any() and len(own):
            found.append(_against_untrained([own], untrained, PRETRAINING, metric, margin, study.per_image))
    return found


def chosen_against_untrained(study: Study, margin: float | None) -> list[Compared]:
    """Compare the confirmed encoders of each task with untrained ones on the test split of every data set.

    All tasks are one family per metric: the headline says which of them help.
    """
    runs = study.tested
    untrained = runs.loc[runs["task"] == RANDOM_INIT]
    trained = runs.loc[~are_baselines(runs["task"])].assign(cell=CHOSEN)
    found = []
    for column in comparison_columns(runs):
        tasks = [own for _, own in trained.groupby("task", sort=False) if own[column].notna().any()]
        if tasks and untrained[column].notna().any():
            metric = Metric(column, "max")
            found.append(_against_untrained(tasks, untrained, PRETRAINING_TEST, metric, margin, study.per_image))
    return found


def chosen_against_weights(study: Study, margin: float | None) -> list[Compared]:
    """Compare the confirmed encoders of each task with pretrained weights, on the test split of every data set.

    Weights have no seed. Each seed of a task is compared with their one result, so that an interval is over the seeds
    of the study's own encoders and over images. All weights that a task is compared with are one family.
    """
    runs = study.tested
    weights = runs.loc[runs["task"].str.startswith(WEIGHTS) & (runs["status"] == FINISHED)]
    found = []
    for task, own in runs.loc[~are_baselines(runs["task"])].groupby("task", sort=False):
        given = [_at_seeds(each, own) for _, each in weights.groupby("task", sort=False)]
        for column in comparison_columns(runs) if given else []:
            others = [each.assign(task=task, cell=each["task"]) for each in given if each[column].notna().any()]
            if own[column].isna().all() or not others:
                continue
            rows = [(task, WEIGHTS_TEST, CHOSEN, each["cell"].iloc[0]) for each in others]
            designs = pd.DataFrame(rows, columns=KEY, dtype="str")
            both = pd.concat([own.assign(cell=CHOSEN), *others], ignore_index=True)
            found.append(compare(both, designs, Metric(column, "max"), margin, study.per_image))
    return found


def _at_seeds(weights: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of weights at each seed of `own`: those that there are, or else the only one, repeated."""
    if len(weights) > 1:
        return weights
    return weights.drop(columns="seed").merge(own[["seed"]].drop_duplicates(), how="cross")


def _against_untrained(
    tasks: list[pd.DataFrame],
    untrained: pd.DataFrame,
    design: str,
    metric: Metric,
    margin: float | None,
    per_image: PerImage,
) -> Compared:
    """Compare the cells of tasks with untrained encoders, by seed, all as one family."""
    parts, rows = [], []
    for own in tasks:
        task = own["task"].iloc[0]
        parts += [own, untrained.assign(task=task, cell=RANDOM_INIT)]
        rows += [(task, design, cell, RANDOM_INIT) for cell in own["cell"].unique()]
    runs, designs = pd.concat(parts, ignore_index=True), pd.DataFrame(rows, columns=KEY, dtype="str")
    return compare(runs, designs, metric, margin, per_image, across_tasks=True)
