"""Few labels: frozen features, fine-tuning, and supervised training from scratch."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.comparisons import interval_scope, label_results
from analysis.comparisons.few_labels import FROZEN, PAIRS, SUPERVISED, TUNED, cell_of, column_of, labels_word
from analysis.data.baselines import are_baselines
from analysis.data.classes import BALANCED
from analysis.figures import label_curves
from analysis.findings import Findings
from analysis.report.blocks import Block, Gallery, Table, Text
from analysis.report.pictures import Picture, picture
from analysis.report.sections.more_data import labels_or_images
from analysis.report.sources import Sources
from analysis.report.words import answered, guessing, number
from trainables.trial import RANDOM_INIT


def few_labels(findings: Findings, sources: Sources) -> Iterator[Block]:
    """Yield a table per data set, whether labels or images pay more, and a figure per task.

    Nothing if the evaluation has no few-label probes and all images have labels.
    """
    runs = sources.runs.query("probe_split == 'test'")
    results = label_results(runs.value)
    trained = results.loc[~are_baselines(results["task"])]
    pictures: list[Picture] = []
    for dataset, own in trained.groupby("dataset", sort=False):
        yield _table(findings, str(dataset), results.loc[results["dataset"] == dataset])
        for task in own["task"].unique():
            means = own.loc[own["task"] == task].groupby(["way", "labels"], sort=False, dropna=False)["value"].mean()
            values = ", ".join(f"{cell_of(way, labels)} {mean:.3f}" for (way, labels), mean in means.items())
            name = f"few-labels-{len(pictures)}"
            alt = f"{task} on {dataset}: {values}"
            caption = "Where the pre-trained lines are above the dash-dotted one, pre-training saves labels."
            pictures.append(picture(name, alt, label_curves, runs, str(dataset), task, caption=caption))
    yield from labels_or_images(findings)
    if pictures:
        yield from _still_improving(results)
        yield Gallery(pictures)


def _table(findings: Findings, dataset: str, results: pd.DataFrame) -> Table:
    effects = findings.few_labels.loc[findings.few_labels["metric"] == column_of(dataset)]
    scope, effects = interval_scope(effects), effects.set_index(["task", "cell", "baseline"])
    measure, probe = ("balanced accuracy", BALANCED) if results["balanced"].any() else ("accuracy", "linear")
    guessed = guessing(findings.study.runs.query("probe_split == 'test'"), [f"probe/{dataset}/{probe}"], "test")
    scratch = results.loc[results["task"] == RANDOM_INIT]
    rows = []
    trained = results.loc[~are_baselines(results["task"])]
    order = {task: index for index, task in enumerate(trained["task"].unique())}
    by_task = trained.sort_values("task", key=lambda tasks: tasks.map(order), kind="stable")
    for (task, labels), own in by_task.groupby(["task", "labels"], sort=False, dropna=False):
        same = scratch["labels"].isna() if pd.isna(labels) else scratch["labels"] == labels
        means = [own.loc[own["way"] == way, "value"].mean() for way in (FROZEN, TUNED)]
        means.append(scratch.loc[same & (scratch["way"] == TUNED), "value"].mean())
        keys = [(task, cell_of(way, labels), cell_of(other, labels)) for way, other in PAIRS]
        compared = [answered(effects, key) for key in keys]
        rows.append([str(task), labels_word(labels), *map(number, means), *compared])
    head = ["task", "labels per class", FROZEN, TUNED, SUPERVISED, *(f"{way} vs. {other}" for way, other in PAIRS)]
    caption = (
        f"Few labels of {dataset}: test {measure}, mean over seeds. Each seed samples its own labeled images. All "
        "methods use the same images and steps, and select on the full validation split. Differences have 95% "
        f"intervals; answers are Holm-adjusted per task. {scope}{guessed}"
    )
    return Table(caption, head, rows, 2)


def _still_improving(results: pd.DataFrame) -> Iterator[Text]:
    """Yield the cells that are best at their last step: more steps, and not only more labels, may help them."""
    tuned = results.loc[results["way"] == TUNED]
    at_last = (tuned["step"] == tuned["step"].max()).groupby([tuned["task"], tuned["labels"]], sort=False, dropna=False)
    cells = [
        cell_of(SUPERVISED if task == RANDOM_INIT else f"{TUNED} {task}", labels)
        for (task, labels), share in at_last.mean().items()
        if share > 0.5
    ]
    if cells:
        lead = "Most seeds are best at their last step, so a higher `evaluate.fine_tune_steps` may improve them"
        yield Text(f"{lead}: {'; '.join(cells)}.", "caveat")
