"""Frames in a terminal: tables for readers, CSV and JSON for programs. Imports nothing heavy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainables.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.data.study import Study


def print_all_columns(found: pd.DataFrame, csv: bool, json_: bool) -> bool:
    """Print the whole frame as CSV or JSON, and return whether either was requested."""
    if csv and json_:
        raise UserError("--csv and --json: choose one")
    if csv:
        typer.echo(found.to_csv(index=False), nl=False)
    elif json_:
        rows = json.loads(found.to_json(orient="records"))  # pandas writes missing values as null
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    return csv or json_


def warn_if_simulated(*studies: Study) -> None:
    """Print one line in red if the trials of any of the studies were simulated."""
    from analysis.data.study import SIMULATED

    if any(study.simulated for study in studies):
        Console(highlight=False).print(SIMULATED, style="bold red")


def plain_table(found: pd.DataFrame) -> Table:
    """Return a frame of strings as a table of the terminal."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in found:
        table.add_column(escape(str(name)), overflow="fold")
    for row in found.itertuples(index=False):
        table.add_row(*map(escape, row))
    return table


def verdict_table(found: pd.DataFrame) -> Table:
    """Return `Findings.verdicts` as a table of the terminal: trial, verdict, evidence and remedy."""
    from analysis.records.phases import short_seed

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("trial", "verdict"):
        table.add_column(name, overflow="fold")
    table.add_column("evidence and remedy", ratio=1)
    for row in found.itertuples():
        where = [row.trial_id, f"{row.phase}, {row.task}", *filter(None, [row.cell]), f"seed {short_seed(row.seed)}"]
        table.add_row(*map(escape, ("\n".join(where), row.verdict, f"{row.evidence}\n→ {row.cure}")))
    return table


def effect_table(found: pd.DataFrame, title: str) -> Table:
    """Return the comparisons of one design with one baseline as a table of the terminal."""
    from analysis.comparisons import interval_scope
    from analysis.report.words import interval, p_cell, signed

    caption = interval_scope(found)
    table = Table(
        title=escape(title), title_justify="left", caption=caption, caption_justify="left", box=box.SIMPLE_HEAD
    )
    table.add_column("cell", overflow="fold")
    for name in ("seeds", "difference", "Holm p", "answer"):
        table.add_column(name, no_wrap=name != "difference")
    for row in found.itertuples():
        seeds = f"{row.n_seeds}" + (f", {row.n_failed} failed" if row.n_failed else "")
        difference = f"{signed(row.mean_difference)} {interval(row.ci_low, row.ci_high)}".strip()
        table.add_row(*map(escape, (row.cell, seeds, difference, p_cell(row.p_holm), row.answer)))
    return table
