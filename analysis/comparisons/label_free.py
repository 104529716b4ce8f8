"""Measures of features that need no labels, and what a choice by them has cost where labels could tell.

RankMe (Garrido 2023, arXiv 2210.02885) is an effective rank of the features; alignment and uniformity (Wang and Isola
2020, arXiv 2005.10242) are the distance of two views of an image and the spread of all images on the sphere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from analysis.data.study import Study
from analysis.data.tables import LAST, last_values
from analysis.records.phases import CONFIRM

RANKME, ALIGNMENT, UNIFORMITY = "health/rankme", "health/alignment", "health/uniformity"
MEASURES: Mapping[str, str] = {RANKME: "max", ALIGNMENT: "min", UNIFORMITY: "min"}  # the better direction, as published
PRETEXT, AT_RANDOM = "the pretext metric", "at random"  # two more ways to choose


class Regret(NamedTuple):
    """Accuracy that a choice by a measure costs, compared with a choice by the online linear probe.

    Attributes:
        mean: Mean over the choices.
        low: Lower end of its 95% interval, by a bootstrap of data sets and tasks.
        high: Upper end.
    """

    mean: float
    low: float
    high: float


N_TRIALS, N_CHOICES = 351, 80  # real trials with labels, and choices among those of one task, data set, size and width
# `tests/analysis/label_free_regret.py` computes them from the library of real trials, and a test compares.
REGRETS: Mapping[str, Regret] = {
    PRETEXT: Regret(0.001, -0.003, 0.005),
    ALIGNMENT: Regret(0.002, -0.013, 0.017),
    UNIFORMITY: Regret(0.018, 0.008, 0.029),
    RANKME: Regret(0.034, 0.010, 0.064),
    AT_RANDOM: Regret(0.018, 0.006, 0.032),
}


def has_labels(study: Study) -> bool:
    """Whether any trial of a study was probed."""
    return (
        any(column.startswith("probe/") for column in study.runs)
        or study.curves["metric"].str.startswith("probe/").any()
    )


def label_free(study: Study) -> pd.DataFrame:
    """Return the label-free measures of each task's chosen configuration, at the end of training.

    Returns:
        One row per task, by name, with the columns seeds, `metric` (the task's validation metric), `value` and those of
        MEASURES, as means over the fresh seeds; empty before a configuration is chosen.
    """
    last, rows = last_values(study.runs, study.curves).set_index("trial_id"), {}
    for task, choice in study.outcomes.get(CONFIRM, {}).get("chosen", {}).items():
        metric = study.runs.loc[study.runs["trial_id"].isin(choice["trial_ids"]), "primary_metric"].iloc[0]
        own = last.loc[last.index.isin(choice["trial_ids"])].filter(like=LAST).mean()
        means = {name: own.get(LAST + name, float("nan")) for name in MEASURES}
        value = own.get(LAST + metric, float("nan"))
        rows[task] = {"seeds": len(choice["trial_ids"]), "metric": metric, "value": value, **means}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["seeds", "metric", "value", *MEASURES])
