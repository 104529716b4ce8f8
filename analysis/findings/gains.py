"""Gains from pre-training: each task's chosen encoders beside untrained ones, raw pixels and guessing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.data.classes import levels_of
from analysis.data.tables import probe_results
from analysis.findings import queries
from analysis.findings.compute import Findings
from analysis.records.phases import CONFIRM
from trainables.trial import RANDOM_INIT, RAW_PIXELS

LEVELS = ("untrained", "raw pixels", "chance", "largest class")


@dataclass(frozen=True, eq=False)
class TaskGains:
    """What each pretext task is worth on the test split of one data set.

    Attributes:
        dataset: The data set that was probed.
        trained_on: The data set that the study trains on.
        metric: Column of `runs` that is compared; empty if nothing was evaluated.
        rows: One row per task that was compared, the best first: task, mean, untrained, difference, ci_low, ci_high,
            answer, n_seeds, n_above, seeds (list of float), verdict (empty if it has none).
        ordered_by: The split whose means order the rows, `validation` or `test`, as `queries.ordered_tasks` decides.
        levels: Level of each of `LEVELS` that is known, and of pretrained weights by `weights:NAME`, in the metric's
            unit.
        weights: The first task's comparison with each weights, a row of `Findings.against_weights` each.
    """

    dataset: str
    trained_on: str
    metric: str
    rows: pd.DataFrame
    ordered_by: str
    levels: dict[str, float]
    weights: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def test_agrees(self) -> bool:
        """Whether the test means are in the order of the rows."""
        return self.rows.empty or bool(self.rows["mean"].is_monotonic_decreasing)

    @property
    def images(self) -> str:
        """The images that were probed in words: `test images`, with their data set if the study trains on another."""
        return "test images" if self.dataset == self.trained_on else f"test images of {self.dataset}"

    @property
    def probe(self) -> str:
        """The probe that is compared, such as `linear` or `miou`; empty if nothing was evaluated."""
        return self.metric.rsplit("/", 1)[-1]


def task_gains(findings: Findings, dataset: str = "") -> TaskGains:
    """Return each task's mean on the test split, with its gain over untrained encoders of the same seeds.

    Args:
        findings: Findings of a study.
        dataset: Data set of the probe; by default `queries.answered_dataset`.
    """
    dataset, trained_on = dataset or queries.answered_dataset(findings), queries.main_dataset(findings)
    compared = {task: queries.against_untrained(findings, task, dataset) for task in queries.tasks(findings)}
    known = {task: found for task, found in compared.items() if found is not None}
    order, ordered_by = queries.ordered_tasks(findings, {task: found.row["mean"] for task, found in known.items()})
    rows = []
    for task in order:
        found = known[task]
        ended = queries.convergence(findings, CONFIRM, task, queries.chosen_cell(findings, task))
        row = found.row
        rows.append(
            {
                "task": task,
                "mean": row["mean"],
                "untrained": row["baseline_mean"],
                "difference": row["mean_difference"],
                **{name: row[name] for name in ("ci_low", "ci_high", "answer", "n_seeds")},
                "n_above": found.n_above,
                "seeds": _values(findings, task, row["metric"]),
                "verdict": ended.verdict if ended else "",
            }
        )
    if not rows:
        return TaskGains(dataset, trained_on, "", pd.DataFrame(), queries.TEST, {})
    metric = str(next(iter(known.values())).row["metric"])
    weights = findings.against_weights
    weights = weights.loc[(weights["task"] == order[0]) & (weights["metric"] == metric)]
    levels = _levels(findings, dataset, metric)
    untrained = {row["untrained"] for row in rows}
    if len(untrained) == 1:  # the seeds that every task has, without those at which a task failed
        levels["untrained"] = float(untrained.pop())
    levels |= dict(zip(weights["baseline"], weights["baseline_mean"], strict=True))
    return TaskGains(dataset, trained_on, metric, pd.DataFrame(rows), ordered_by, levels, weights)


def _values(findings: Findings, task: str, metric: str) -> list[float]:
    runs = findings.study.tested
    return [float(value) for value in runs.loc[runs["task"] == task, metric].dropna()]


def _levels(findings: Findings, dataset: str, metric: str) -> dict[str, float]:
    """Return the means of the untrained baselines on the test split, and the levels of guessing."""
    runs = findings.study.tested
    results = probe_results(runs)
    own = results.loc[(results["dataset"] == dataset) & (results["probe"] == metric.rsplit("/", 1)[-1])]
    means = own.groupby("task")["value"].mean()
    guessed = levels_of(runs, metric)
    values = (means.get(RANDOM_INIT), means.get(RAW_PIXELS), guessed.chance, guessed.largest_class)
    found = dict(zip(LEVELS, values, strict=True))
    return {name: float(value) for name, value in found.items() if value is not None and not np.isnan(value)}
