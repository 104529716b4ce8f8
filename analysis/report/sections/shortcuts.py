"""Shortcuts: a sentence for each task that is solved as well on images reduced to their lighting or their border."""

from __future__ import annotations

from typing import Any

from analysis.comparisons.shortcuts import CUES, is_shortcut, shortcuts
from analysis.findings import Findings
from analysis.report import sentences
from analysis.report.words import interval, listed, metric_words, number


def shortcut_warnings(findings: Findings) -> dict[str, str]:
    """Return a sentence for each task that a cue is shown to suffice for, by the name of the task."""
    found = shortcuts(findings.study)
    said = {}
    for task, rows in found.loc[is_shortcut(found)].groupby("task", sort=False):
        first = rows.iloc[0]
        said[str(task)] = sentences.SHORTCUT.say(
            rows,
            task=task,
            metric=metric_words(first["metric"]),
            reduced=listed(
                f"{number(row.reduced)} {_interval(row)} on images reduced to {CUES[row.cue]}"
                for row in rows.itertuples()
            ),
            whole=number(first["whole"]),
            chance=number(first["chance"]),
        )
    return said


def _interval(row: Any) -> str:
    """Return the interval of a row of `shortcuts`, and what it is over where that is not both seeds and images."""
    found = interval(row.ci_low, row.ci_high)
    return f"{found} (one seed: over new images only)" if row.n_seeds == 1 else found
