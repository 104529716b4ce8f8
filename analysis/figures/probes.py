"""Probes of frozen features: by task with the baselines, by stage, and against searched settings."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.data.baselines import are_baselines
from analysis.data.tables import LAST, probe_results, probe_summary, split_note, split_of, stage_results
from analysis.figures.style import (
    COLORS,
    MARKERS,
    SHADES,
    SMALL,
    axes,
    baseline_name,
    baseline_style,
    chance_lines,
    finish,
    has_log_axis,
    label,
    level_lines,
    listed,
    whose,
)
from analysis.records import FAILED, FINISHED, KILLED, STOPPED
from trainables.errors import UserError
from trainables.trial import ONLINE_PROBES, is_baseline

PROBE_NAMES = {"linear": "linear probe", "knn": "kNN probe"}
BALANCED_NAMES = {"linear_balanced_accuracy": "linear probe", "knn_balanced_accuracy": "kNN probe"}
SEGMENTATION_NAMES = {"miou": "segmentation probe"}
STATUS_MARKERS = {FINISHED: "o", STOPPED: "X", FAILED: "v", KILLED: "s", "RUNNING": "^"}


def accuracy_by_task(runs: pd.DataFrame, dataset: str, ax: Axes | None = None) -> Axes:
    """Draw the final linear and kNN accuracy on `dataset` for each pretext task.

    Open markers are seeds, and bars are their means. Chance, the share of the largest class and the means of the
    untrained baselines are horizontal lines.

    Args:
        runs: Runs of one probe split and one configuration per task.
        dataset: Data set of the probes.
        ax: Axes to draw on; None creates a figure.

    Raises:
        UserError: If the runs mix splits or have no probe on `dataset`.
    """
    return _probes_by_task(runs, dataset, PROBE_NAMES, "accuracy", ax)


def balanced_accuracy_by_task(runs: pd.DataFrame, dataset: str, ax: Axes | None = None) -> Axes:
    """Draw the balanced accuracy of the final probes on `dataset`, in the style of `accuracy_by_task`.

    Args:
        runs: Runs of one probe split and one configuration per task.
        dataset: Data set of the probes.
        ax: Axes to draw on; None creates a figure.

    Raises:
        UserError: If the runs mix splits or have no balanced accuracy on `dataset`.
    """
    return _probes_by_task(runs, dataset, BALANCED_NAMES, "balanced_accuracy", ax)


def miou_by_task(runs: pd.DataFrame, dataset: str, ax: Axes | None = None) -> Axes:
    """Draw the final segmentation probe on `dataset`, in the style of `accuracy_by_task`.

    Chance is the mIoU of predicting background everywhere.

    Args:
        runs: Runs of one probe split and one configuration per task.
        dataset: Data set of the probe.
        ax: Axes to draw on; None creates a figure.

    Raises:
        UserError: If the runs mix splits or have no segmentation probe on `dataset`.
    """
    return _probes_by_task(runs, dataset, SEGMENTATION_NAMES, "miou", ax)


def _probes_by_task(runs: pd.DataFrame, dataset: str, names: dict[str, str], metric: str, ax: Axes | None) -> Axes:
    every = probe_results(runs)
    results = every.loc[(every["dataset"] == dataset) & every["probe"].isin(list(names))]
    names = {probe: name for probe, name in names.items() if probe in set(results["probe"])}
    if results.empty:
        raise UserError(f"no probe on {dataset!r} in these runs; there are: {listed(every['dataset'].unique())}")
    splits = results["probe_split"].unique()
    if len(splits) > 1:
        raise UserError(f"these runs mix probe splits ({listed(splits)}); keep one: runs[runs.probe_split == 'test']")
    ax = axes(ax)
    shifts = (-0.2, 0.2) if len(names) > 1 else (0.0,)
    summary = probe_summary(results)
    pretext = summary.loc[~are_baselines(summary["task"])]
    order = pretext.loc[pretext["probe"] == next(iter(names))].sort_values("mean", ascending=False)["task"]
    tasks = list(dict.fromkeys([*order, *pretext["task"]]))  # the best first
    for probe, color, marker, shift in zip(names, COLORS, MARKERS, shifts, strict=False):
        seeds = results.loc[(results["probe"] == probe) & results["task"].isin(tasks)]
        order = seeds.groupby("task").cumcount()  # spread, so equal seeds do not hide one another
        spread = 0.05 * (order - order.groupby(seeds["task"]).transform("mean"))
        places = _positions(seeds["task"], tasks) + shift + spread
        ax.scatter(
            places,
            seeds["value"],
            marker=marker,
            s=22,
            facecolors="none",
            edgecolors=color,
            label=f"{names[probe]}, each seed",
        )
        means = pretext.loc[pretext["probe"] == probe]
        places = _positions(means["task"], tasks) + shift
        ax.scatter(places, means["mean"], marker="_", s=420, color=color, linewidths=2.5, label=f"{names[probe]}, mean")
        for row in summary.loc[are_baselines(summary["task"]) & (summary["probe"] == probe)].itertuples():
            name = f"{baseline_name(row.task)}, {names[probe]} {row.mean:.3f}"
            ax.axhline(row.mean, color=color, linestyle=baseline_style(row.task), linewidth=1.3, label=name)
    level_lines(ax, runs, f"probe/{dataset}/{next(iter(names))}")
    ax.set_xticks(range(len(tasks)), [task.replace("_", "\n") for task in tasks])
    ax.set_xlim(-0.5, max(len(tasks), 1) - 0.5)
    return finish(ax, "pretext task", metric, f"{dataset}, {splits[0]} split")


def _positions(names: pd.Series, tasks: list[str]) -> np.ndarray:
    """Return the place of each name in `tasks`, float64, also for no names at all."""
    return np.array([tasks.index(name) for name in names], dtype=float)


def probe_by_stage(runs: pd.DataFrame, dataset: str, probe: str = "linear", ax: Axes | None = None) -> Axes:
    """Draw a final probe of every stage of the encoder on `dataset`, one line per task.

    A line is the mean over seeds, and open markers are seeds. The untrained encoder, chance and the share of the
    largest class are drawn for comparison.

    Args:
        runs: Runs of one probe split and one configuration per task.
        dataset: Data set of the probes.
        probe: `linear` or `miou`.
        ax: Axes to draw on; None creates a figure.

    Raises:
        UserError: If the runs have no such probe of a stage.
    """
    every = stage_results(runs)
    results = every.loc[(every["dataset"] == dataset) & (every["probe"] == probe)]
    if results.empty:
        raise UserError(f"no {probe} probe of stages on {dataset!r} in these runs: set evaluate.probe_layers to all")
    ax = axes(ax)
    tasks = sorted(results["task"].unique(), key=is_baseline)
    for task, color, marker in zip(tasks, itertools.cycle(COLORS), itertools.cycle(MARKERS), strict=False):
        own = results.loc[results["task"] == task]
        color = "0.4" if is_baseline(task) else color
        means = own.groupby("stage")["value"].mean()
        name, style = (baseline_name(task), baseline_style(task)) if is_baseline(task) else (task, "-")
        ax.plot(means.index, means, linestyle=style, color=color, marker=marker, label=name)
        ax.scatter(own["stage"], own["value"], marker=marker, s=22, facecolors="none", edgecolors=color)
    level_lines(ax, runs, f"probe/{dataset}/{probe}")
    ax.set_xticks(sorted(results["stage"].unique()))
    stages = [name for name in runs if name.startswith(f"probe/{dataset}/{probe}/stage")]
    xlabel = "stage of the encoder, pooled" if probe == "linear" else "stage of the encoder"
    return finish(ax, xlabel, probe, dataset + split_note(stages[0], split_of(runs, stages[0])))


def search_scatter(
    runs: pd.DataFrame,
    x: str = "lr",
    ax: Axes | None = None,
    *,
    metric: str = LAST + ONLINE_PROBES[0],
    hue: str | None = None,
) -> Axes:
    """Draw a metric of each trial against one searched setting, on a log axis if the setting spans decades.

    The marker is the trial's status: a stopped trial took fewer steps than a finished one.

    Args:
        runs: The trials.
        x: The setting on the x axis.
        ax: Axes to draw on; None creates a figure.
        metric: A column of `runs`; by default the last accuracy of the online linear probe, which
            `analysis.data.tables.last_values` adds.
        hue: The setting that colors the points; by default batch size, or augmentation strength if all trials have the
            same batch size.

    Raises:
        UserError: If no trial has a finite value of `metric`.
    """
    # A diverged trial, whose loss may be infinite, has no value.
    drawn = runs.loc[np.isfinite(runs[metric].astype("float64"))] if metric in runs else runs.iloc[:0]
    if drawn.empty:
        numbers = [name for name in runs if name.startswith((LAST, "probe/"))]
        raise UserError(f"no value of {metric!r} in these runs; columns to draw: {listed(numbers)}")
    if hue is None:
        hue = "batch_size" if runs["batch_size"].nunique() > 1 else "augmentation_strength"
    ax = axes(ax)
    low, high = drawn[hue].min(), drawn[hue].max()
    norm = LogNorm(low, high) if has_log_axis(hue) and 0 < low < high else Normalize(low, high)
    style: dict[str, Any] = {"cmap": SHADES, "norm": norm, "s": 55, "edgecolor": "0.2", "linewidth": 0.6}
    for status, part in drawn.groupby("status"):
        marker = STATUS_MARKERS[str(status)]
        points = ax.scatter(part[x], part[metric], c=part[hue], marker=marker, label=str(status), **style)
    if low < high:  # a constant needs no scale
        _color_bar(ax, points, drawn[hue], hue)
    if has_log_axis(x) and (drawn[x] > 0).all():
        ax.set_xscale("log")
        decades = np.log10(drawn[x].max() / drawn[x].min())
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.5 else (1, 3) if decades < 2.5 else (1,)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    name = metric.removeprefix(LAST)
    chance_lines(ax, drawn, name)
    missing = len(runs) - len(drawn)
    split = split_note(metric, split_of(drawn, metric))
    note = f"\n({missing} of {len(runs)} trials have no value)" if missing else ""
    finish(ax, label(x), name, f"{whose(runs)}{name} at the last report{split}{note}")
    legend = ax.get_legend()
    for handle in legend.legend_handles if legend else []:
        if isinstance(handle, PathCollection):  # the legend is about markers, not colors
            handle.set_array(None)
            handle.set_facecolor("0.75")
    return ax


def _color_bar(ax: Axes, points: PathCollection, values: pd.Series, hue: str) -> None:
    """Draw the scale of the points' color, with a tick for each value if there are few."""
    bar = ax.get_figure(root=True).colorbar(points, ax=ax, label=label(hue))  # type: ignore[union-attr]
    if values.nunique() <= 6:
        bar.set_ticks(sorted(values.unique()), labels=[f"{value:.3g}" for value in sorted(values.unique())])
        bar.minorticks_off()
    bar.ax.tick_params(labelsize=SMALL)
