"""Pretext tasks compared with each other: the chosen configurations on the test split, in pairs of tasks."""

from __future__ import annotations

import itertools

import pandas as pd

from analysis.comparisons.cells import KEY
from analysis.comparisons.designs import Compared, Metric, compare
from analysis.data.baselines import are_baselines
from analysis.data.classes import comparison_columns
from analysis.data.study import Study
from analysis.records.phases import CONFIRM
from trainables.objective import as_objective

ALL_TASKS = "all tasks"  # value of the column `task`, since the cells are the tasks
TASKS_TEST = "pretext tasks, test split"


def compare_tasks(study: Study, margin: float | None) -> list[Compared]:
    """Compare the confirmed encoders of every pair of tasks on the test split, by seed.

    All pairs of one metric are one family, so the largest difference may be picked from them. The cell of a pair is the
    task that ranks higher by `rank_tasks`, or else by its mean on the test split.

    Args:
        study: The study.
        margin: The smallest difference that matters, in the metrics' units.
    """
    runs = study.tested
    trained = runs.loc[~are_baselines(runs["task"])]
    found = []
    for column in comparison_columns(runs):
        means = trained.groupby("task", sort=False)[column].mean().dropna()
        ranks = rank_tasks(study) or list(means.sort_values(ascending=False, kind="stable").index)
        pairs = itertools.combinations([task for task in ranks if task in means.index], 2)
        designs = pd.DataFrame([(ALL_TASKS, TASKS_TEST, *pair) for pair in pairs], columns=KEY, dtype="str")
        if len(designs):
            cells = trained.assign(cell=trained["task"], task=ALL_TASKS)
            found.append(compare(cells, designs, Metric(column, "max"), margin, study.per_image))
    return found


def rank_tasks(study: Study) -> list[str]:
    """Return the tasks by the validation mean of their chosen configurations, the best first.

    Tasks with equal means keep the order of the study. Empty if the means are not comparable because not all tasks were
    chosen by the same probe. The test split is not used.
    """
    choices = study.outcomes.get(CONFIRM, {}).get("chosen", {})
    metrics = {choice.get("metric", "") for choice in choices.values()}
    if len(metrics) != 1 or not next(iter(metrics)).startswith("probe/"):
        return []
    values = {task: as_objective(choice["mean"], choice.get("mode", "max")) for task, choice in choices.items()}
    return sorted(values, key=lambda task: -values[task])
