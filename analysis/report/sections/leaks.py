"""Near duplicates across splits: what was done about them, and by how much they flatter a probe."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.comparisons.leaks import leak_effects, leaked_images
from analysis.findings import Findings
from analysis.report import sentences
from analysis.report.blocks import Block, Folded, Table, Text
from analysis.report.claims import first_true
from analysis.report.words import count, counted, interval, number, points, signed

_CAUTION = "Images with a copy may be easier than others, so only a new split (`leak: move`) tells the whole effect."


def near_duplicates(findings: Findings) -> Iterator[Block]:
    """Yield how many images have near duplicates in another split, and the probes on test images with and without."""
    study = findings.study
    found = _leak_effects(findings)
    for dataset, info in study.datasets.items():
        if n_moved := info.get("leaks", {}).get("n_moved"):
            moved = f"{counted(n_moved, 'image')} moved to keep them on one side of the splits"
            yield Text(f"{_name(dataset)}: {moved}.")
        mask = leaked_images(study, dataset)
        if mask is None or not mask.any():
            continue
        own = found.loc[found["dataset"] == dataset]
        yield Text(_sentence(dataset, mask, own), "caveat")
        if len(own):
            yield Folded(f"Near duplicates of {dataset}: every probe with and without them", [_table(own)])


def leak_findings(findings: Findings) -> list[str]:
    """Return a sentence for each data set whose probes are shown to be flattered, or cannot be compared at all."""
    found, said = _leak_effects(findings), []
    for dataset in findings.study.datasets:
        mask = leaked_images(findings.study, dataset)
        own = found.loc[found["dataset"] == dataset]
        if mask is not None and mask.any() and (mask.all() or sentences.LEAK_FLATTERS.may(own.head(1))):
            said.append(_sentence(dataset, mask, own))
    return said


def leak_warnings(findings: Findings) -> list[str]:
    """Return a plain sentence for each data set whose test images have near duplicates among the training images."""
    said, found = [], _leak_effects(findings)
    for dataset in findings.study.datasets:
        mask = leaked_images(findings.study, dataset)
        if mask is None or not mask.any():
            continue
        numbers, own = ", so the scores on it may be too high for new images", found.loc[found["dataset"] == dataset]
        if len(own):
            row = own.iloc[0]
            right = f"{points(row['others'])} of 100 right, on all {points(row['accuracy'])}"
            numbers = f": on the others, a linear classifier on {row['task']} gets {right}"
        words = {"n": count(mask.sum()), "total": count(mask.size), "dataset": dataset, "numbers": numbers}
        said.append(sentences.LEAK_WARNING.say(pd.DataFrame({"n_leaked": [mask.sum()]}), **words))
    return said


def _leak_effects(findings: Findings) -> pd.DataFrame:
    return leak_effects(findings.study, findings.study.tested)


def _name(dataset: str) -> str:
    return f"**Near duplicates in {dataset}**"


def _sentence(dataset: str, mask: np.ndarray, own: pd.DataFrame) -> str:
    """Return how many test images have copies among the training images, and what is shown of the first probe."""
    if mask.all():
        return (
            f"{_name(dataset)}: every test image has one among the training images, so nothing shows how the probes do "
            "on new images. Divide the images again with `leak: move`, or with groups."
        )
    lead = (
        f"{_name(dataset)}: {count(mask.sum())} of {count(mask.size)} test images have one among the training images."
    )
    if own.empty:
        return lead
    row = own.iloc[0]
    sentence = first_true((sentences.LEAK_FLATTERS, sentences.LEAK_NOT_SHOWN), row)
    words = {"task": row["task"], "without": number(row["others"]), "accuracy": number(row["accuracy"])}
    numbers = f"{number(row['leaked'])} and {number(row['others'])}"
    return f"{lead} The linear probe of {sentence.say(row, numbers=numbers, **words)}. {_CAUTION}"


def _table(own: pd.DataFrame) -> Table:
    """Return the probes of one data set with and without near duplicates."""
    rows = [
        [
            *(row.task, number(row.leaked), number(row.others), signed(row.difference)),
            *(interval(row.ci_low, row.ci_high), number(row.accuracy), count(row.n_seeds)),
        ]
        for row in own.itertuples()
    ]
    caption = (
        f"Test accuracy of the linear probe on the {counted(own['n_leaked'].iloc[0], 'image')} with a near duplicate "
        f"among the training images, and on the {count(own['n_others'].iloc[0])} without. Means over seeds. The "
        "intervals (Newcombe) are over other images, not over new seeds, and are not adjusted for the number of probes."
    )
    return Table(caption, ["encoder", "with", "without", "difference", "95% interval", "all images", "seeds"], rows)
