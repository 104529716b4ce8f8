"""Accuracy bars: top-1 and top-5 accuracy of a linear probe on its training images and on the test split."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.comparisons import BETTER, EQUIVALENT, INCONCLUSIVE, TOO_FEW, WORSE
from analysis.data.classes import levels_of
from analysis.data.tables import dataset_of, is_final_result
from analysis.figures.style import (
    CHANCE_STYLE,
    COLORS,
    LARGEST_STYLE,
    SMALL,
    axes,
    baseline_name,
    legend_below,
    listed,
    title,
)
from trainables.errors import UserError
from trainables.trial import RANDOM_INIT, is_baseline

Band = tuple[float, float]

# Column suffix, legend entry, color, hatch.
_BARS = (
    ("linear_train", "top-1, train", COLORS[9], "//"),
    ("linear", "top-1, test", COLORS[0], ""),
    ("linear_train_top5", "top-5, train", COLORS[8], "//"),
    ("linear_top5", "top-5, test", COLORS[1], ""),
)
_WIDTH = 0.2
_TOP = 5
_TEXT_HEIGHT = 0.05  # height of a line of text on the axis of accuracies
_STANDING = {
    BETTER: "better than\nuntrained",
    WORSE: "worse than\nuntrained",
    EQUIVALENT: "equivalent to\nuntrained",
    INCONCLUSIVE: "not shown\nbetter than\nuntrained",
    TOO_FEW: "not tested",
}


def accuracy_bars(
    runs: pd.DataFrame,
    dataset: str,
    ax: Axes | None = None,
    *,
    compared: pd.DataFrame | None = None,
    reported: tuple[Band, ...] = (),
) -> Axes:
    """Draw the linear probe on `dataset` as bars grouped by encoder: top-1 and top-5, each on train and on test.

    A bar is the mean over seeds, and its dots are the seeds. Raw pixels and untrained encoders are groups of their own.
    Lines through all groups show the test accuracy of untrained encoders and the chance level, for top-1 and for top-5,
    and the share of the largest class among the test images, for top-1.

    Args:
        runs: Runs with `probe_split` `test`, one configuration per task.
        dataset: Data set of the probe.
        ax: Axes to draw on; None creates a figure.
        compared: Rows of `findings.against_untrained` on this data set; their answers appear under the tasks.
        reported: Bands (low, high) of accuracies from another report, drawn in gray.

    Raises:
        UserError: If the runs are of another split or have no probe on `dataset`.
    """
    column = f"probe/{dataset}/linear"
    if column not in runs or runs[column].isna().all():
        known = sorted({dataset_of(name) for name in runs if is_final_result(name) and name.endswith("/linear")})
        raise UserError(f"no linear probe on {dataset!r} in these runs; there are: {listed(known)}")
    runs = runs.loc[runs[column].notna()]
    if set(runs["probe_split"]) != {"test"}:
        raise UserError("these runs are not of the test split alone; keep it: runs[runs.probe_split == 'test']")
    tasks = sorted(runs["task"].unique(), key=is_baseline)  # stable: baselines last
    ax = axes(ax, size=(1.6 + 1.05 * len(tasks), 4.6))
    for x, task in enumerate(tasks):
        _group(ax, runs.loc[runs["task"] == task], dataset, x)
    _levels(ax, runs, dataset)
    for low, high in reported:
        ax.axhspan(low, high, color="0.75", alpha=0.6, zorder=0)
    answers = {} if compared is None else dict(zip(compared["task"], compared["answer"], strict=True))
    names = [baseline_name(task) if is_baseline(task) else task.replace("_", "\n") for task in tasks]
    answered = [_STANDING.get(answers.get(task, ""), "") for task in tasks]
    ax.set_xticks(range(len(tasks)), [f"{name}\n{words}".strip() for name, words in zip(names, answered, strict=True)])
    ax.set_xlim(-0.55, len(tasks) - 0.45)
    ax.set_ylim(0, 1.07)  # room above 1 for the numbers of the highest bars
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.set_ylabel("accuracy (fraction)")
    ax.tick_params(labelsize=SMALL)
    title(ax, f"{dataset}: frozen encoder, linear probe fitted to {dataset}")
    _legend(ax, shown=bool(reported))
    return ax


def _group(ax: Axes, own: pd.DataFrame, dataset: str, x: int) -> None:
    for place, (ending, _, color, hatch) in enumerate(_BARS):
        name = f"probe/{dataset}/{ending}"
        values = own[name].dropna().to_numpy() if name in own else np.empty(0)
        if not len(values):
            continue
        at = x + (place - 1.5) * _WIDTH
        ax.bar(at, values.mean(), _WIDTH, color=color, hatch=hatch, edgecolor="white", linewidth=0.5)
        spread = np.linspace(-0.3, 0.3, len(values)) * _WIDTH if len(values) > 1 else np.zeros(1)
        ax.scatter(at + spread, values, s=5, color="0.15", zorder=3)
        if not hatch:
            ax.text(at, values.max() + 0.012, f"{values.mean():.2f}", ha="center", fontsize=SMALL - 1)


def _levels(ax: Axes, runs: pd.DataFrame, dataset: str) -> None:
    chance, largest = levels_of(runs, f"probe/{dataset}/linear")
    lines = [("chance", chance, CHANCE_STYLE), ("chance", float(np.minimum(1.0, _TOP * chance)), CHANCE_STYLE)]
    lines.append(("largest class", largest, LARGEST_STYLE))
    names: dict[float, list[str]] = {}
    for name, value, style in lines:
        if not np.isnan(value):
            ax.axhline(value, **style)
            near = next((place for place in names if abs(place - value) < _TEXT_HEIGHT), value)
            names.setdefault(near, []).append(f"{name} {100 * value:.3g}%")
    for value, words in names.items():
        place: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": SMALL}
        ax.text(1.01, value, "\n".join(words), **place)
    untrained = runs.loc[runs["task"] == RANDOM_INIT]
    for ending, _, color, hatch in _BARS:
        name = f"probe/{dataset}/{ending}"
        if not hatch and name in untrained and untrained[name].notna().any():
            ax.axhline(untrained[name].mean(), color=color, linestyle="-.", linewidth=1.2)


def _legend(ax: Axes, *, shown: bool) -> None:
    entries: dict[str, Any] = {
        name: Patch(facecolor=color, hatch=hatch, edgecolor="white") for _, name, color, hatch in _BARS
    }
    entries["chance"] = Line2D([], [], **CHANCE_STYLE)
    entries["largest class, test"] = Line2D([], [], **LARGEST_STYLE)
    entries["untrained, test"] = Line2D([], [], color="0.4", linestyle="-.")
    if shown:
        entries["original report's bars"] = Patch(color="0.75", alpha=0.6)
    legend_below(ax, entries)
