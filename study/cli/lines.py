"""One trial in one line: what it is, its values, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.text import Text

from analysis.records import FAILED, FINISHED, STOPPED
from study.cli.words import settings_words
from study.plan.history import TrialRecord
from trainables.errors import last_line

COLORS = {FINISHED: "green", STOPPED: "yellow", FAILED: "red"}
WIDE, DETAILS_WIDTH = 100, 47  # columns after the task from which on there is room for details of this width
_SEARCHED = ("lr", "augmentation_strength", "batch_size")


def title(record: TrialRecord, seed: str = "") -> str:
    """Return what distinguishes a trial: its task, its cell or its settings, and its seed in words."""
    return " ".join([record.trial.task, *_details(record, seed)])


def values_of(record: TrialRecord, metric: str) -> list[str]:
    """Return a trial's values, most important first: the metric that it is chosen by, and its task's own.

    Args:
        record: State of the trial.
        metric: Metric that its task's configurations are chosen by. A trial that is only probed has no such metric;
            its results of the same probe are returned instead.
    """
    names = [metric, record.facts.primary_metric if record.facts else metric]
    found = {name: record.metrics[name] for name in dict.fromkeys(names) if name in record.metrics}
    probe = metric.rsplit("/", 1)[-1]
    found |= {name: value for name, value in record.results.items() if _is_score(name, probe)}
    return [f"{name} {value:.3f}" for name, value in found.items() if math.isfinite(value)]


def ended_line(record: TrialRecord, metric: str, seed: str, tasks: Sequence[str], width: int | None) -> Text:
    """Return the line of a trial that has ended, over several lines if it does not fit.

    Args:
        record: State of the trial.
        metric: Metric that its task's configurations are chosen by.
        seed: Its seed in words.
        tasks: Tasks of the study, whose names are as wide as the longest.
        width: Columns of the terminal that the line may take; None for one line of any length.
    """
    head = f"{record.status or '':<8} ", COLORS.get(record.status or "", "")
    reason = _short_reason(record)
    values = values_of(record, metric)
    if width is None:
        return Text.assemble(head, "  ".join([title(record, seed), *values, *([" ".join(reason)] if reason else [])]))
    task = f"{record.trial.task:<{max(map(len, tasks))}} "
    room = width - len(head[0]) - len(task)
    details = _details(record, seed)
    if room >= WIDE:  # the values of all lines below each other
        details = [" ".join(details).ljust(DETAILS_WIDTH)]
    shown = values[:1]
    lines = _packed(details, shown, reason, room)
    for value in values[1:]:  # as many as there is room for
        longer = _packed(details, [*shown, value], reason, room)
        if len(longer) == len(lines):
            shown, lines = [*shown, value], longer
    return Text.assemble(head, task, f"\n{' ' * (width - room)}".join(lines))


def _details(record: TrialRecord, seed: str) -> list[str]:
    trial = record.trial
    if trial.cell or seed or not trial.budget_steps:
        return [*filter(None, [trial.cell, seed])]
    return settings_words({name: getattr(trial, name) for name in _SEARCHED})


def _is_score(name: str, probe: str) -> bool:
    """Whether a final result `probe/DATASET/PROBE` is of this probe, or of the main one of labels or of masks."""
    return name.rsplit("/", 1)[-1] in (probe, "linear", "miou")


def _short_reason(record: TrialRecord) -> list[str]:
    """Return the words of the most informative line of the reason: the last of a traceback, otherwise the first."""
    if not record.reason.strip():
        return []
    line = last_line(record.reason) if record.status == FAILED else record.reason.strip().splitlines()[0]
    return f"({line})".split()


def _packed(details: Sequence[str], values: Sequence[str], reason: Sequence[str], width: int) -> list[str]:
    """Return lines of at most `width` characters that break between words only; a value with its name is one word."""
    lines = [""]
    for words, gap in ((details, " "), (values, "  "), (reason, " ")):
        for number, word in enumerate(words):
            before = gap if number else "  "
            if lines[-1] and len(lines[-1]) + len(before) + len(word) > width:
                lines.append(word)
            else:
                lines[-1] += (before if lines[-1] else "") + word
    return lines
