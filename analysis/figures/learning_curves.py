"""Learning curves: a metric against optimizer steps, for each seed and their mean, with the chance level."""

from __future__ import annotations

import textwrap
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from analysis.data.tables import configurations, mode_of, split_note, split_of
from analysis.figures.style import (
    COLORS,
    LINE_COLORS,
    LONGEST_NAME,
    MARKERS,
    axes,
    baseline_name,
    baseline_style,
    chance_lines,
    finish,
    listed,
    whose,
)
from analysis.records.phases import ABLATE
from trainables.errors import UserError


def learning_curves(
    curves: pd.DataFrame,
    runs: pd.DataFrame,
    metric: str,
    ax: Axes | None = None,
    *,
    baselines: pd.DataFrame | None = None,
) -> Axes:
    """Draw `metric` against optimizer steps for the trials of `runs`, with its chance level dashed.

    Trials that differ only in their seed share a color: each seed is a thin line, and their mean, up to the last step
    that every seed reached, is a thick one. Up to eight configurations have their own color and marker; more are drawn
    alike.

    Args:
        curves: Reported values, one row per trial, step and metric.
        runs: The trials to draw.
        metric: Name of the metric.
        ax: Axes to draw on; None creates a figure.
        baselines: Runs of baselines. If `metric` is a probe, the means of the same final probe
            on validation images are horizontal lines.

    Raises:
        UserError: If no trial of `runs` reported `metric`.
    """
    points = curves.loc[(curves["metric"] == metric) & curves["trial_id"].isin(runs["trial_id"])]
    if points.empty:
        raise UserError(f"no curve of {metric!r} in these runs; there are: {listed(curves['metric'].unique())}")
    runs = runs.loc[runs["trial_id"].isin(points["trial_id"])]
    ax = axes(ax)
    groups = runs["trial_id"].groupby(_names(runs), sort=False)
    is_distinct = len(groups) <= len(MARKERS)
    if not is_distinct:
        _draw_alike(ax, points, len(runs))
    for (name, trials), color, marker in zip(groups if is_distinct else (), cycle(LINE_COLORS), cycle(MARKERS)):
        wide = points[points["trial_id"].isin(trials)].pivot(index="step", columns="trial_id", values="value")
        name = textwrap.shorten(str(name), LONGEST_NAME, placeholder=" …")
        label = ": ".join(filter(None, [name, f"mean of {len(trials)} seeds" if len(trials) > 1 else ""]))
        if len(trials) > 1:
            ax.plot(wide.index, wide, color=color, linewidth=0.8, alpha=0.55)
        mean = wide.mean(axis=1, skipna=False)
        ax.plot(wide.index, mean, color=color, linewidth=2.0, marker=marker, markersize=4, label=label or "one trial")
    if baselines is not None:
        _baseline_lines(ax, baselines, str(runs["dataset"].iloc[0]), metric)
    levels = chance_lines(ax, runs, metric)
    title = f"{whose(runs)}{metric}{split_note(metric, split_of(runs, metric))}"
    first = points.loc[points["step"] == points["step"].min(), "value"]
    top = 2 * max([*levels, *first[np.isfinite(first)]], default=np.inf)
    # A single diverged trial would flatten all others. Where more is better, the highest values are the best ones.
    if mode_of(runs, metric) == "min" and levels and points["value"].max() > top:
        lowest = min([*levels, *points.loc[np.isfinite(points["value"]), "value"]])
        ax.set_ylim(lowest - 0.05 * (top - lowest), top)
        title += f"\n(values above {top:.3g} cut off)"
    ax.set_xlim(left=0)
    return finish(ax, "optimizer steps", metric, title)


def baseline_levels(baselines: pd.DataFrame, dataset: str, metric: str) -> pd.Series:
    """Return each baseline's mean of the final probe on validation images that matches an online probe, by task.

    Args:
        baselines: Runs of baselines.
        dataset: Data set of the probe.
        metric: The online probe; any other metric has no levels.
    """
    column = f"probe/{dataset}/{metric.removeprefix('probe/')}"
    if not metric.startswith("probe/") or column not in baselines:
        return pd.Series(dtype="float64")
    own = baselines.loc[baselines["probe_split"] == "validation"]
    return own.groupby("task", sort=False)[column].mean().dropna()


def _baseline_lines(ax: Axes, baselines: pd.DataFrame, dataset: str, metric: str) -> None:
    """Draw the baselines' means of the final probe, which the online probe approximates."""
    for task, mean in baseline_levels(baselines, dataset, metric).items():
        name = f"{baseline_name(str(task))}, final probe {mean:.3f}"
        ax.axhline(mean, color="0.45", linestyle=baseline_style(str(task)), linewidth=1.5, label=name)


def _names(runs: pd.DataFrame) -> pd.Series:
    """Return each run's configuration without its seed: the cell in a task's ablation, otherwise the settings."""
    ablated = (runs["phase"] == ABLATE).all() and runs["task"].nunique() == 1
    return runs["cell"] if ablated else configurations(runs)


def _draw_alike(ax: Axes, points: pd.DataFrame, n_trials: int) -> None:
    """Draw the curves of all trials, possibly thousands, as one artist."""
    wide = points.pivot(index="step", columns="trial_id", values="value")
    drawn = wide.where(np.isfinite)
    curves = [np.column_stack([wide.index, values]) for values in drawn.to_numpy().T]
    label = f"{n_trials} trials"
    ax.add_collection(LineCollection(curves, colors=COLORS[0], linewidths=0.9, alpha=0.6, label=label))
    ax.autoscale_view()
