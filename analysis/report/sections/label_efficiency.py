"""Few labels: frozen features, fine-tuning, and supervised training from scratch."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.comparisons import interval_scope, label_results
from analysis.comparisons.few_labels import (
    FROZEN,
    PAIRS,
    SUPERVISED,
    TUNED,
    cell_of,
    column_of,
    labels_word,
    networks,
    way_of,
)
from analysis.data.classes import BALANCED
from analysis.figures import label_curves
from analysis.findings import Findings
from analysis.report.blocks import Block, Gallery, Table, Text
from analysis.report.pictures import Picture, picture
from analysis.report.sections.more_data import labels_or_images
from analysis.report.sources import Sources
from analysis.report.words import answered, guessing, number
from trainables.trial import RANDOM_INIT, WEIGHTS, is_baseline

WAYS = (FROZEN, TUNED)


def few_labels(findings: Findings, sources: Sources) -> Iterator[Block]:
    """Yield a table per data set, whether labels or images pay more, and a figure per task.

    Nothing if the evaluation has no few-label probes and all images have labels.
    """
    runs = sources.tested
    results = label_results(runs.value)
    pictures: list[Picture] = []
    for dataset, own in results.groupby("dataset", sort=False):
        if not (tasks := networks(own)):
            continue
        yield _table(findings, str(dataset), own)
        yield from _against_weights(findings, str(dataset), own)
        for task in tasks:
            means = own.loc[own["task"] == task].groupby(["way", "labels"], sort=False, dropna=False)["value"].mean()
            values = ", ".join(f"{cell_of(way, labels)} {mean:.3f}" for (way, labels), mean in means.items())
            name = f"few-labels-{len(pictures)}"
            alt = f"{task} on {dataset}: {values}"
            caption = (
                "Where a pre-trained line is above the dash-dotted one, its mean is higher; the table has the test."
            )
            pictures.append(picture(name, alt, label_curves, runs, str(dataset), task, caption=caption))
    yield from labels_or_images(findings)
    if pictures:
        steps = (findings.study.config.get("evaluate") or {}).get("fine_tune_steps")
        yield from _still_improving(results, steps)
        yield Gallery(pictures)


def _table(findings: Findings, dataset: str, results: pd.DataFrame) -> Table:
    effects = findings.few_labels.loc[findings.few_labels["metric"] == column_of(dataset)]
    scope, effects = interval_scope(effects), effects.set_index(["task", "cell", "baseline"])
    measure, probe = ("balanced accuracy", BALANCED) if results["balanced"].any() else ("accuracy", "linear")
    guessed = guessing(findings.study.tested, [f"probe/{dataset}/{probe}"], "test")
    scratch = results.loc[results["task"] == RANDOM_INIT]
    rows = []
    for task, labels, own in _by_labels(results, networks(results)):
        same = scratch["labels"].isna() if pd.isna(labels) else scratch["labels"] == labels
        means = [own.loc[own["way"] == way, "value"].mean() for way in WAYS]
        means.append(scratch.loc[same & (scratch["way"] == TUNED), "value"].mean())
        keys = [(task, cell_of(way, labels), cell_of(other, labels)) for way, other in PAIRS]
        compared = [answered(effects, key) for key in keys]
        rows.append([str(task), labels_word(labels), *map(number, means), *compared])
    head = ["network", "labels per class", FROZEN, TUNED, SUPERVISED, *(f"{way} vs. {other}" for way, other in PAIRS)]
    of = " of the study's own encoder" if any(map(is_baseline, networks(results))) else ""
    caption = (
        f"Few labels of {dataset}: test {measure}, mean over seeds. Each seed samples its own labeled images. All "
        f"methods use the same images and steps, and select on the full validation split. Supervised training{of} "
        f"starts from scratch. Differences have 95% intervals; answers are Holm-adjusted per task. {scope}{guessed}"
    )
    return Table(caption, head, rows, 2)


def _against_weights(findings: Findings, dataset: str, results: pd.DataFrame) -> Iterator[Table]:
    """Yield a table that compares own pre-training with pretrained weights, used in the same way."""
    given = [task for task in networks(results) if is_baseline(task)]
    if not given:
        return
    effects = findings.few_labels.loc[findings.few_labels["metric"] == column_of(dataset)]
    scope, effects = interval_scope(effects), effects.set_index(["task", "cell", "baseline"])
    rows = []
    for other in given:
        for task, labels, _ in _by_labels(results, [task for task in networks(results) if task not in given]):
            keys = [(task, cell_of(way, labels), cell_of(way_of(way, other, task), labels)) for way in WAYS]
            compared = [answered(effects, key) for key in keys]
            rows.append([task, labels_word(labels), other.removeprefix(WEIGHTS), *compared])
    caption = (
        f"The study's encoders compared with pretrained weights, on the same labeled images of {dataset}. "
        f"Differences have 95% intervals; answers are Holm-adjusted per task. {scope}"
    )
    yield Table(caption, ["task", "labels per class", "weights", *WAYS], rows, 3)


def _by_labels(results: pd.DataFrame, tasks: list[str]) -> Iterator[tuple[str, int | None, pd.DataFrame]]:
    """Yield task, number of labels, fewest first, and their rows."""
    for task in tasks:
        own = results.loc[results["task"] == task]
        for labels, rows in own.groupby("labels", sort=False, dropna=False):
            yield task, labels, rows


def _still_improving(results: pd.DataFrame, steps: int | None) -> Iterator[Text]:
    """Yield the cells that are best at their last step: more steps, and not only more labels, may help them.

    Args:
        results: Results with few labels.
        steps: Steps of fine-tuning, if they are known.
    """
    if steps is None:
        return
    tuned = results.loc[results["way"] == TUNED]
    at_last = (tuned["step"] == steps).groupby(
        [tuned["dataset"], tuned["task"], tuned["labels"]], sort=False, dropna=False
    )
    several = tuned["dataset"].nunique() > 1
    cells = [
        cell_of(SUPERVISED if task == RANDOM_INIT else f"{TUNED} {task}", labels)
        + (f" on {dataset}" if several else "")
        for (dataset, task, labels), share in at_last.mean().items()
        if share > 0.5
    ]
    if cells:
        lead = "Most seeds are best at their last step, so a higher `evaluate.fine_tune_steps` may improve them"
        yield Text(f"{lead}: {'; '.join(cells)}.", "caveat")
