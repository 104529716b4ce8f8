"""Gain over untrained networks by number of images, one line per augmentation strength."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from analysis.comparisons import BETTER, WORSE
from analysis.figures.style import LINE_COLORS, LINE_STYLES, MARKERS, NAMES, axes, finish, require
from trainables.errors import UserError

MARGIN = 0.05  # share of the y axis that is free above and below
SPREAD = 0.04  # distance of the lines' points at one size, in powers of e, so that intervals do not cover each other


def size_gains(frame: pd.DataFrame, task: str, ax: Axes | None = None) -> Axes:
    """Draw a task's mean difference from untrained networks, with its interval, against the number of images.

    Filled markers are cells that are shown to be better or worse than untrained networks, open ones all others. A cell
    with too few seeds for an interval is its mean alone. The y axis is the same for all tasks of the frame.

    Args:
        frame: Rows of all tasks, with columns task, metric, n_images, augmentation_strength, mean_difference, ci_low,
            ci_high and answer, from `analysis.pages.benchmark.benchmark_frame`.
        task: The task to draw.
        ax: Axes to draw on; None creates a figure.

    Raises:
        UserError: If the frame lacks a column or the task, has more than eight strengths or an unknown size.
    """
    columns = ["task", "metric", "n_images", "augmentation_strength", "mean_difference", "ci_low", "ci_high", "answer"]
    require(frame, columns, "the frame", "analysis.pages.benchmark.benchmark_frame")
    strengths = sorted(frame["augmentation_strength"].unique())
    if task not in set(frame["task"]) or len(strengths) > len(MARKERS) or frame["n_images"].isna().any():
        raise UserError(
            f"size_gains needs rows of {task}, at most eight strengths, and cells whose number of images is known"
        )
    ax = axes(ax)
    ax.axhline(0, color="0.25", linewidth=1, linestyle="--", label="untrained")
    for index, strength in enumerate(strengths):
        own = frame.loc[(frame["task"] == task) & (frame["augmentation_strength"] == strength)].sort_values("n_images")
        color, marker, line = LINE_COLORS[index], MARKERS[index], LINE_STYLES[index]
        x = own["n_images"].astype(float) * (1 + SPREAD * (index - (len(strengths) - 1) / 2))
        shown = own["answer"].isin([BETTER, WORSE])
        ax.plot(x, own["mean_difference"], color=color, linestyle=line, linewidth=1.2)
        ax.vlines(x, own["ci_low"], own["ci_high"], color=color, linewidth=1.2)
        for filled in (True, False):
            at = shown if filled else ~shown
            face = color if filled else "white"
            ax.plot(x[at], own.loc[at, "mean_difference"], marker, color=color, markerfacecolor=face)
        ax.plot([], [], marker, color=color, linestyle=line, markerfacecolor="white", label=f"strength {strength:g}")
    sizes = sorted(frame["n_images"].unique())
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    metric = frame["metric"].iloc[0]
    name = f"difference in {NAMES.get(metric.rsplit('/')[-1], metric)}"
    finish(ax, "training images", name, f"{task}: difference from untrained networks")
    # Not from 0, where `finish` begins the axis of a share: differences may be negative.
    drawn = frame[["mean_difference", "ci_low", "ci_high"]]
    low, high = min(0.0, drawn.min().min()), max(0.0, drawn.max().max())
    ax.set_ylim(low - MARGIN * (high - low), high + MARGIN * (high - low))
    return ax
