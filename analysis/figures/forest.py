"""Forest plot of effects: difference from the baseline, interval, seeds and answer of each cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from analysis.data.tables import split_note
from analysis.figures.style import (
    COLORS,
    SMALL,
    axes,
    counted,
    label,
    legend_below,
    listed,
    name_rows,
    require,
    row_font,
    title,
    whose,
    wrapped,
)
from trainables.errors import UserError

MAKER = "analysis.comparisons.effects"
COLUMNS = ("task", "design", "cell", "baseline", "n_seeds", "mean_difference", "ci_low", "ci_high", "answer")
DIFFERENCE_COLUMNS = ("task", "design", "cell", "baseline", "seed", "difference")
GROUP = ["task", "design", "baseline"]
PAIR = [*GROUP, "cell"]
NAME_LENGTH = 30  # characters per line of a cell's name
HEADING_LENGTH = 54  # characters per line of a group's heading
INTERVALS = {"ci": 2.6, "family": 0.9}  # line widths in points
BELOW = 0.27  # distance between a cell's mean and its seeds, in rows


class AnswerStyle(NamedTuple):
    """Marker of a cell's mean; filled if the seeds gave an answer."""

    marker: str
    color: str
    filled: bool


ANSWER_STYLES = {
    "better": AnswerStyle("^", COLORS[2], True),
    "worse": AnswerStyle("v", COLORS[3], True),
    "equivalent": AnswerStyle("s", COLORS[0], True),
    "inconclusive": AnswerStyle("o", "0.35", False),
    "too few seeds": AnswerStyle("D", "0.35", False),
}


def effects_forest(
    effects: pd.DataFrame,
    differences: pd.DataFrame | None = None,
    ax: Axes | None = None,
    margin: float | None = None,
    *,
    metric: str = "",
) -> Axes:
    """Draw one row per cell, grouped by design, the best difference on top: mean, interval, seeds and answer.

    Args:
        effects: Frame that `analysis.comparisons.effects` returns. The thick line is the interval of the comparison
            alone; the thin one (family_low to family_high, if present) is simultaneous for all comparisons of the
            design. A cell with too few seeds for an interval shows its mean and seeds. A cell compared with itself is
            left out.
        differences: Frame that `analysis.comparisons.paired_differences` returns; a ring per seed, below the mean.
        ax: Axes to draw on; None creates a figure.
        margin: Half width of the band around 0 that counts as no difference.
        metric: The metric that was compared, for the label of the x axis.

    Raises:
        UserError: If a frame is empty, a column is missing, or an answer is unknown.
    """
    require(effects, COLUMNS, "effects", MAKER)
    if differences is not None:
        require(differences, DIFFERENCE_COLUMNS, "differences", "analysis.comparisons.paired_differences")
    drawn = effects.loc[effects["cell"] != effects["baseline"]].reset_index(drop=True)
    require(drawn, COLUMNS, "effects of cells other than the baseline", MAKER)
    if unknown := set(drawn["answer"]) - set(ANSWER_STYLES):
        raise UserError(f"unknown answer {listed(sorted(unknown))}; known are {listed(ANSWER_STYLES)}")
    groups = _groups(drawn)
    n_rows = groups[-1].end

    ax = axes(ax, size=(7.0, 1.7 + 0.33 * n_rows))
    ax.set_ylim(n_rows - 0.4, -0.6)
    for group in groups:
        if margin is not None:
            band = Rectangle((-margin, group.first - 0.5), 2 * margin, len(group.cells), color="0.91", zorder=0)
            ax.add_patch(band)
        ax.vlines(0, group.first - 0.5, group.end - 0.5, color="0.25", linewidth=1, zorder=1)
        for row, cell in group.rows():
            _draw_cell(ax, row, cell, differences, row_font(ax, n_rows))
    _write(ax, groups, n_rows)
    ax.xaxis.set_major_locator(MaxNLocator(4))
    splits = list(drawn["split"].unique()) if "split" in drawn else []
    note = split_note(metric, splits[0] if len(splits) == 1 else "")
    ax.set_xlabel(f"difference in {label(metric)}{note}" if metric else "difference from the baseline")
    title(ax, f"{whose(drawn)}effects{_seeds(drawn['n_seeds'].unique())}", length=46)
    legend_below(ax, _legend(drawn, differences, margin))
    return ax


@dataclass(frozen=True)
class _Group:
    """The cells of a design that share a baseline, and their rows below the heading."""

    heading: str
    top: float
    cells: pd.DataFrame

    @property
    def first(self) -> float:
        return self.top + 1 + 0.7 * self.heading.count("\n")

    @property
    def end(self) -> float:
        return self.first + len(self.cells)

    def rows(self) -> Iterator[tuple[float, pd.Series]]:
        for place, (_, cell) in enumerate(self.cells.iterrows()):
            yield self.first + place, cell


def _groups(drawn: pd.DataFrame) -> list[_Group]:
    several_tasks, several_counts = drawn["task"].nunique() > 1, drawn["n_seeds"].nunique() > 1
    groups: list[_Group] = []
    lowest_first = "mode" in drawn and bool((drawn["mode"] == "min").all())
    for (task, design, baseline), cells in drawn.groupby(GROUP, sort=False):
        cells = cells.sort_values("mean_difference", ascending=lowest_first, kind="stable")
        heading = f"{task}: {design}" if several_tasks else str(design)
        heading += f" against {baseline}{_seeds(cells['n_seeds'].unique()) if several_counts else ''}"
        groups.append(_Group(wrapped(heading, HEADING_LENGTH, lines=2), groups[-1].end if groups else 0, cells))
    return groups


def _seeds(counts: np.ndarray) -> str:
    return f", {counted(counts[0], 'seed')}" if len(counts) == 1 else ""


def _draw_cell(ax: Axes, row: float, cell: pd.Series, differences: pd.DataFrame | None, size: float) -> None:
    style = ANSWER_STYLES[cell["answer"]]
    for interval, width in INTERVALS.items():
        low, high = (cell.get(f"{interval}_{end}", np.nan) for end in ("low", "high"))
        if np.isfinite(low) and np.isfinite(high):
            ax.plot([low, high], [row, row], color=style.color, linewidth=width, zorder=2, label=interval)
    face = style.color if style.filled else "white"
    mean = cell["mean_difference"]
    ax.plot(mean, row, style.marker, color=style.color, markerfacecolor=face, markersize=size, zorder=4)
    if differences is not None:
        seeds = differences.loc[(differences[PAIR] == cell[PAIR]).all(axis=1), "difference"]
        seeds = seeds[seeds.notna()]  # a seed that failed has no difference
        places = np.full(len(seeds), row + BELOW)
        ax.scatter(seeds, places, s=(0.45 * size) ** 2, facecolors="none", edgecolors="0.35", linewidths=0.7, zorder=3)


def _write(ax: Axes, groups: list[_Group], n_rows: float) -> None:
    """Write the names of cells on the left, a heading above each group, and the answers on the right."""
    size = row_font(ax, n_rows)
    across = ax.get_yaxis_transform()
    names: dict[float, str] = {}
    for group in groups:
        middle = (group.top + group.first - 1) / 2
        ax.text(0, middle, group.heading, transform=across, fontsize=size, va="center", fontweight="bold")
        same_count = group.cells["n_seeds"].nunique() == 1
        for row, cell in group.rows():
            names[row] = str(cell["cell"])
            text = f"{_signed(cell['mean_difference'])}  {cell['answer']}{_note(cell, same_count)}"
            ax.text(1.01, row, text, transform=across, fontsize=size, va="center")
    ax.tick_params(labelsize=SMALL)
    name_rows(ax, names, n_rows, NAME_LENGTH)
    ax.spines[["left", "right", "top"]].set_visible(False)


def _signed(difference: float) -> str:
    return f"{difference:+.3f}".replace("-", "−") if np.isfinite(difference) else "no value"


def _note(cell: pd.Series, same_count: bool) -> str:
    """Return how many seeds a cell has, if that differs within its group, and how many failed."""
    seeds = "" if same_count else f"n={cell['n_seeds']}"
    failed = f"{cell['n_failed']} failed" if cell.get("n_failed", 0) > 0 else ""
    baseline_failed = f"{cell['n_baseline_failed']} baselines failed" if cell.get("n_baseline_failed", 0) > 0 else ""
    notes = ", ".join(filter(None, [seeds, failed, baseline_failed]))
    return f" ({notes})" if notes else ""


def _scope(drawn: pd.DataFrame) -> str:
    """Return what the intervals are over, if that is known and the same for all."""
    known = drawn.loc[drawn["ci_low"].notna()].get("n_evaluated")
    if known is None or known.isna().any() != known.isna().all():
        return ""
    return ", seeds alone" if known.isna().all() else ", seeds and images"


def _legend(drawn: pd.DataFrame, differences: pd.DataFrame | None, margin: float | None) -> dict[str, Line2D | Patch]:
    entries: dict[str, Line2D | Patch] = {}
    if drawn["ci_low"].notna().any():
        entries[f"mean and interval{_scope(drawn)}"] = Line2D(
            [], [], color="0.35", marker="o", linewidth=INTERVALS["ci"]
        )
    if "family_low" in drawn and drawn["family_low"].notna().any():
        entries["simultaneous interval"] = Line2D([], [], color="0.35", linewidth=INTERVALS["family"])
    if drawn["ci_low"].isna().any():
        entries["mean alone"] = Line2D([], [], color="0.35", marker="D", markerfacecolor="white", linestyle="none")
    if differences is not None:
        entries["each seed"] = Line2D(
            [], [], color="0.35", marker="o", markerfacecolor="white", markersize=4, linestyle="none"
        )
    if margin is not None:
        entries[f"margin ±{margin:g}"] = Patch(color="0.92")
    return entries
