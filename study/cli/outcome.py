"""The end of a study: the gain of each task over untrained networks, and what to open and type next."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from analysis.comparisons import BETTER, WORSE
from analysis.data.study import SIMULATED
from analysis.report.plain import Answer, gain_cells, order_note
from analysis.report.words import counted
from study.cli.console import err, out
from study.cli.words import duration, unfinished_words
from study.driver import Outcome
from study.execution.resources import BOOTSTRAP_CONFIG
from study.tracking.pages import MlflowPages, mlflow_pages
from study.tracking.sync import catch_up_command

MLFLOW_ROWS = 100  # runs that MLflow's page loads at a time, whatever a view says
COLORS = {BETTER: "green", WORSE: "red"}
LABEL_WIDTH, MOST_COLUMNS = 8, 110
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
    how = "stopped at the end of its time, after" if outcome.unfinished else "finished in"
    title = f"{name}: {how} {duration(seconds)}"
    console.print(Rule(Text(title, style="bold"), align="left") if console.is_terminal else Text(title))
    if outcome.answer is not None:
        _show_answer(outcome.answer, console)
    for label, value in _places(outcome, mlflow_pages(outcome.folder, tracking_uri)):
        console.print(Text.assemble((f"{label:<{LABEL_WIDTH}}", "bold"), value), soft_wrap=True)
    if console.is_terminal:
        console.print(Rule())
    if outcome.unfinished:
        err.print(unfinished_words(outcome.unfinished))
    if outcome.failed:
        err.print(f"{counted(len(outcome.failed), 'trial')} failed; the report says why", style="red")
    if not outcome.tracked:
        command = catch_up_command(outcome.folder, tracking_uri)
        err.print(f"MLflow is behind; `{command}` brings it up to date", soft_wrap=True)


def _places(outcome: Outcome, pages: MlflowPages) -> Iterator[tuple[str, str]]:
    """Yield what to open or type next, with absolute paths: `ray submit` runs a study in another machine's home."""
    yield "report", str(outcome.report.resolve())
    yield "data", (folder := str(outcome.folder.resolve()))
    if Path(BOOTSTRAP_CONFIG).expanduser().exists():  # on the head of a cluster that `ray up` started elsewhere
        fetch = f"ray rsync-down CLUSTER.yaml {shlex.quote(f'{folder}/')} {outcome.folder.name}"
        yield "fetch", f"on your own machine: {fetch}"
    if pages.command:
        yield "MLflow", pages.command
    yield ("" if pages.command else "MLflow"), pages.runs
    for name, address in pages.views.items():
        yield "", f"{address} ({name})"
    if pages.views and outcome.n_trials > MLFLOW_ROWS:
        yield "", f'MLflow loads {MLFLOW_ROWS} runs at a time: press "Load more" below its table'
    if outcome.answer is not None and outcome.answer.step.command:
        yield "next", outcome.answer.step.why
        yield "", outcome.answer.step.command


def _show_answer(answer: Answer, console: Console) -> None:
    """Print the report's first sentences and a table of the tasks; off a terminal, one line per task."""
    if answer.simulated:
        _say(SIMULATED, console, style="bold red")
    for sentence in filter(None, [*answer.sentences[:1], answer.cure, order_note(answer.gains)]):
        _say(sentence.replace("**", "").replace("`", ""), console)
    rows = [gain_cells(row) for row in answer.gains.rows.to_dict("records")]
    if console.is_terminal and rows:
        console.print("", _table(rows, wide=console.width >= WIDE), "")
    elif rows:
        for row in rows:
            task, standing, *rest = row.items()
            words = ", ".join([standing[1], *(f"{heading} {value}" for heading, value in rest)])
            console.print(Text(f"{task[1]}: {words}"), soft_wrap=True)


def _say(sentence: str, console: Console, style: str = "") -> None:
    """Print a sentence, on a terminal in lines that are easy to read."""
    if console.is_terminal:
        sentence = textwrap.fill(sentence, min(console.width, MOST_COLUMNS))
    console.print(Text(sentence, style=style), soft_wrap=True)


def _table(rows: list[dict[str, str]], *, wide: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    headings = list(rows[0]) if wide else list(rows[0])[:-1]
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[each], style=COLORS.get(row[each], "")) for each in headings))
    return table
