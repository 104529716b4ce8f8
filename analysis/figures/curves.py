"""Learning curves: a metric against optimiser steps, seeds and their mean, beside chance."""

from __future__ import annotations

import textwrap
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.style import (
    COLOURS,
    LINE_COLOURS,
    LONGEST_NAME,
    MARKERS,
    axes,
    chance_lines,
    finish,
    listed,
    whose,
)
from analysis.tables import configurations, is_accuracy
from trainables.errors import UserError


def learning_curves(curves: pd.DataFrame, runs: pd.DataFrame, metric: str, ax: Axes | None = None) -> Axes:
    """Draw `metric` against optimiser steps for the trials of `runs`, with its chance level dashed.

    Trials that differ in their seed alone share a colour: each seed is a thin line, their mean, as far as every seed
    got, a thick one. Up to eight configurations are told apart; more are drawn alike. Raises UserError where no trial
    of `runs` reported `metric`.
    """
    points = curves.loc[(curves["metric"] == metric) & curves["trial_id"].isin(runs["trial_id"])]
    if points.empty:
        raise UserError(f"no curve of {metric!r} in these runs; there are: {listed(curves['metric'].unique())}")
    runs = runs.loc[runs["trial_id"].isin(points["trial_id"])]
    ax = axes(ax)
    groups = runs["trial_id"].groupby(configurations(runs), sort=False)
    told_apart = len(groups) <= len(MARKERS)
    for (name, trials), colour, marker in zip(groups, cycle(LINE_COLOURS), cycle(MARKERS)):
        wide = points[points["trial_id"].isin(trials)].pivot(index="step", columns="trial_id", values="value")
        if not told_apart:
            ax.plot(wide.index, wide, color=COLOURS[0], linewidth=0.9, alpha=0.6)
            continue
        name = textwrap.shorten(str(name), LONGEST_NAME, placeholder=" …")
        label = ": ".join(filter(None, [name, f"mean of {len(trials)} seeds" if len(trials) > 1 else ""]))
        if len(trials) > 1:
            ax.plot(wide.index, wide, color=colour, linewidth=0.8, alpha=0.55)
        mean = wide.mean(axis=1, skipna=False)
        ax.plot(wide.index, mean, color=colour, linewidth=2.0, marker=marker, markersize=4, label=label or "one trial")
    if not told_apart:
        ax.lines[0].set_label(f"{len(runs)} trials")
    levels = chance_lines(ax, runs, metric)
    title = f"{whose(runs)}{metric}"
    first = points.loc[points["step"] == points["step"].min(), "value"]
    top = 2 * max([*levels, *first[np.isfinite(first)]], default=np.inf)
    # One diverged trial would flatten all others.
    if not is_accuracy(metric) and levels and points["value"].max() > top:
        lowest = min([*levels, *points.loc[np.isfinite(points["value"]), "value"]])
        ax.set_ylim(lowest - 0.05 * (top - lowest), top)
        title += f"\n(values above {top:.3g} cut off)"
    ax.set_xlim(left=0)
    return finish(ax, "optimiser steps", metric, title)
