"""Readers of what a figure shows on its Axes, and frames of the sizes that figures have to draw."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.comparisons import effects, paired_differences

CELLS = [
    "base",
    "no augmentation",
    *(f"augmentation/{op}=0" for op in ("crop_resize", "flip", "color_jitter", "gray")),
    *(f"n_images={n}, augmentation_strength={s:g}" for n in (200, 500, 1000, "all") for s in (0, 0.25, 0.5, 1)),
    "option/head_norm=batch, option/jitter=0.25, option/color_drop=1",
    "only crop_resize + color_jitter + translate",
    "budget_steps=2000",
]
METRIC = "probe/shapes/linear"


def blank(width: float = 5.5, height: float = 4.2) -> Axes:
    """Return the Axes of an empty figure of the report's size."""
    return Figure(figsize=(width, height), layout="constrained").subplots()


def lines(ax: Axes) -> dict[str, np.ndarray]:
    """Return the y values of every line by its label."""
    return {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in ax.lines}


def legend(ax: Axes) -> list[str]:
    """Return the texts of the legend."""
    found = ax.get_legend()
    return [text.get_text() for text in found.get_texts()] if found else []


def row_names(ax: Axes) -> list[str]:
    """Return the names of the rows from top to bottom, each in one line."""
    return [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()]


def dots(ax: Axes) -> np.ndarray:
    """Return the points of all scatters, float [N, 2]."""
    return np.concatenate([np.asarray(points.get_offsets(), float) for points in ax.collections])


def texts_of(ax: Axes) -> list[Text]:
    """Return every text that a reader sees: titles, labels, ticks, legend, and what is written on the axes."""
    ax.figure.draw_without_rendering()
    found = ax.get_legend()
    every = [
        *(ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label),  # type: ignore[attr-defined]
        *(text for axis in (ax.xaxis, ax.yaxis) for text in _tick_labels(axis)),
        *ax.texts,
        *(found.get_texts() if found else []),
    ]
    return [text for text in every if text.get_text().strip() and text.get_visible()]


def _tick_labels(axis: Axis) -> list[Text]:
    """Return the labels of the ticks in view; matplotlib keeps others that it does not draw."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [label for tick in ticks for label in (tick.label1, tick.label2)]


def cut_off(ax: Axes) -> list[str]:
    """Return the texts that extend beyond the edge of the figure by more than a pixel."""
    edges = ax.figure.bbox
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(ax)]
    return [
        text
        for text, box in boxes
        if box.x0 < edges.x0 - 1 or box.x1 > edges.x1 + 1 or box.y0 < edges.y0 - 1 or box.y1 > edges.y1 + 1
    ]


def overlapping_rows(ax: Axes) -> list[tuple[str, str]]:
    """Return neighboring row names that overlap by more than a fifth of a line."""
    ax.figure.draw_without_rendering()
    labels = sorted(ax.get_yticklabels(), key=lambda label: -label.get_window_extent().y0)
    found = []
    for upper, lower in itertools.pairwise(labels):
        overlap = lower.get_window_extent().y1 - upper.get_window_extent().y0
        line = upper.get_window_extent().height / (upper.get_text().count("\n") + 1)
        if overlap > 0.2 * line:
            found.append((upper.get_text(), lower.get_text()))
    return found


def ablation(
    cells: list[str] = CELLS, seeds: int = 5, tasks: tuple[str, ...] = ("context_prediction",), seed: int = 0
) -> pd.DataFrame:
    """Return runs of the ablate phase, one row per task, cell and seed, with METRIC in [0, 1]."""
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for task in tasks:
        for place, cell in enumerate(cells):
            for number in range(seeds):
                value = 0.5 + 0.02 * (place % 5 - 2) + generator.normal(0, 0.01)
                row = {"trial_id": f"{task}-{place}-{number}", "phase": "ablate", "task": task, "cell": cell}
                rows.append(row | {"seed": 100 + number, "status": "FINISHED", "lr": 1e-3, METRIC: value})
    return pd.DataFrame(rows)


def designs(cells: list[str] = CELLS, tasks: tuple[str, ...] = ("context_prediction",)) -> pd.DataFrame:
    """Return the designs frame of `ablation`: leave_one_out and others against base, size_by_strength by its size."""
    rows = []
    for task in tasks:
        for cell in cells:
            size, _, strength = cell.partition(", augmentation_strength=")
            by_size = cell.startswith("n_images=") and bool(strength)
            design = "size_by_strength" if by_size else "leave_one_out" if "augmentation" in cell else "cures"
            rows.append((task, design, cell, f"{size}, augmentation_strength=0" if by_size else "base"))
    return pd.DataFrame(rows, columns=["task", "design", "cell", "baseline"])


def compared(runs: pd.DataFrame, wanted: pd.DataFrame | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return effects and paired differences of `runs`, with a margin of 0.01."""
    wanted = designs(list(runs["cell"].unique()), tuple(runs["task"].unique())) if wanted is None else wanted
    return (
        effects(runs, METRIC, designs=wanted, margin=0.01),
        paired_differences(runs, METRIC, designs=wanted),
    )
