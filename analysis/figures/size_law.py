"""The data-size law: a metric against the number of images, and whether the fit predicts the largest size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from analysis.comparisons import finished_values
from analysis.data.tables import LAST, split_note, split_of
from analysis.figures.style import LINE_COLORS, LINE_STYLES, MARKERS, axes, finish, label, require, whose
from trainables.errors import UserError

MAKER = "analysis.comparisons.data_size_law"


def size_law(
    runs: pd.DataFrame,
    laws: pd.DataFrame,
    metric: str,
    ax: Axes | None = None,
    *,
    by: Sequence[str] = ("task",),
    all_images: int | None = None,
) -> Axes:
    """Draw every seed's metric against n_images, its mean, and the law a + b n^-c of each group (up to eight).

    Means are over the seeds that have all sizes, if there are any. The law is thick over the sizes that it was fitted
    to and thin beyond them. A ring marks the mean at the held-out size, and a cross the prediction there.

    Args:
        runs: Runs that the laws were fitted to.
        laws: Columns *by, a, b, c, n_held_out, predicted, answer, from `analysis.comparisons.data_size_law`: one row
            per group. Only groups with a row are drawn; a row without a, b and c has no line.
        metric: Metric of the laws, a column of `runs`.
        ax: Axes to draw on; None creates a figure.
        by: Columns that define the groups, as for `data_size_law`.
        all_images: Number of images if n_images is missing, as for `data_size_law`.

    Raises:
        UserError: If a frame is empty or lacks a column, there are more than eight groups, or a size is unknown.
    """
    by = list(by)
    require(laws, [*by, "a", "b", "c", "n_held_out", "predicted", "answer"], "laws", MAKER)
    require(runs, [*by, "n_images", "seed", metric], "runs", "analysis.load")
    if len(laws) > len(MARKERS):
        raise UserError(f"{len(laws)} groups, but at most {len(MARKERS)} can be distinguished; pass fewer laws")
    if runs["n_images"].isna().any():
        if all_images is None:
            raise UserError("some n_images are missing, which means all; say how many that is: all_images=50_000")
        runs = runs.assign(n_images=runs["n_images"].fillna(all_images))
    ax = axes(ax)
    sizes: set[float] = set()
    for (_, law), color, marker, style in zip(laws.iterrows(), LINE_COLORS, MARKERS, LINE_STYLES, strict=False):
        group = runs.loc[(runs[by] == law[by]).all(axis=1)]
        group = group.loc[np.isfinite(finished_values(group, metric))]
        if group.empty:
            raise UserError(f"no value of {metric!r} in the runs of {_name(law, by)}")
        whole = group.pivot_table(metric, "seed", "n_images").dropna()
        means = whole.mean() if len(whole) else group.groupby("n_images")[metric].mean()
        ax.scatter(
            *(group["n_images"], group[metric]),
            s=16,
            marker=marker,
            facecolors="none",
            edgecolors=color,
            linewidths=0.8,
        )
        ax.plot(means.index, means, marker, color=color, markersize=6)
        _draw_law(ax, law, means.index.to_numpy(float), _name(law, by), color=color, linestyle=style, marker=marker)
        held_out = means[means.index == law["n_held_out"]]
        ax.scatter(held_out.index, held_out, s=150, facecolors="none", edgecolors="0.15", linewidths=1.5, zorder=4)
        ax.plot(law["n_held_out"], law["predicted"], "x", color=color, markersize=8, markeredgewidth=2, zorder=5)
        sizes |= set(means.index)
    _label_marks(ax)
    ax.set_xscale("log")
    ax.set_xticks(sorted(sizes), [f"{size:,.0f}" for size in sorted(sizes)])
    ax.xaxis.set_minor_locator(NullLocator())
    limits = ax.get_ylim()  # not from 0: differences between sizes are small
    name = metric.removeprefix(LAST)
    finish(ax, label("n_images"), name, f"{whose(runs)}{name}{split_note(metric, split_of(runs, metric))} by data size")
    ax.set_ylim(limits)
    return ax


def _draw_law(ax: Axes, law: pd.Series, sizes: np.ndarray, name: str, **style: Any) -> None:
    """Draw the law thin over all sizes and thick over the fitted ones, and label it with the answer."""
    marker, text = style.pop("marker"), f"{name}: {law['answer']}"
    if np.isfinite(law["a"]):
        fitted = sizes[sizes != law["n_held_out"]]
        for low, high, width in ((sizes.min(), sizes.max(), 0.8), (fitted.min(), fitted.max(), 1.8)):
            n = np.geomspace(low, high, 100)
            ax.plot(n, law["a"] + law["b"] * n ** -law["c"], linewidth=width, **style)
        text = f"{name}: ${law['a']:.3g} {law['b']:+.3g}\\,n^{{{-law['c']:.2g}}}$, {law['answer']}"
    ax.plot([], [], marker=marker, linewidth=1.8, label=text, **style)


def _name(law: pd.Series, by: list[str]) -> str:
    return ", ".join(str(law[name]) for name in by)


def _label_marks(ax: Axes) -> None:
    ring: dict[str, Any] = {"facecolors": "none", "edgecolors": "0.15", "linewidths": 1.5}
    ax.scatter([], [], s=90, label="mean at the held-out size", **ring)
    ax.plot([], [], "x", color="0.15", markersize=8, markeredgewidth=2, label="prediction at the held-out size")
