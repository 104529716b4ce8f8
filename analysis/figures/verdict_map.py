"""Which trials ended how: a map of verdicts, a square a trial."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from analysis.figures.style import (
    COLORS,
    SIZE,
    SMALL,
    axes,
    counted,
    legend_below,
    listed,
    name_rows,
    require,
    row_font,
    title,
    whose,
)
from trainables.errors import UserError

PER_LINE = 20  # trials; more of them go on in the next line
MANY = 1000  # trials, above which squares are small, and only their colors are told
MANY_PER_LINE = 100
SQUARE, SMALL_SQUARE = 0.24, 0.07  # inches
NAME_LENGTH = 36  # characters a line of a row's name
GAP = 0.3  # between the lines of two rows, in squares
TALLEST = 4  # height over width from which squares are drawn flatter than square
WIDEST_TICK = 4  # characters of a column's name; fresh seeds have seven, and most of them in common
MAKER = "analysis.convergence.verdicts"


class VerdictStyle(NamedTuple):
    """How a verdict is drawn: the letter in its square, the square's color, the letter's."""

    letter: str
    color: str
    ink: str = "black"


# In the order of precedence of `analysis.convergence.VERDICTS`.
VERDICT_STYLES = {
    "failed": VerdictStyle("F", "#303030", "white"),
    "diverged": VerdictStyle("D", COLORS[3], "white"),
    "collapsed": VerdictStyle("C", COLORS[4]),
    "at_chance": VerdictStyle("A", "#b0b0b0"),
    "overfit": VerdictStyle("O", COLORS[8]),
    "still_improving": VerdictStyle("↗", COLORS[9]),
    "converged": VerdictStyle("✓", COLORS[2]),
}


def verdict_map(
    runs: pd.DataFrame,
    verdicts: pd.DataFrame,
    ax: Axes | None = None,
    *,
    rows: Sequence[str] | None = None,
    columns: str | None = None,
) -> Axes:
    """Draw a square for each trial that has a verdict, in the verdict's color and, of a thousand at most, its letter.

    verdicts: columns trial_id, verdict, as `analysis.convergence.verdicts` returns them.
    rows: columns of `runs` whose values make a row, by default task and cell, as far as there are several. Beside
        each row stands how many of its trials converged.
    columns: the column of `runs` that places trials from left to right, by default the seed where it tells a row's
        trials apart, and otherwise the learning rate. Whole numbers and names that tell a row's trials apart get a
        place each, the same in all rows; by anything else the trials are merely sorted, 20 a line (100 where there are
        thousands), read like text.

    Raises UserError for missing columns, and where no trial has a verdict, or has one that is not known.
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
            f"none of these {len(runs)} runs has a verdict; {MAKER}(runs, curves) judges those that trained"
        )
    if unknown := set(drawn["verdict"]) - set(VERDICT_STYLES):
        raise UserError(f"unknown verdict {listed(sorted(unknown))}; known are {listed(VERDICT_STYLES)}")
    rows = rows or [name for name in ("task", "cell") if drawn[name].nunique() > 1] or ["task"]
    layout = _lay_out(drawn, list(rows), columns)

    side = SQUARE if len(drawn) <= MANY else SMALL_SQUARE
    ax = axes(ax, size=(max(SIZE[0], 3.5 + side * layout.width), 1.5 + side * layout.height))
    legend = {}
    for verdict, style in VERDICT_STYLES.items():
        places = layout.places[(drawn["verdict"] == verdict).to_numpy()]
        squares = [Rectangle((x - 0.46, y - 0.46), 0.92, 0.92) for x, y in places]
        if squares:
            name = f"{verdict.replace('_', ' ')} ({len(squares)})"
            ax.add_collection(PatchCollection(squares, facecolor=style.color, edgecolor="none", label=name))
            legend[name] = _legend_handle(style)
    _write(ax, layout, drawn["verdict"])
    title(ax, f"{whose(drawn)}{counted(len(drawn), 'verdict')}", length=44)
    legend_below(ax, legend, ncols=min(4, len(legend)))
    return ax


@dataclass(frozen=True)
class _Layout:
    """Where every square lies, in units of squares.

    places: float [M, 2], the centers as (x, y), y downwards. names: of the rows; lines: the y of each one's lines.
    columns: what places trials from left to right; ticks: its values, none where trials are merely sorted by it.
    row_of: int64 [M], the row of every trial.
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
    return _Layout(places, list(labels), lines, columns, list(map(str, distinct)) if is_grid else [], row_of)


def _write(ax: Axes, layout: _Layout, verdicts: pd.Series) -> None:
    """Write letters, names of rows and columns, and how many of each row converged."""
    ax.set_xlim(-0.6, layout.width - 0.4)
    ax.set_ylim(layout.height - 0.4, -0.6)
    if layout.height <= TALLEST * layout.width:
        ax.set_aspect("equal", anchor="W")
    ax.tick_params(length=0, labelsize=SMALL)
    ax.spines[:].set_visible(False)
    has_letters = len(verdicts) <= MANY
    size = row_font(ax, layout.height) if has_letters else SMALL
    for (x, y), verdict in zip(layout.places, verdicts, strict=True) if has_letters else ():
        style = VERDICT_STYLES[verdict]
        ax.text(x, y, style.letter, color=style.ink, fontsize=size, ha="center", va="center_baseline")
    middles = [line.mean() for line in layout.lines]
    rows = layout.height / min(len(line) for line in layout.lines)
    name_rows(ax, dict(zip(middles, layout.names, strict=True)), rows, NAME_LENGTH)
    is_wide = len(layout.ticks) > 1 and max(map(len, layout.ticks)) > WIDEST_TICK
    shared = os.path.commonprefix(layout.ticks) if is_wide else ""  # noqa: RUF071 - it is characters that they share
    ax.set_xticks(range(len(layout.ticks)), [tick.removeprefix(shared) for tick in layout.ticks])
    begin = f" {shared}…" if shared else ""
    ax.set_xlabel(layout.columns + begin if layout.ticks else f"trials by {layout.columns}, lowest first, line by line")
    converged = (verdicts == "converged").to_numpy()
    for row, middle in enumerate(middles):
        of_row = layout.row_of == row
        share = f"{converged[of_row].sum()} of {of_row.sum()} {VERDICT_STYLES['converged'].letter}"
        ax.text(1.01, middle, share, transform=ax.get_yaxis_transform(), fontsize=size, va="center", color="0.3")


def _legend_handle(style: VerdictStyle) -> tuple[Line2D, Line2D]:
    """Return a square and the letter in it, which a legend draws one over the other."""
    square = Line2D([], [], linestyle="none", marker="s", markersize=10, color=style.color)
    letter = Line2D([], [], linestyle="none", marker=f"$\\mathrm{{{style.letter}}}$", markersize=6, color=style.ink)
    letter.set_markeredgewidth(0)
    return square, letter
