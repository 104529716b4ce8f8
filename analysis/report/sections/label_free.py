"""A study without labels: what it can tell, its label-free measures, and how far to trust a choice by them."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.comparisons.label_free import (
    ALIGNMENT,
    MEASURES,
    N_CHOICES,
    N_TRIALS,
    RANKME,
    REGRETS,
    UNIFORMITY,
    has_labels,
    label_free,
)
from analysis.findings import Findings
from analysis.report.blocks import Block, Table, Text
from analysis.report.words import count, interval, listed, number

NAMES = {RANKME: "RankMe", ALIGNMENT: "alignment", UNIFORMITY: "uniformity"}
GOOD = {"max": "good if high", "min": "good if low"}


def without_labels(findings: Findings) -> Iterator[Block]:
    """Yield the label-free measures of a study without labels, and what a choice by them has cost elsewhere."""
    if has_labels(findings.study) or not len(found := label_free(findings.study)):
        return
    yield Text(
        "**Without labels**, this study tells whether each task is learned, and which of its settings learns it best. "
        "It cannot tell whether the features separate your classes, or which task is best for them: the measures below "
        "depend on the task, so do not compare them between tasks. To ask, name a labeled data set in "
        "`evaluate.datasets`.",
        "caveat",
    )
    rows = [
        [str(task), row["metric"], number(row["value"]), *(number(row[name]) for name in MEASURES), count(row["seeds"])]
        for task, row in found.iterrows()
    ]
    headings = [f"{NAMES[name]} ({GOOD[mode]})" for name, mode in MEASURES.items()]
    yield Table(
        "Each task's chosen configuration at the end of training, mean over fresh seeds. RankMe is an effective rank "
        "of the features, at most their number (Garrido 2023); alignment is the distance of two views of an image, "
        "uniformity how unevenly all images are spread (Wang and Isola 2020).",
        ["task", "metric", "value", *headings, "seeds"],
        rows,
        n_words=2,
    )
    costs = [
        f"{NAMES.get(way, way)} {number(cost.mean)} {interval(cost.low, cost.high)}" for way, cost in REGRETS.items()
    ]
    yield Text(
        f"**What a choice by them costs**, where labels can tell: in {N_CHOICES} choices among settings of one task "
        f"({N_TRIALS} real trials of small encoders on three labeled data sets), the accuracy lost by choosing by a "
        f"measure instead of by a linear probe is {listed(costs)}, with 95% intervals over data sets and tasks.",
        "caveat",
    )
