"""Classes of the evaluated images: which data sets are imbalanced, and the accuracy of each class."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.data.classes import FEW_IMAGES, class_accuracies, class_ious, imbalanced
from analysis.data.tables import probe_results
from analysis.findings import Findings
from analysis.report.blocks import Block, Folded, Table, Text
from analysis.report.words import NONE, count, interval, listed, number, quoted
from trainables.trial import is_baseline

AVERAGES = {"linear": "all", "linear_balanced_accuracy": "balanced accuracy", "linear_macro_f1": "macro-F1"}
MOST_NAMED = 5  # classes that a sentence lists by name


def imbalance(findings: Findings) -> list[str]:
    """Return a sentence for each data set and split whose answers are based on balanced accuracy, and why."""
    found = imbalanced(findings.study.runs)
    order = found["probe_split"].map({"test": 0, "validation": 1})
    found = found.loc[order.sort_values(kind="stable").index]
    return [
        f"**Imbalanced classes**: the largest of {row.n_classes} classes has {_share(row.largest_class)} of the "
        f"{row.probe_split} images of {row.dataset}, and predicting it for every image has an accuracy of "
        f"{number(row.largest_class)}. Answers on this split are based on balanced accuracy, the mean of the classes' "
        f"accuracies, which is {number(1 / row.n_classes)} for this prediction."
        for row in found.itertuples()
    ]


def by_class(findings: Findings) -> Iterator[Block]:
    """Yield the probes' results on each class of each data set's test split, and which classes are small."""
    yield from _accuracies(findings)
    yield from _ious(findings)


def _accuracies(findings: Findings) -> Iterator[Block]:
    """Yield the linear probe's accuracy on each class, for each data set with labels."""
    runs = findings.study.tested
    found = class_accuracies(findings.study, runs)
    averages = probe_results(runs).groupby(["dataset", "probe", "task"])["value"].mean()
    for dataset, own in found.groupby("dataset", sort=False):
        few = own.loc[own["few"]].drop_duplicates("class")
        tasks = sorted(own["task"].unique(), key=is_baseline)
        cells = {(row["class"], row["task"]): _cell(row) for _, row in own.iterrows()}
        rows = [
            [_flagged(name, name in set(few["class"])), count(n), *(cells.get((name, task), NONE) for task in tasks)]
            for name, n in own.drop_duplicates("class")[["class", "n_images"]].itertuples(index=False)
        ]
        for probe, name in AVERAGES.items():
            rows.append([name, NONE, *(number(averages.get((dataset, probe, task))) for task in tasks)])
        caption = (
            "Accuracy of the linear probe on the test images of each class, mean over seeds, with the 95% interval "
            "(Wilson) over other images of the class. Balanced accuracy is the mean of these accuracies, macro-F1 the "
            f"mean of the classes' F1 scores. * fewer than {FEW_IMAGES} images."
        )
        yield Folded(f"Linear probe on {dataset}, class by class", [Table(caption, ["class", "images", *tasks], rows)])
        if len(few):
            yield Text(_few(str(dataset), list(few["class"]), own["class"].nunique()), "caveat")


def _ious(findings: Findings) -> Iterator[Block]:
    """Yield the IoU of each class, for each data set with masks."""
    found = class_ious(findings.study.tested)
    for dataset, own in found.groupby("dataset", sort=False):
        ious = own.drop(columns="dataset").set_index("class")
        rows = [[str(name), *map(number, values)] for name, values in zip(ious.index, ious.to_numpy(), strict=True)]
        caption = (
            "Intersection over union of each class on the test split, mean over seeds. mIoU is the mean over classes. "
            "Classes that no mask of the split contains are left out; void pixels are ignored."
        )
        yield Folded(f"Segmentation of {dataset}, class by class", [Table(caption, ["class", *ious.columns], rows)])


def _cell(row: pd.Series) -> str:
    return f"{number(row['mean'])} {interval(row['ci_low'], row['ci_high'], 2)}"


def _share(share: float) -> str:
    """Return a share in percent, 100 only for all."""
    return f"{share if share == 1 else min(share, 0.999):.1%}"


def _flagged(name: str, few: bool) -> str:
    return f"{name} *" if few else name


def _few(dataset: str, names: list[str], n_classes: int) -> str:
    named = listed(map(quoted, names[:MOST_NAMED])) + (", among others" if len(names) > MOST_NAMED else "")
    verb = "has" if len(names) == 1 else "have"
    return (
        f"{len(names)} of {n_classes} classes of {dataset} {verb} fewer than {FEW_IMAGES} test images ({named}). Such "
        "accuracies, and averages over classes, are rough estimates."
    )
