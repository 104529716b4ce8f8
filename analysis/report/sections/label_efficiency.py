"""How it compares with few labels: frozen features, fine-tuning, and supervised training from scratch."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.comparisons import label_results
from analysis.comparisons.few_labels import FROZEN, PAIRS, SUPERVISED, TUNED, cell_of, column_of, labels_word
from analysis.figures import label_curves
from analysis.findings import Findings
from analysis.report.blocks import Block, Gallery, Table, Text
from analysis.report.pictures import Picture, picture
from analysis.report.sources import Sources
from analysis.report.words import answered, number
from trainables.trial import BASELINES, RANDOM_INIT


def few_labels(findings: Findings, sources: Sources) -> Iterator[Block]:
    """Yield the blocks; none where the evaluation was not asked for few labels."""
    runs = sources.runs.query("probe_split == 'test'")
    results = label_results(runs.value)
    trained = results.loc[~results["task"].isin(BASELINES)]
    pictures: list[Picture] = []
    for dataset, own in trained.groupby("dataset", sort=False):
        yield _table(findings, str(dataset), results.loc[results["dataset"] == dataset])
        for task in own["task"].unique():
            means = own.loc[own["task"] == task].groupby(["way", "labels"], sort=False, dropna=False)["value"].mean()
            told = ", ".join(f"{cell_of(way, labels)} {mean:.3f}" for (way, labels), mean in means.items())
            name = f"few-labels-{len(pictures)}"
            pictures.append(picture(name, f"{task} on {dataset}: {told}", label_curves, runs, str(dataset), task))
    if pictures:
        yield from _still_improving(results)
        yield Gallery(pictures)


def _table(findings: Findings, dataset: str, results: pd.DataFrame) -> Table:
    effects = findings.few_labels.loc[findings.few_labels["metric"] == column_of(dataset)]
    effects = effects.set_index(["task", "cell", "baseline"])
    scratch = results.loc[results["task"] == RANDOM_INIT]
    rows = []
    trained = results.loc[~results["task"].isin(BASELINES)]
    order = {task: index for index, task in enumerate(trained["task"].unique())}
    by_task = trained.sort_values("task", key=lambda tasks: tasks.map(order), kind="stable")
    for (task, labels), own in by_task.groupby(["task", "labels"], sort=False, dropna=False):
        same = scratch["labels"].isna() if pd.isna(labels) else scratch["labels"] == labels
        means = [own.loc[own["way"] == way, "value"].mean() for way in (FROZEN, TUNED)]
        means.append(scratch.loc[same & (scratch["way"] == TUNED), "value"].mean())
        keys = [(task, cell_of(way, labels), cell_of(other, labels)) for way, other in PAIRS]
        compared = [answered(effects, key) for key in keys]
        rows.append([str(task), labels_word(labels), *map(number, means), *compared])
    head = ["task", "labels a class", FROZEN, TUNED, SUPERVISED, *(f"{way} against {other}" for way, other in PAIRS)]
    caption = (
        f"Few labels of {dataset}: test accuracy, mean over seeds. Each seed draws its own labeled images, the same "
        "for all ways, which take the same steps and choose on the whole validation split. Differences with 95 % "
        "intervals of paired seeds; answers are Holm-adjusted over a task."
    )
    return Table(caption, head, rows, 2)


def _still_improving(results: pd.DataFrame) -> Iterator[Text]:
    """Yield where training that was best at its end stands for too few steps and not for too few labels."""
    tuned = results.loc[results["way"] == TUNED]
    at_last = (tuned["step"] == tuned["step"].max()).groupby([tuned["task"], tuned["labels"]], sort=False, dropna=False)
    cells = [
        cell_of(SUPERVISED if task == RANDOM_INIT else f"{TUNED} {task}", labels)
        for (task, labels), share in at_last.mean().items()
        if share > 0.5
    ]
    if cells:
        told = "Best at the last step at most seeds, so that more of `evaluate.fine_tune_steps` may raise it"
        yield Text(f"{told}: {'; '.join(cells)}.", "caveat")
