"""Durations, settings and results as the command lines show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from study.plan.best import Best

_SHORT = {"augmentation_strength": "aug", "batch_size": "bs"}
_NUMBERS = ("value", "untrained")


def duration(seconds: float) -> str:
    """Return a duration in words: `52 s`, `1 min 52 s`, `3 h 5 min`."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def time_left(seconds: float | None) -> str:
    """Return an estimate of the time left in words; None is an unknown one."""
    return "time left not known yet" if seconds is None else f"about {duration(seconds)} left, at the pace so far"


def unfinished_words(phases: Sequence[str]) -> str:
    """Return which phases the end of the time budget has left unfinished, and what continues them."""
    return f"unfinished: {', '.join(phases)}; start the study again to resume them, with the whole time"


def settings_words(values: Mapping[str, Any]) -> list[str]:
    """Return a trial's settings, one word each, of at most three digits: `lr=0.0038`, `aug=0.5`, `bs=32`."""
    return [
        f"{_SHORT.get(name, name)}={value:.3g}" if isinstance(value, float) else f"{_SHORT.get(name, name)}={value}"
        for name, value in values.items()
    ]


def dataset_lines(datasets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what was found in the data sets: one line each, and below it a line for each remark and its table.

    Args:
        datasets: Facts by name, as in `StudyStarted.datasets`.
    """
    lines = []
    for facts in datasets.values():
        if not (found := facts.get("inventory")):
            continue
        lines.append(found["line"])
        if found["remarks"]:
            lines += [f"  {remark}" for remark in found["remarks"]]
            lines += _columns(found["table"])
    return lines


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as aligned lines: the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            ["  " + row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def best_table(best: Mapping[str, Best], *, settings: bool = False) -> Table:
    """Return a table of each task's best result so far, beside the untrained networks that it started from.

    Args:
        best: Result of `best_so_far`.
        settings: Whether to show the settings behind each result.
    """
    headings = ["task", "best so far", "value", "untrained", "of", *(["settings"] if settings else [])]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, no_wrap=heading != "settings", justify="right" if heading in _NUMBERS else "left")
    for task, choice in best.items():
        of = f"{choice.seeds} seeds" if choice.seeds > 1 else "1 trial"
        row = [task, choice.metric, f"{choice.value:.3f}", _or_dash(choice.untrained), of]
        table.add_row(*row, *([" ".join(settings_words(choice.values))] if settings else []))
    return table


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
