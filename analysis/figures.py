"""Figures: each is a function `(frame, ..., ax=None) -> Axes`, so that a notebook can draw any of them anywhere.

Colours are seaborn's colour-blind palette; what a colour tells, a marker or a line style tells too, for print in grey.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.tables import LAST, configurations, is_accuracy, probe_results, probe_summary
from study.journal import FAILED, FINISHED, KILLED, STOPPED
from trainables.errors import UserError
from trainables.trial import BASELINES, ONLINE_PROBES, RANDOM_INIT, RAW_PIXELS

COLOURS = sns.color_palette("colorblind").as_hex()
MARKERS = "os^DvPX*"
CHANCE_STYLE: dict[str, Any] = {"color": "0.25", "linestyle": "--", "linewidth": 1.3}
BASELINE_STYLES = {RANDOM_INIT: "-.", RAW_PIXELS: ":"}
BASELINE_NAMES = {RANDOM_INIT: "random init", RAW_PIXELS: "raw pixels"}
PROBE_NAMES = {"linear": "linear probe", "knn": "kNN probe"}
STATUS_MARKERS = {FINISHED: "o", STOPPED: "X", FAILED: "v", KILLED: "s", "RUNNING": "^"}
UNITS = {"images_per_s": "images/s", "wall_s": "s", "batch_size": "images", "n_images": "images", "steps": "steps"}
LOG_AXES = ("lr", "weight_decay", "batch_size", "n_images", "budget_steps")
SMALL = 8  # points: legends and tick labels
LONGEST_NAME = 68  # characters of a configuration in a legend


def learning_curves(curves: pd.DataFrame, runs: pd.DataFrame, metric: str, ax: Axes | None = None) -> Axes:
    """Draw `metric` against optimiser steps for the trials of `runs`, with its chance level dashed.

    Trials that differ in their seed alone share a colour: each seed is a thin line, their mean, as far as every seed
    got, a thick one. Up to eight configurations are told apart; more are drawn alike. Raises UserError where no trial
    of `runs` reported `metric`.
    """
    points = curves.loc[(curves["metric"] == metric) & curves["trial_id"].isin(runs["trial_id"])]
    if points.empty:
        raise UserError(f"no curve of {metric!r} in these runs; there are: {_listed(curves['metric'].unique())}")
    runs = runs.loc[runs["trial_id"].isin(points["trial_id"])]
    ax = _axes(ax)
    groups = runs["trial_id"].groupby(configurations(runs), sort=False)
    told_apart = len(groups) <= len(MARKERS)
    for (name, trials), colour, marker in zip(groups, cycle(COLOURS), cycle(MARKERS)):
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
    levels = _chance_lines(ax, runs, metric)
    title = f"{_whose(runs)}{metric}"
    top = 2 * max([*levels, *points.loc[points["step"] == points["step"].min(), "value"]])
    if (
        not is_accuracy(metric) and levels and points["value"].max() > top
    ):  # one diverged trial would flatten all others
        ax.set_ylim(top=top)
        title += f" (values above {top:.3g} cut off)"
    ax.set_xlim(left=0)
    return _finish(ax, "optimiser steps", metric, title)


def accuracy_by_task(runs: pd.DataFrame, dataset: str, ax: Axes | None = None) -> Axes:
    """Draw the final probes on `dataset`: for each pretext task the linear and kNN accuracy.

    Small open markers are seeds, large ones their means. Chance and the means of the untrained baselines are
    horizontal lines. Pass the runs of one probe split, and of one configuration a task. Raises UserError where they
    mix splits or hold no probe on `dataset`.
    """
    every = probe_results(runs)
    results = every.loc[(every["dataset"] == dataset) & every["probe"].isin(list(PROBE_NAMES))]
    if results.empty:
        raise UserError(f"no probe on {dataset!r} in these runs; there are: {_listed(every['dataset'].unique())}")
    splits = results["probe_split"].unique()
    if len(splits) > 1:
        raise UserError(f"these runs mix probe splits ({_listed(splits)}); keep one: runs[runs.probe_split == 'test']")
    ax = _axes(ax)
    summary = probe_summary(results)
    pretext = summary.loc[~summary["task"].isin(BASELINES)]
    tasks = list(pretext["task"].unique())
    for probe, colour, marker, shift in zip(PROBE_NAMES, COLOURS, MARKERS, (-0.2, 0.2), strict=False):
        seeds = results.loc[(results["probe"] == probe) & results["task"].isin(tasks)]
        order = seeds.groupby("task").cumcount()  # side by side, so that equal seeds do not hide one another
        places = (
            seeds["task"].map(tasks.index) + shift + 0.05 * (order - order.groupby(seeds["task"]).transform("mean"))
        )
        ax.scatter(
            places,
            seeds["value"],
            marker=marker,
            s=22,
            facecolors="none",
            edgecolors=colour,
            label=f"{PROBE_NAMES[probe]}, each seed",
        )
        means = pretext.loc[pretext["probe"] == probe]
        places = means["task"].map(tasks.index) + shift
        ax.scatter(
            places, means["mean"], marker="_", s=420, color=colour, linewidths=2.5, label=f"{PROBE_NAMES[probe]}, mean"
        )
        for row in summary.loc[summary["task"].isin(BASELINES) & (summary["probe"] == probe)].itertuples():
            label = f"{BASELINE_NAMES[row.task]}, {PROBE_NAMES[probe]} {row.mean:.3f}"
            ax.axhline(row.mean, color=colour, linestyle=BASELINE_STYLES[row.task], linewidth=1.3, label=label)
    for level in results["chance"].dropna().unique():
        ax.axhline(level, **CHANCE_STYLE, label=f"chance {level:.3f}")
    ax.set_xticks(range(len(tasks)), [task.replace("_", "\n") for task in tasks])
    ax.set_xlim(-0.5, max(len(tasks), 1) - 0.5)
    return _finish(ax, "pretext task", "accuracy", f"{dataset}, {splits[0]} split")


def search_scatter(
    runs: pd.DataFrame,
    x: str = "lr",
    ax: Axes | None = None,
    *,
    metric: str = LAST + ONLINE_PROBES[0],
    hue: str | None = None,
) -> Axes:
    """Draw a metric of each trial against one searched setting, on a log axis where that setting spans decades.

    metric: a column of `runs`, by default the last accuracy of the online linear probe, as
        `analysis.tables.last_values` adds it.
    hue: the setting that colours the points, by default batch size, or augmentation strength where batch size is
    the same for all. The marker is the trial's status: a stopped trial had fewer steps than a finished one.
    Raises UserError where no trial has a value of `metric`.
    """
    drawn = runs.loc[runs[metric].notna()] if metric in runs else runs.iloc[:0]
    if drawn.empty:
        numbers = [name for name in runs if name.startswith((LAST, "probe/"))]
        raise UserError(f"no value of {metric!r} in these runs; columns to draw: {_listed(numbers)}")
    if hue is None:
        hue = "batch_size" if runs["batch_size"].nunique() > 1 else "augmentation_strength"
    ax = _axes(ax)
    low, high = drawn[hue].min(), drawn[hue].max()
    norm = LogNorm(low, high) if hue in LOG_AXES and 0 < low < high else Normalize(low, high)
    shades = sns.color_palette("crest", as_cmap=True)
    style: dict[str, Any] = {"cmap": shades, "norm": norm, "s": 55, "edgecolor": "0.2", "linewidth": 0.6}
    for status, part in drawn.groupby("status"):
        marker = STATUS_MARKERS[str(status)]
        points = ax.scatter(part[x], part[metric], c=part[hue], marker=marker, label=str(status), **style)
    bar = ax.figure.colorbar(points, ax=ax, label=_label(hue))
    if drawn[hue].nunique() <= 6:
        bar.set_ticks(sorted(drawn[hue].unique()), labels=[f"{value:g}" for value in sorted(drawn[hue].unique())])
        bar.minorticks_off()
    bar.ax.tick_params(labelsize=SMALL)
    if x in LOG_AXES and (drawn[x] > 0).all():
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    name = metric.removeprefix(LAST)
    _chance_lines(ax, drawn, name)
    missing = len(runs) - len(drawn)
    note = f" ({missing} of {len(runs)} trials without)" if missing else ""
    _finish(ax, _label(x), name, f"{_whose(runs)}{name} at the last report{note}")
    legend = ax.get_legend()
    for handle in legend.legend_handles if legend else []:
        if isinstance(handle, PathCollection):  # the marker tells the status, the colour something else
            handle.set_array(None)
            handle.set_facecolor("0.75")
    return ax


def _axes(ax: Axes | None) -> Axes:
    return plt.subplots(figsize=(5.5, 4.0), layout="constrained")[1] if ax is None else ax


def _chance_lines(ax: Axes, runs: pd.DataFrame, metric: str) -> list[float]:
    """Draw and return the chance level of `metric`, or several: ln(2N - 1), for one, depends on the batch size N."""
    column = f"chance/{metric}"
    levels = sorted(runs[column].dropna().unique()) if column in runs else []
    for index, level in enumerate(levels):
        label = "chance " + ", ".join(f"{value:.3g}" for value in levels) if index == 0 else None
        ax.axhline(level, **CHANCE_STYLE, label=label)
    return levels


def _finish(ax: Axes, xlabel: str, metric: str, title: str) -> Axes:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(_label(metric))
    ax.set_title(title, fontsize=10, loc="left")
    ax.tick_params(labelsize=SMALL)
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    if is_accuracy(metric):  # from 0, so that a small gain over chance looks small
        ax.set_ylim(0, min(1.0, 1.05 * ax.get_ylim()[1]))
    longest = max(len(label) for label in ax.get_legend_handles_labels()[1])
    columns = 2 if longest <= 36 else 1
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns, fontsize=SMALL, frameon=False)
    sns.despine(ax=ax)
    return ax


def _label(metric: str) -> str:
    unit = "fraction" if is_accuracy(metric) else UNITS.get(metric)
    return f"{metric} ({unit})" if unit else metric


def _whose(runs: pd.DataFrame) -> str:
    """Return the task and the phase of `runs`, as far as all share them, as the beginning of a title."""
    shared = [str(runs[name].iloc[0]) for name in ("task", "phase") if runs[name].nunique() == 1]
    return f"{', '.join(shared)}: " if shared else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
