"""Figures of a search: trials as lines through all their settings, and the importance of each setting."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import LogLocator, MaxNLocator

from analysis.comparisons import searched_columns
from analysis.data.ranking import rank_trials
from analysis.data.tables import LAST, mode_of, split_note, split_of
from analysis.figures.style import (
    COLORS,
    SHADES,
    SIZE,
    SMALL,
    axes,
    counted,
    has_log_axis,
    label,
    legend_below,
    listed,
    name_rows,
    require,
    title,
    whose,
)
from analysis.records import FINISHED
from trainables.errors import UserError

FEW = 6  # most distinct values for which each gets a tick
UNFINISHED_STYLE: dict[str, Any] = {"color": "0.72", "linestyle": (0, (4, 2)), "linewidth": 0.9}
PADDING = 0.04
MISSING = "–"
NAME_LENGTH = 12  # characters per line of a setting's name


def parallel_coordinates(runs: pd.DataFrame, metric: str, ax: Axes | None = None) -> Axes:
    """Draw each trial of one task's search as a line through its settings to its metric, which is the last axis.

    Settings with the same value in all trials are left out; settings that span decades have log axes. Darker is
    better, and the best trial has a thick line. Trials that did not finish are gray and dashed, and end before the
    last axis if they have no value.

    Args:
        runs: The trials.
        metric: A column of `runs`, such as `last/probe/linear` from `analysis.data.tables.last_values`. Lower is better
            only if it is a primary metric that is minimized.
        ax: Axes to draw on; None creates a figure.

    Raises:
        UserError: If the frame is empty or mixes tasks, no trial has a value, or no setting differs.
    """
    require(runs, ["task", "status", metric], "runs", "analysis.data.tables.last_values")
    if runs["task"].nunique() > 1:
        raise UserError(
            f"trials of {listed(runs['task'].unique())}; pass those of one task: runs.query(\"task == '...'\")"
        )
    runs = runs.assign(**{metric: runs[metric].astype("float64").where(np.isfinite)})  # a diverged trial has no value
    if runs[metric].isna().all():
        raise UserError(f"no value of {metric!r} in these {len(runs)} runs")
    scales = [_scale(name, runs[name]) for name in searched_columns(runs)]
    if not scales:
        raise UserError("these runs do not differ in any setting; pass the trials of a search")
    scales.append(_scale(metric, runs[metric]))

    ax = axes(ax, size=(max(SIZE[0], 1.2 + 1.15 * len(scales)), SIZE[1]))
    heights = np.column_stack([scale.heights for scale in scales])
    finished = ((runs["status"] == FINISHED) & runs[metric].notna()).to_numpy()
    places = np.arange(len(scales))
    for line in heights[~finished]:
        ax.plot(places, line, **UNFINISHED_STYLE, zorder=1)
    lowest = mode_of(runs, metric) == "min"
    goodness = -heights[:, -1] if lowest else heights[:, -1]
    ranked = rank_trials(runs.loc[finished], metric)
    order = runs.index.get_indexer(ranked.index)[::-1]
    shade = Normalize(goodness[order].min(), goodness[order].max()) if len(order) else Normalize()
    for trial in order:  # the best one last, on top of the others
        width = 3 if trial == order[-1] else 1.2
        ax.plot(places, heights[trial], color=SHADES(shade(goodness[trial])), linewidth=width, zorder=2)
    if len(order):
        ax.lines[-1].set_label("the best trial")
        ax.lines[-1].set_color(SHADES(1.0))
    if not finished.all():
        ax.lines[0].set_label(f"not finished ({(~finished).sum()} of {len(runs)})")
    _draw_axes(ax, scales)
    side = "lowest" if lowest else "highest"
    best = f"{side} {metric.removeprefix(LAST)}{split_note(metric, split_of(runs, metric))}"
    title(ax, f"{whose(runs)}{counted(len(runs), 'trial')}\n(darker is better: {best})")
    legend_below(ax)
    return ax


def importance_bars(importance: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the importance of each hyperparameter as a bar, the most important on top.

    A line from low to high is the range over resampled trials, if known; the text says in which share of the resamples
    the hyperparameter came first.

    Args:
        importance: Columns hyperparameter, importance, low, high, first, n_trials, from
            `analysis.comparisons.importance` for one task.
        ax: Axes to draw on; None creates a figure.

    Raises:
        UserError: If the frame is empty, lacks a column, mixes tasks, or has no importance.
    """
    columns = ["hyperparameter", "importance", "low", "high", "first", "n_trials"]
    require(importance, columns, "importance", "analysis.comparisons.importance")
    if importance["hyperparameter"].duplicated().any():
        raise UserError("a hyperparameter appears more than once in importance; pass the rows of one task")
    if importance["importance"].isna().all():
        why = f": {importance['note'].iloc[0]}" if "note" in importance else ""
        raise UserError(f"no importance to draw{why}")
    drawn = importance.sort_values("importance", ascending=False, kind="stable").reset_index(drop=True)
    ax = axes(ax, size=(SIZE[0], 1.2 + 0.36 * len(drawn)))
    ax.barh(drawn.index, drawn["importance"], height=0.62, color=COLORS[0], alpha=0.75, label="importance")
    known = drawn.loc[drawn["low"].notna() & drawn["high"].notna()]
    if len(known):
        ax.hlines(
            known.index, known["low"], known["high"], color="0.1", linewidth=1.6, label="range over resampled trials"
        )
    for row in drawn.itertuples():
        text = f"{row.importance:.2f}" + (f", first in {row.first:.0%}" if np.isfinite(row.first) else "")
        end = np.nanmax([row.importance, row.high])
        ax.annotate(text, (end, row.Index), (5, 0), textcoords="offset points", va="center", fontsize=SMALL)
    ax.set_ylim(len(drawn) - 0.4, -0.6)
    ax.set_xlim(0, 1.05)
    name_rows(ax, dict(drawn["hyperparameter"].items()), len(drawn), length=24)
    ax.tick_params(axis="x", labelsize=SMALL)
    ax.spines[["right", "top"]].set_visible(False)
    ax.set_xlabel("importance (shares that sum to 1)")
    title(ax, f"{whose(drawn)}importance of settings, {counted(drawn['n_trials'].max(), 'trial')}", length=52)
    if len(known):
        legend_below(ax)
    return ax


@dataclass(frozen=True)
class _Scale:
    """One vertical axis: the height of every trial's value, in [0, 1], and its ticks by height."""

    name: str
    heights: np.ndarray
    ticks: dict[float, str]


def _scale(name: str, values: pd.Series) -> _Scale:
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        codes, names = pd.factorize(values.astype("str").fillna(MISSING), sort=True)
        places = np.linspace(0, 1, len(names)) if len(names) > 1 else np.array([0.5])
        return _Scale(name, places[codes], dict(zip(places, map(str, names), strict=True)))
    numbers = values.astype(float).to_numpy()
    is_log = has_log_axis(name) and np.nanmin(numbers) > 0
    transformed = np.log(numbers) if is_log else numbers
    low, high = np.nanmin(transformed), np.nanmax(transformed)
    span = (high - low) or 1.0
    ticks = np.unique(numbers[np.isfinite(numbers)])
    if len(ticks) > FEW:
        locator = LogLocator(subs=(1, 2, 5) if span < 3 else (1,)) if is_log else MaxNLocator(5, steps=[1, 2, 5, 10])
        even = np.asarray(locator.tick_values(*((np.exp(low), np.exp(high)) if is_log else (low, high))))
        even = even[(even >= ticks[0]) & (even <= ticks[-1])]
        ticks = even if len(even) > 1 else ticks[[0, -1]]
    places = ((np.log(ticks) if is_log else ticks) - low) / span
    texts = [f"{tick:.3g}" for tick in ticks]
    return _Scale(name, (transformed - low) / span, dict(zip(places, texts, strict=True)))


def _draw_axes(ax: Axes, scales: list[_Scale]) -> None:
    for place, scale in enumerate(scales):
        ax.vlines(place, -PADDING, 1 + PADDING, color="0.2", linewidth=1, zorder=3)
        for height, text in scale.ticks.items():
            ax.plot([place, place + 0.03], [height, height], color="0.2", linewidth=1, zorder=3)
            ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6}
            ax.text(place + 0.05, height, text, fontsize=SMALL, va="center", zorder=4, bbox=ground)
    names = [_broken(label(scale.name.removeprefix(LAST))) for scale in scales]
    pitch = 72 * ax.get_window_extent().width / ax.figure.dpi / len(scales)
    size = float(np.clip(pitch / (0.6 * NAME_LENGTH), 5, SMALL))  # 0.6: width of a letter over its size
    ax.set_xticks(range(len(scales)), names, fontsize=size)
    ax.set_xlim(-0.1, len(scales) - 1 + 0.45)
    ax.set_ylim(-2 * PADDING, 1 + 2 * PADDING)
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0)
    ax.spines[:].set_visible(False)


def _broken(name: str) -> str:
    """Break a name after underscores, slashes and spaces into lines of at most NAME_LENGTH, if possible."""
    lines = [""]
    for part in re.findall(r"[^_/ ]+[_/ ]*", name):
        if len(lines[-1]) + len(part.rstrip()) > NAME_LENGTH:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines if line)
