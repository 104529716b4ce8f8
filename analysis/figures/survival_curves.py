"""Survival curves: the share of trials without an event, against optimizer steps."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import (
    COLORS,
    LINE_COLORS,
    LINE_STYLES,
    LONGEST_NAME,
    axes,
    finish,
    listed,
    require,
    whose,
)
from trainables.errors import UserError

COLUMNS = ("task", "cell", "step", "survival", "ci_low", "ci_high", "at_risk", "events")
MOST_BANDS = 3  # curves with a band; more bands could not be distinguished
# Texts for each event of `steps_to`: y axis, legend, title, censored trials.
EVENTS = {
    "left_chance": (
        "share not shown to\nhave left chance",
        "shown to have left chance",
        "steps to take-off",
        "seeds that ended without showing it",
    ),
    "converged": ("share not yet converged", "converged", "steps to convergence", "seeds that ended unconverged"),
}


def survival_curves(kaplan_meier: pd.DataFrame, ax: Axes | None = None, *, event: str = "left_chance") -> Axes:
    """Draw the Kaplan-Meier estimate of each cell: the share of seeds still without the event, by optimizer step.

    Up to three cells show their intervals as bands. Up to eight curves differ in color, line style and width, so equal
    ones appear as stripes; more are drawn alike. A tick marks seeds that ended without the event.

    Args:
        kaplan_meier: Columns task, cell, step, survival, ci_low, ci_high, at_risk, events, from
            `analysis.comparisons.kaplan_meier`: one row per cell and step at which the curve falls or ends.
        ax: Axes to draw on; None creates a figure.
        event: The event that ends the steps, as for `analysis.comparisons.steps_to`: `left_chance` or `converged`.

    Raises:
        UserError: If the frame is empty or lacks a column, or the event is unknown.
    """
    if event not in EVENTS:
        raise UserError(f"event = {event!r}: it is {listed(EVENTS)}")
    still, done, heading, censored = EVENTS[event]
    require(kaplan_meier, COLUMNS, "survival", "analysis.comparisons.kaplan_meier")
    groups = list(kaplan_meier.groupby(["task", "cell"], sort=False))
    several_tasks = kaplan_meier["task"].nunique() > 1
    is_distinct = len(groups) <= len(LINE_STYLES)
    ax = axes(ax)
    marked = False
    widths = np.linspace(3.2, 1.4, len(groups)) if is_distinct else np.ones(len(groups))  # equal curves show as stripes
    for index, ((task, cell), curve) in enumerate(groups):
        curve = curve.sort_values("step")
        color, style = (LINE_COLORS[index], LINE_STYLES[index]) if is_distinct else (COLORS[0], "-")
        name = textwrap.shorten(f"{task}: {cell}" if several_tasks else str(cell), LONGEST_NAME - 20, placeholder=" …")
        label = f"{name} ({curve['events'].sum():.0f} of {curve['at_risk'].max():.0f} {done})"
        step, survival = _from_the_start(curve, "survival")
        ax.step(
            *(step, survival),
            where="post",
            color=color,
            linestyle=style,
            linewidth=widths[index],
            label=label if is_distinct else None,
        )
        if len(groups) <= MOST_BANDS:
            low, high = (_from_the_start(curve, bound)[1] for bound in ("ci_low", "ci_high"))
            ax.fill_between(step, low, high, step="post", color=color, alpha=0.15, linewidth=0)
        ended = curve.loc[_ended(curve) > 0]
        if len(ended):
            ax.plot(ended["step"], ended["survival"], "|", color=color, markersize=9, markeredgewidth=2)
            marked = True
    if not is_distinct:
        ax.lines[0].set_label(f"{len(groups)} cells")
    if marked:
        ax.plot([], [], "|", color="0.25", markersize=9, markeredgewidth=2, label=censored)
    finish(ax, "optimizer steps", still, f"{whose(kaplan_meier)}{heading}")
    ax.set_xlim(left=0)
    ax.set_ylim(0, 1.04)
    return ax


def _from_the_start(curve: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values, with step 0 prepended if the frame begins at the first event."""
    start = [] if curve["step"].iloc[0] == 0 else [0]
    return np.array([*start, *curve["step"]]), np.array([*([1.0] if start else []), *curve[column]])


def _ended(curve: pd.DataFrame) -> pd.Series:
    """Return how many seeds left the risk set without the event after each row."""
    return curve["at_risk"] - curve["events"] - curve["at_risk"].shift(-1, fill_value=0)
