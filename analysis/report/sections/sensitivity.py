"""Section "How sensitive is it to its settings?": the search trials, and how much each setting mattered."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from analysis.comparisons import importance, searched_columns, why_no_importance
from analysis.comparisons.label_free import has_labels
from analysis.comparisons.selection import finished_values
from analysis.data import tables
from analysis.data.classes import online_probe
from analysis.data.ranking import rank_trials
from analysis.figures import importance_bars, parallel_coordinates, search_scatter
from analysis.findings import Findings, queries
from analysis.records.phases import SEARCH
from analysis.report.blocks import Block, Gallery, Section, Table, Text
from analysis.report.pictures import Picture, call, picture
from analysis.report.sources import Sources
from analysis.report.words import NONE, count, counted, listed, number

EVALUATOR, RESAMPLES = "ped_anova", 50  # fANOVA's random forest takes a hundred times as long
FEWEST_LINES = 6  # trials with a value; fewer lines through their settings show no pattern
WINNER = (
    "The best of many noisy trials looks better than it is, so do not report its value. The confirm phase measures it "
    "again with fresh seeds. A stopped trial took fewer steps than a finished one."
)


def how_sensitive(findings: Findings, sources: Sources) -> Section:
    """Return the section on the search.

    Args:
        findings: What was computed for the study.
        sources: Frames that the figures are drawn from.
    """
    n = int((findings.study.runs["phase"] == SEARCH).sum())
    lead = f"{counted(n, 'search trial')}: the best one of each task." if n else ""
    return Section("search", "How sensitive is it to its settings?", list(_blocks(findings, sources)), lead)


def _blocks(findings: Findings, sources: Sources) -> Iterator[Block]:
    searched = sources.last.query("phase == 'search'").value
    tasks = [task for task in queries.tasks(findings) if (searched["task"] == task).any()]
    if not tasks:
        yield Text("No search trial has started yet.", "caveat")
        return
    columns = {task: compared_by(findings, searched.loc[searched["task"] == task], task) for task in tasks}
    yield _table(searched, columns)
    yield Text(WINNER, "caveat")
    by_pretext = [task for task, column in columns.items() if not column.removeprefix(tables.LAST).startswith("probe/")]
    if by_pretext:
        reason = "Augmentation strength and batch size change what that metric measures."
        trials = "Trials" if has_labels(findings.study) else "Without labels, trials"
        yield Text(f"{trials} are compared by a pretext metric: {listed(by_pretext)}. {reason}", "caveat")
    if notes := [note for task in tasks if (note := _no_importance(searched, task, columns[task]))]:
        yield Text(f"How much each setting mattered is not known for {'; '.join(notes)}.")
    yield Gallery([each for task in tasks for each in _pictures(sources, searched, task, columns[task])])


def compared_by(findings: Findings, searched: pd.DataFrame, task: str) -> str:
    """Return the column of `last_values` that compares a task's search trials.

    It is the metric by which the study chose, if it has chosen; otherwise the online probe or, without labels, the
    primary metric.
    """
    chosen = queries.chosen(findings).get(task, {}).get("metric")
    if chosen:
        return tables.LAST + chosen if tables.LAST + chosen in searched else chosen
    probe = tables.LAST + online_probe(searched)
    if len(_finite(searched, probe)):
        return probe
    named = searched.loc[searched["primary_metric"] != "", "primary_metric"]
    return tables.LAST + (named.iloc[0] if len(named) else "")


def _table(searched: pd.DataFrame, columns: dict[str, str]) -> Table:
    counts = tables.statuses(searched).set_index("task")
    rows = []
    for task, column in columns.items():
        own = searched.loc[searched["task"] == task]
        best = rank_trials(own, column).head(1)
        settings = NONE if best.empty else tables.configurations(own).loc[best.index[0]]
        value = NONE if best.empty else number(best[column].iloc[0])
        rows.append([task, column.removeprefix(tables.LAST), settings, value, *map(count, counts.loc[task])])
    head = ["task", "metric at the last report (validation)", "best trial", "its value", *counts.columns]
    caption = (
        "Search trials of each task: the first by the study's own ranking, and the number of trials per status. "
        "Ties are broken by the task's own metric and then by trial id."
    )
    return Table(caption, head, rows, 3)


def _pictures(sources: Sources, searched: pd.DataFrame, task: str, column: str) -> Iterator[Picture]:
    own = searched.loc[searched["task"] == task]
    known = _finite(own, column)
    if known.empty:
        return
    metric = column.removeprefix(tables.LAST)
    runs = sources.last.query(f"task == {task!r} and phase == 'search'")
    ends = f"{metric} at the last report, from {known.min():.3g} to {known.max():.3g}"
    varied = searched_columns(own)
    if varied and len(known) >= FEWEST_LINES:
        alt = f"{task}: {len(own)} search trials as lines through {listed(varied)} to {ends}"
        caption = "Follow the dark lines: where they pass through one place of an axis, that setting may have mattered."
        yield picture(f"parallel-{task}", alt, parallel_coordinates, runs, column, caption=caption)
    mode = tables.mode_of(own, column)
    if not _no_importance(searched, task, column):
        options = {"evaluator": EVALUATOR, "n_bootstrap": RESAMPLES}
        found = call(importance, runs, column, mode, **options)
        shares = ", ".join(f"{row.hyperparameter} {row.importance:.2f}" for row in found.value.itertuples())
        alt = f"{task}: importance of each setting for reaching the best quarter of trials by {metric}: {shares}"
        caption = (
            "The longer a bar, the better the setting separates the best quarter of these trials from the others. Long "
            "lines mean: hardly known."
        )
        yield picture(f"importance-{task}", alt, importance_bars, found, caption=caption)
    alt = f"{task}: {ends}, of {len(own)} search trials, against lr"
    caption = (
        f"If the points {'fall' if mode == 'min' else 'rise'} toward an edge, the range of learning rates may have "
        "ended too early on that side."
    )
    yield picture(f"search-{task}", alt, search_scatter, runs, metric=column, caption=caption)


def _finite(runs: pd.DataFrame, column: str) -> pd.Series:
    """Return the finite values of a column, possibly none: the loss of a trial that diverged may be infinite."""
    values = runs[column].astype("float64") if column in runs else pd.Series(dtype="float64")
    return values.loc[np.isfinite(values)]


def _no_importance(searched: pd.DataFrame, task: str, column: str) -> str:
    """Return why the importance of a task's settings cannot be estimated; empty if it can."""
    own = searched.loc[searched["task"] == task]
    usable = own.loc[np.isfinite(finished_values(own, column))] if column in own else own.iloc[:0]
    note = why_no_importance(usable, column)
    return f"{task}: {note}" if note else ""
