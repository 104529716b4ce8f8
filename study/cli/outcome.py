"""The end of a study: what each task is worth beside untrained networks, and where to look next."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from analysis.comparisons import BETTER, WORSE
from analysis.convergence import CATALOG
from analysis.data.study import SIMULATED
from analysis.findings import Findings, queries
from analysis.records.phases import CONFIRM
from analysis.report.words import NONE, counted, difference, metric_words, number
from study.cli.console import err, out
from study.cli.words import duration
from study.driver import Outcome
from study.tracking.pages import MlflowPages, mlflow_pages

COLORS = {BETTER: "green", WORSE: "red"}
LABEL_WIDTH = 8
WIDE = 110  # columns from which on there is room for how training ended


def show_outcome(outcome: Outcome, name: str, tracking_uri: str, seconds: float, console: Console = out) -> None:
    """Print what a study found, and where its results are.

    What a reader copies, paths, addresses and commands, is never broken.

    Args:
        outcome: Outcome of the study.
        name: Name of the study.
        tracking_uri: MLflow store of the study.
        seconds: Seconds that the study took.
        console: Console to print on; on anything but a terminal, each line is plain text.
    """
    title = f"{name}: finished in {duration(seconds)}"
    console.print(Rule(Text(title, style="bold"), align="left") if console.is_terminal else title)
    if outcome.findings is not None and outcome.chosen:
        if outcome.findings.study.simulated:
            console.print(SIMULATED, style="bold red", soft_wrap=True)
        _show_tasks(outcome.findings, list(outcome.chosen), console)
    for label, value in _places(outcome, mlflow_pages(outcome.folder, tracking_uri)):
        console.print(Text(f"{label:<{LABEL_WIDTH}}", style="bold") + Text(value, style="default"), soft_wrap=True)
    if console.is_terminal:
        console.print(Rule())
    if outcome.failed:
        err.print(f"{counted(len(outcome.failed), 'trial')} failed; the report says why", style="red")
    if not outcome.tracked:
        err.print(f"MLflow is behind; `python -m study sync {outcome.folder}` brings it up to date")


def _places(outcome: Outcome, pages: MlflowPages) -> Iterator[tuple[str, str]]:
    """Yield what to open or type next, with absolute paths: `ray submit` runs a study in another machine's home."""
    yield "report", str(outcome.report.resolve())
    yield "data", str(outcome.folder.resolve())
    if pages.command:
        yield "MLflow", f"{pages.command}"
    yield ("" if pages.command else "MLflow"), pages.runs
    for name, address in pages.views.items():
        yield "", f"{address}  {name}"


def _show_tasks(findings: Findings, tasks: list[str], console: Console) -> None:
    rows = [_of_task(findings, task) for task in tasks]
    if not console.is_terminal:
        for row in rows:
            task, answer, *rest = row.items()
            words = [answer[1], *(f"{heading} {value}" for heading, value in rest if value != NONE)]
            console.print(Text(f"{task[1]}: {', '.join(words)}"), soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    headings = [*rows[0]] if console.width >= WIDE else [*rows[0]][:-2]
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[each], style=COLORS.get(row[each], "")) for each in headings))
    console.print("", table, "")


def _of_task(findings: Findings, task: str) -> dict[str, str]:
    """Return the cells of a task's row by heading: its answer, value, untrained level, difference and ending."""
    found = queries.against_untrained(findings, task, queries.main_dataset(findings))
    ended = queries.convergence(findings, CONFIRM, task, queries.chosen_cell(findings, task))
    choice = queries.chosen(findings)[task]
    row = pd.Series(dtype=object) if found is None else found.row
    compared = found is not None
    return {
        "task": task,
        "vs. untrained": row["answer"] if compared else "not compared",
        "test": number(row["mean"]) if compared else NONE,
        "untrained": number(row["baseline_mean"]) if compared else NONE,
        "difference [95 %]": difference(row) if compared else NONE,
        "measured by": metric_words(row["metric"] if compared else choice["metric"]),
        "as chosen, it": CATALOG[ended.verdict].verb if ended else NONE,
    }
