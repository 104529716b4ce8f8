"""Which pays more, labels or images: for studies of few labels or with images that have none."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.comparisons.more_data import MORE_IMAGES, MORE_LABELS, SIZES_DESIGN, MoreData, more_data
from analysis.data.tables import split_of
from analysis.findings import Findings, design_runs, queries
from analysis.report import sentences
from analysis.report.blocks import Text
from analysis.report.claims import first_true
from analysis.report.words import count, interval, signed

_QUESTION = f"**{MORE_LABELS} more labels or {MORE_IMAGES:,} more images?**"


def labels_or_images(findings: Findings) -> Iterator[Text]:
    """Yield which pays more for each task, or what it would take to know."""
    dataset = queries.main_dataset(findings)
    counts = findings.study.datasets.get(dataset, {}).get("counts", {})
    n_labeled, asked = counts.get("probe_train", 0), findings.study.config.get("evaluate", {}).get("labels_per_class")
    if not n_labeled or not (asked or n_labeled < counts.get("pretext_train", 0)):
        return
    unknown: dict[tuple[str, ...], list[str]] = {}
    for task in queries.tasks(findings):
        found = more_data(findings.study, dataset, task, *_sizes(findings, task))
        if found.difference is None:
            unknown.setdefault(found.needed, []).append(task)
        else:
            yield Text(f"{_QUESTION} {_answer(found, task, split_of(findings.ablated, findings.metrics[task].column))}")
    for needed, tasks in unknown.items():
        yield Text(f"{_QUESTION} For {', '.join(tasks)}, this study cannot say. To know takes {'; and '.join(needed)}.")


def _answer(found: MoreData, task: str, split: str) -> str:
    assert found.labels is not None
    assert found.images is not None
    assert found.difference is not None
    low, high = found.difference
    row = pd.Series({"ci_low": low, "ci_high": high})
    sentence = first_true((sentences.MORE_LABELS, sentences.MORE_IMAGES, sentences.MORE_OF_EITHER), row)
    return sentence.say(
        row,
        task=task,
        split=split,
        n_labels=count(MORE_LABELS),
        labels_now=count(found.labels.largest),
        labels=signed(found.labels.gain),
        n_images=count(MORE_IMAGES),
        images_now=count(found.images.largest),
        images=signed(found.images.gain),
        difference=f"{signed(found.labels.gain - found.images.gain)} {interval(low, high)}",
    )


def _sizes(findings: Findings, task: str) -> tuple[pd.DataFrame, str | None]:
    """Return the runs over numbers of images at the first strength, and the column of their linear probe if any."""
    metric = findings.metrics.get(task)
    if metric is None or not metric.column.endswith(("linear", "linear_balanced_accuracy")):
        return pd.DataFrame(), None
    runs = design_runs(findings, task, SIZES_DESIGN)
    strengths = findings.study.config.get("ablate", {}).get("strengths") or [0.0]
    return runs.loc[runs["augmentation_strength"] == strengths[0]], metric.column
