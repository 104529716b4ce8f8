"""Which figures a report shows, what each says in words, and the line of Python that draws it again."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import figures, tables
from analysis.load import Study
from trainables.trial import BASELINES, ONLINE_PROBES

SIZE = (5.5, 4.2)  # inches
DOTS_PER_INCH = 160
TRAINING_PHASES = ("search", "confirm")


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    name: of its PNG, without the ending. alt: what it shows, for who cannot see it. code: the call that draws it,
    on `study`. draw: the same call, on given Axes.
    """

    name: str
    alt: str
    code: str
    draw: Callable[[Axes], Axes]

    def save(self, folder: Path) -> str:
        """Write `folder/NAME.png`; return it as a data URI."""
        figure = Figure(figsize=SIZE, layout="constrained")
        self.draw(figure.subplots())
        path = folder / f"{self.name}.png"
        figure.savefig(path, dpi=DOTS_PER_INCH)
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def curve_pictures(study: Study) -> list[Picture]:
    """Return the learning curves of each task: its primary metric and its online probe, in search and confirm."""
    found = []
    for task in pretext_tasks(study.runs):
        for phase in TRAINING_PHASES:
            where = f"task == {task!r} and phase == {phase!r}"
            runs = study.runs.query(where)
            reported = set(study.curves.loc[study.curves["trial_id"].isin(runs["trial_id"]), "metric"])
            for metric in dict.fromkeys([*runs["primary_metric"], ONLINE_PROBES[0]]):
                if metric in reported:
                    found.append(_curve_picture(study, task, phase, where, metric))
    return found


def search_pictures(study: Study) -> list[Picture]:
    """Return, for each searched task, what its trials were compared by, against the learning rate."""
    runs = tables.last_values(study.runs, study.curves)
    found = []
    for task in pretext_tasks(runs):
        where = f"task == {task!r} and phase == 'search'"
        searched = runs.query(where)
        column = compared_by(study, searched, task)
        if column not in searched or searched[column].isna().all():
            continue
        metric = column.removeprefix(tables.LAST)
        alt = f"{task}: {metric} at the last report of {len(searched)} search trials, against lr"
        code = f'search_scatter(last_values(study.runs, study.curves).query("{where}"), metric="{column}")'

        def draw(ax: Axes, searched: pd.DataFrame = searched, column: str = column) -> Axes:
            return figures.search_scatter(searched, ax=ax, metric=column)

        found.append(Picture(f"search-{task}", alt, code, draw))
    return found


def accuracy_pictures(study: Study) -> list[Picture]:
    """Return the accuracy by task on each data set that the final evaluation probed on its test split."""
    where = "probe_split == 'test'"
    runs = study.runs.query(where)
    results = tables.probe_results(runs)
    found = []
    for number, dataset in enumerate(results.loc[results["probe"].isin(list(figures.PROBE_NAMES)), "dataset"].unique()):
        summary = tables.probe_summary(results.loc[results["dataset"] == dataset])
        means = ", ".join(f"{row.task} {row.probe} {row.mean:.3f}" for row in summary.itertuples())
        code = f'accuracy_by_task(study.runs.query("{where}"), {dataset!r})'

        def draw(ax: Axes, dataset: str = dataset) -> Axes:
            return figures.accuracy_by_task(runs, dataset, ax)

        found.append(Picture(f"accuracy-{number}", f"Test accuracy on {dataset} by pretext task: {means}", code, draw))
    return found


def pretext_tasks(runs: pd.DataFrame) -> list[str]:
    """Return the pretext tasks of `runs` in the order in which they were first tried."""
    return [task for task in runs["task"].unique() if task not in BASELINES]


def compared_by(study: Study, searched: pd.DataFrame, task: str) -> str:
    """Return the column of `last_values` that a task's search trials are compared by.

    That is the metric by which the study chose, where it has chosen; else the online probe, or without labels the
    primary metric.
    """
    chosen = study.outcomes.get("confirm", {}).get("chosen", {}).get(task, {}).get("metric")
    if chosen:
        return tables.LAST + chosen if tables.LAST + chosen in searched else chosen
    probe = tables.LAST + ONLINE_PROBES[0]
    if probe in searched and searched[probe].notna().any():
        return probe
    named = searched.loc[searched["primary_metric"] != "", "primary_metric"]
    return tables.LAST + (named.iloc[0] if len(named) else "")


def _curve_picture(study: Study, task: str, phase: str, where: str, metric: str) -> Picture:
    runs = study.runs.query(where)
    last = tables.last_values(runs, study.curves)[tables.LAST + metric]
    levels = sorted(runs.get(f"chance/{metric}", pd.Series(dtype=float)).dropna().unique())
    chance = f"; chance {', '.join(f'{level:.3g}' for level in levels)}" if levels else ""
    alt = (
        f"{task}, {phase}: {metric} against optimiser steps of {len(runs)} trials, "
        f"which end between {last.min():.3g} and {last.max():.3g}{chance}"
    )
    code = f'learning_curves(study.curves, study.runs.query("{where}"), "{metric}")'
    name = f"curves-{task}-{phase}-{metric.replace('/', '_')}"
    return Picture(name, alt, code, lambda ax: figures.learning_curves(study.curves, runs, metric, ax))
