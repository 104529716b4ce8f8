"""Map of verdicts: one square per trial."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from analysis.convergence import CATALOG, CONVERGED
from analysis.convergence.verdict import Verdict
from analysis.figures.style import (
    SIZE,
    SMALL,
    axes,
    counted,
    ink_on,
    legend_below,
    listed,
    name_rows,
    require,
    row_font,
    settle,
    title,
    whose,
)
from analysis.records.phases import short_seed
from trainables.errors import UserError

MANY = 1000  # number of trials above which squares are small and have no letters
PER_LINE, MANY_PER_LINE = 20, 100  # trials per line, up to MANY and above it
SQUARE, SMALL_SQUARE = 0.24, 0.07  # inches
NAME_LENGTH = 36  # characters per line of a row's name
GAP = 0.3  # additional distance between two rows, in squares
MAX_ASPECT = 4  # ratio of height to width above which squares become flatter than square
MAX_TICK_LENGTH = 4  # characters of a column's name; longer names lose their common prefix
EDGE = "0.6"  # edge of a square; without it, undecided squares would be white on white
MAKER = "analysis.convergence.verdicts"


def verdict_map(
    runs: pd.DataFrame,
    verdicts: pd.DataFrame,
    ax: Axes | None = None,
    *,
    rows: Sequence[str] | None = None,
    columns: str | None = None,
) -> Axes:
    """Draw one square per trial that has a verdict, with the verdict's color and, for up to 1,000 trials, its letter.

    If the values in `columns` are whole numbers or names that are distinct within each row, the trials form a grid.
    Otherwise the trials of a row are sorted by that value and fill lines of 20 (of 100 above 1,000 trials) like text.
    Next to each row is the number of its trials that converged.

    Args:
        runs: One row per trial.
        verdicts: Columns `trial_id` and `verdict`, as `analysis.convergence.verdicts` returns them.
        ax: Axes to draw on; None creates a figure.
        rows: Columns of `runs` whose values make a row; by default `task` and `cell`, if they have several values.
        columns: Column of `runs` that places trials from left to right; by default the seed if it is unique within each
            row, and otherwise the learning rate.

    Raises:
        UserError: If columns are missing, no trial has a verdict, or a verdict is unknown.
    """
    require(verdicts, ["trial_id", "verdict"], "verdicts", MAKER)
    require(
        runs,
        ["trial_id", "task", "cell", *(rows or []), *([columns] if columns else ["seed", "lr"])],
        "runs",
        "analysis.load",
    )
    drawn = runs.merge(verdicts[["trial_id", "verdict"]], on="trial_id")
    if drawn.empty:
        raise UserError(
            f"none of these {len(runs)} runs has a verdict; {MAKER}(runs, curves) returns those of trials that trained"
        )
    if unknown := set(drawn["verdict"]) - set(CATALOG):
        raise UserError(f"unknown verdict {listed(sorted(unknown))}; known are {listed(CATALOG)}")
    rows = rows or [name for name in ("task", "cell") if drawn[name].nunique() > 1] or ["task"]
    layout = _lay_out(drawn, list(rows), columns)

    side = SQUARE if len(drawn) <= MANY else SMALL_SQUARE
    ax = axes(ax, size=(max(SIZE[0], 3.5 + side * layout.width), 1.5 + side * layout.height))
    legend = {}
    for verdict in CATALOG.values():
        places = layout.places[(drawn["verdict"] == verdict.name).to_numpy()]
        squares = [Rectangle((x - 0.46, y - 0.46), 0.92, 0.92) for x, y in places]
        if squares:
            name = f"{verdict.label} ({len(squares)})"
            ax.add_collection(
                PatchCollection(squares, facecolor=verdict.color, edgecolor=EDGE, linewidth=0.5, label=name)
            )
            legend[name] = _legend_handle(verdict)
    _write(ax, layout, drawn["verdict"])
    title(ax, f"{whose(drawn)}{counted(len(drawn), 'verdict')}", length=44)
    legend_below(ax, legend, ncols=min(4, len(legend)))
    settle(ax)
    return ax


@dataclass(frozen=True)
class _Layout:
    """Positions of all squares, in units of squares.

    Attributes:
        places: Centers as (x, y) with y downwards, float64 [M, 2].
        names: Names of the rows.
        lines: The y coordinates of each row's lines.
        columns: Column of `runs` that places trials from left to right.
        ticks: Values of that column; empty if trials are only sorted by it.
        row_of: Row of every trial, int64 [M].
    """

    places: np.ndarray
    names: list[str]
    lines: list[np.ndarray]
    columns: str
    ticks: list[str]
    row_of: np.ndarray

    @property
    def width(self) -> float:
        return float(self.places[:, 0].max() + 1)

    @property
    def height(self) -> float:
        return float(self.lines[-1][-1] + 1)


def _lay_out(drawn: pd.DataFrame, rows: list[str], columns: str | None) -> _Layout:
    names = drawn[rows].astype("str").fillna("all").apply(lambda row: ": ".join(filter(None, row)), axis=1)
    row_of, labels = pd.factorize(names)
    if columns is None:
        columns = "lr" if drawn.duplicated([*rows, "seed"]).any() else "seed"
    distinct = drawn[columns].drop_duplicates().sort_values().tolist()
    is_grid = not pd.api.types.is_float_dtype(drawn[columns]) and not drawn.duplicated([*rows, columns]).any()
    if is_grid:
        place = drawn[columns].map(distinct.index).to_numpy()
        per_line = len(distinct)
    else:
        by_value = drawn.assign(row=row_of).sort_values(columns, kind="stable")
        place = by_value.groupby("row").cumcount().sort_index().to_numpy()
        per_line = PER_LINE if len(drawn) <= MANY else MANY_PER_LINE
    lines, top = [], 0.0
    for row in range(len(labels)):
        count = place[row_of == row].max() // per_line + 1
        lines.append(top + np.arange(count))
        top += count + (0 if is_grid else GAP)
    y = np.array([lines[row][position // per_line] for row, position in zip(row_of, place, strict=True)])
    places = np.column_stack([place % per_line, y])
    shown = [short_seed(value) for value in distinct] if columns == "seed" else distinct
    return _Layout(places, list(labels), lines, columns, list(map(str, shown)) if is_grid else [], row_of)


def _write(ax: Axes, layout: _Layout, verdicts: pd.Series) -> None:
    """Write the letters, the names of rows and columns, and the number of each row's trials that converged."""
    ax.set_xlim(-0.6, layout.width - 0.4)
    ax.set_ylim(layout.height - 0.4, -0.6)
    if layout.height <= MAX_ASPECT * layout.width:
        ax.set_aspect("equal", anchor="W")
    ax.tick_params(length=0, labelsize=SMALL)
    ax.spines[:].set_visible(False)
    has_letters = len(verdicts) <= MANY
    size = row_font(ax, layout.height) if has_letters else SMALL
    for (x, y), verdict in zip(layout.places, verdicts, strict=True) if has_letters else ():
        letter, ink = CATALOG[verdict].letter, ink_on(CATALOG[verdict].color)
        ax.text(x, y, letter, color=ink, fontsize=size, ha="center", va="center_baseline")
    middles = [line.mean() for line in layout.lines]
    rows = layout.height / min(len(line) for line in layout.lines)
    name_rows(ax, dict(zip(middles, layout.names, strict=True)), rows, NAME_LENGTH)
    ticks, note = _short(layout.ticks)
    ax.set_xticks(range(len(ticks)), ticks)
    xlabel = layout.columns + note if ticks else f"trials by {layout.columns}, lowest first, line by line"
    ax.set_xlabel(xlabel, loc="left")  # in the middle of a few squares it would begin outside of the figure
    converged = (verdicts == CONVERGED).to_numpy()
    for row, middle in enumerate(middles):
        of_row = layout.row_of == row
        share = f"{converged[of_row].sum()} of {of_row.sum()} {CATALOG[CONVERGED].letter}"
        ax.text(1.01, middle, share, transform=ax.get_yaxis_transform(), fontsize=size, va="center", color="0.3")


def _short(ticks: list[str]) -> tuple[list[str], str]:
    """Return names of columns that fit, and what the label has to add: long numbers are counted from the first."""
    if len(ticks) < 2 or max(map(len, ticks)) <= MAX_TICK_LENGTH:
        return ticks, ""
    if all(tick.isdecimal() for tick in ticks):
        return [str(int(tick) - int(ticks[0])) for tick in ticks], f", counted from {ticks[0]}"
    shared = os.path.commonprefix(ticks)  # noqa: RUF071 - compares characters, not path components
    return [tick.removeprefix(shared) for tick in ticks], f" {shared}…" if shared else ""


def _legend_handle(verdict: Verdict) -> tuple[Line2D, Line2D]:
    """Return a square and its letter, which a legend draws on top of each other."""
    square = Line2D([], [], linestyle="none", marker="s", markersize=10, color=verdict.color, markeredgecolor=EDGE)
    marker = f"$\\mathrm{{{verdict.letter}}}$"
    letter = Line2D([], [], linestyle="none", marker=marker, markersize=6, color=ink_on(verdict.color))
    letter.set_markeredgewidth(0)
    return square, letter
