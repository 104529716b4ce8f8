"""Shared style of all figures: colors, chance lines, labels, titles and legends.

Colors are seaborn's color-blind palette. A marker, a line style or a letter repeats what a color says, so that figures
can be printed in gray.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from analysis.data.classes import levels_of
from analysis.data.study import SIMULATED, Study
from analysis.data.tables import chance_column, is_accuracy, is_share
from trainables.errors import UserError
from trainables.trial import ONLINE_PROBES, RANDOM_INIT, RAW_PIXELS, WEIGHTS

COLORS = sns.color_palette("colorblind").as_hex()
LINE_COLORS = [COLORS[index] for index in (0, 1, 2, 3, 4, 5, 7, 9)]  # without the two that are faint as a line
MARKERS = "os^DvPX*"
LINE_STYLES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
LARGEST_STYLE: dict[str, Any] = {"color": "0.25", "linestyle": (0, (7, 2, 1, 2, 1, 2)), "linewidth": 1.3}
CHANCE_STYLE: dict[str, Any] = {"color": "0.25", "linestyle": "--", "linewidth": 1.3}
_BASELINE_STYLES = {RANDOM_INIT: "-.", RAW_PIXELS: ":"}
_BASELINE_NAMES = {RANDOM_INIT: "untrained", RAW_PIXELS: "raw pixels"}
ALERT = "#b00020"  # red that is readable on white
TINT = "#fbe3e6"  # background of a simulated study's figures in a notebook
SHADES = sns.color_palette("crest", as_cmap=True)  # from light to dark, so it works in gray too
NAMES = {  # axis labels of final probes
    "linear": "accuracy of the linear probe",
    "linear_balanced_accuracy": "balanced accuracy of the linear probe",
    "balanced_accuracy": "balanced accuracy",
    "miou": "mIoU",
}
UNITS = {"images_per_s": "images/s", "wall_s": "s", "batch_size": "images", "n_images": "images", "steps": "steps"}
LOG_AXES = ("lr", "weight_decay", "batch_size", "n_images", "budget_steps", "temperature", "pairs_per_image")
SIZE = (5.5, 4.2)  # inches
SMALL = 8  # points: legends and tick labels
TITLE = 10  # points
CHARACTERS_PER_INCH = 15.5  # longest line of a title, by the width of the axes before the layout widens them
LONGEST_NAME = 68  # characters of a configuration in a legend
ONE_LINE = 44  # characters of a row's name if the row has room for one line
MOST_PASSES = 3  # runs of the layout engine in `settle`
SMALLEST, LEADING = 6, 1.25  # points of a name in several lines; line spacing as a multiple of the font size


def baseline_name(task: str) -> str:
    """Return what figures call a baseline: `untrained`, `raw pixels`, or the name of pretrained weights."""
    return _BASELINE_NAMES.get(task, task.removeprefix(WEIGHTS))


def baseline_style(task: str) -> Any:
    """Return the line style of a baseline."""
    return _BASELINE_STYLES.get(task, (0, (7, 2)))


def has_log_axis(name: str) -> bool:
    """Whether a setting, such as `lr` or `option/temperature`, has a log axis if its values are positive."""
    return name.rsplit("/", 1)[-1] in LOG_AXES


def axes(ax: Axes | None, size: tuple[float, float] = SIZE) -> Axes:
    """Return `ax`, or the axes of a new figure of `size` (width and height in inches) if it is None."""
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def require(frame: pd.DataFrame, columns: Iterable[str], what: str, maker: str) -> None:
    """Check that a frame has rows and columns to draw.

    Args:
        frame: The frame.
        columns: Columns that it needs.
        what: What the message calls the frame.
        maker: Function that returns such a frame.

    Raises:
        UserError: If the frame is empty or lacks a column.
    """
    missing = [name for name in columns if name not in frame]
    if missing:
        raise UserError(f"{what} without {', '.join(map(repr, missing))}: pass what {maker} returns")
    if frame.empty:
        raise UserError(f"nothing to draw: {what} without a row; {maker} makes them")


def chance_lines(ax: Axes, runs: pd.DataFrame, metric: str) -> list[float]:
    """Draw and return the chance levels of `metric`: several if they depend on the batch size N, as ln(2N - 1).

    For an online probe, the share of the largest class is drawn too.
    """
    column = chance_column(metric)
    levels = sorted(runs[column].dropna().unique()) if column in runs else []
    for index, level in enumerate(levels):
        name = "chance " + ", ".join(f"{value:.3g}" for value in levels) if index == 0 else None
        ax.axhline(level, **CHANCE_STYLE, label=name)
    if metric in ONLINE_PROBES and "largest_class" in runs:
        for share in sorted(runs["largest_class"].dropna().unique()):
            largest_class_line(ax, share, "validation")
    return levels


def largest_class_line(ax: Axes, share: float, split: str) -> None:
    """Draw the accuracy of always predicting the largest class, which has this share of the images of a split."""
    ax.axhline(share, **LARGEST_STYLE, label=f"largest class {share:.3f}, {split}")


def level_lines(ax: Axes, runs: pd.DataFrame, column: str) -> None:
    """Draw chance and the share of the largest class for a column of `runs` with a final probe, if they are known.

    Args:
        ax: Axes to draw on.
        runs: Runs of one probe split.
        column: The column.
    """
    chance, largest = levels_of(runs, column)
    if not np.isnan(chance):
        ax.axhline(chance, **CHANCE_STYLE, label=f"chance {chance:.3f}")
    if not np.isnan(largest):
        largest_class_line(ax, largest, str(runs["probe_split"].iloc[0]))


def finish(ax: Axes, xlabel: str, metric: str, text: str) -> Axes:
    """Label the axes, write the title and put the legend below.

    The y axis of a share, such as accuracy or mIoU, begins at 0 and ends at most at 1.
    """
    ax.set_xlabel(xlabel)
    ax.set_ylabel(label(metric))
    title(ax, text)
    ax.tick_params(labelsize=SMALL)
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    if is_share(metric):  # from 0, so that a small gain over chance looks small
        ax.set_ylim(0, min(1.0, 1.05 * ax.get_ylim()[1]))
    legend_below(ax)
    sns.despine(ax=ax)
    return ax


def title(ax: Axes, text: str, length: int | None = None) -> None:
    """Write a left-aligned title; its lines break after `length` characters, by default as many as fit."""
    length = length or max(24, int(CHARACTERS_PER_INCH * ax.get_window_extent().width / ax.figure.dpi))
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, length)]
    # Names of data sets and classes may contain a dollar sign.
    ax.set_title("\n".join(lines), fontsize=TITLE, loc="left", parse_math=False)


def legend_below(ax: Axes, entries: Mapping[str, Any] | None = None, **options: Any) -> None:
    """Put the legend below the x label, in as many columns as fit.

    Args:
        ax: The axes.
        entries: Handles by name; by default those of the labeled artists.
        options: Further arguments of `Axes.legend`.
    """
    if entries is None:
        handles, names = ax.get_legend_handles_labels()
        entries = dict(zip(names, handles, strict=True))
    if not entries:
        return
    shown = [tick.get_text().count("\n") + 1 for tick in ax.get_xticklabels()]
    depth = (SMALL * 1.35 * max(shown, default=0) + 10 + (14 if ax.get_xlabel() else 0)) / 72
    alone = sum(each.get_label() != "<colorbar>" for each in ax.figure.axes) == 1
    across = ax.figure.transFigure if alone else ax.transAxes  # wide row names shift the middle of the axes
    below = blended_transform_factory(across, ax.transAxes) + ScaledTranslation(0, -depth, ax.figure.dpi_scale_trans)
    longest = max(map(len, entries))
    columns = min(len(entries), 4 if longest <= 18 else 2 if longest <= 36 else 1)
    ax.legend(
        list(entries.values()),
        list(entries),
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=below,
        **{"ncols": columns, "fontsize": SMALL, "frameon": False, **options},
    )


def mark_simulated(ax: Axes) -> Axes:
    """Write in red above a figure that its study was simulated, and return its axes."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.suptitle("SIMULATED: nothing was trained", color=ALERT, fontsize=TITLE, fontweight="bold", x=0.01, ha="left")
    return ax


def announce(study: Study) -> None:
    """Show in red in a notebook that a study was simulated, and tint all further figures."""
    if not study.simulated:
        return
    from IPython.display import HTML, display  # only notebooks need it

    plt.rcParams["figure.facecolor"] = TINT
    display(HTML(f'<p style="color: {ALERT}; font-weight: bold">{SIMULATED}</p>'))


def settle(ax: Axes) -> None:
    """Repeat the layout of the figure until axes with a fixed aspect ratio are as high as their slot.

    The layout reserves room for titles and labels around the axes as they are. If the aspect ratio makes them lower
    than their slot, that room is too small, and a title may extend beyond the edge of the figure.
    """
    figure = ax.get_figure(root=True)
    engine = figure.get_layout_engine() if figure is not None else None
    if figure is None or engine is None:
        return
    for _ in range(MOST_PASSES):
        engine.execute(figure)
        ax.apply_aspect()
        if ax.get_position().height > 0.99 * ax.get_position(original=True).height:
            break


def label(metric: str) -> str:
    """Return the name of a metric or setting, with its unit if it has one."""
    unit = "fraction" if is_accuracy(metric) else UNITS.get(metric)
    name = NAMES.get(metric, metric)
    return f"{name} ({unit})" if unit else name


def whose(frame: pd.DataFrame) -> str:
    """Return the beginning of a title: the task and phase of `frame`, each only if all rows share it."""
    names = [name for name in ("task", "phase") if name in frame]
    shared = [str(frame[name].iloc[0]) for name in names if frame[name].nunique() == 1]
    return f"{', '.join(shared)}: " if shared else ""


def listed(names: Iterable[str]) -> str:
    """Join the names with commas; `none` if there are none."""
    return ", ".join(names) or "none"


def counted(n: int, noun: str) -> str:
    """Return `1 seed`, `2 seeds`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def wrapped(name: str, length: int, lines: int = 3) -> str:
    """Break a name into at most `lines` lines of `length` characters, and cut off the rest."""
    return "\n".join(textwrap.wrap(name, length, max_lines=lines, placeholder=" …", break_on_hyphens=False))


def ink_on(color: Any) -> str:
    """Return black or white, whichever has more contrast to `color` (WCAG 2.2; equal at luminance 0.179)."""
    channels = np.array(to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "black" if linear @ [0.2126, 0.7152, 0.0722] > 0.179 else "white"


def row_font(ax: Axes, rows: float, share: float = 0.6) -> float:
    """Return the font size, 5 to SMALL points, of a line that takes `share` of the height of one of `rows`."""
    return float(np.clip(share * _row_height(ax, rows), 5, SMALL))


def name_rows(ax: Axes, names: Mapping[float, str], rows: float, length: int) -> None:
    """Write names to the left of their rows, in as many lines as the rows have room for.

    Args:
        ax: The axes.
        names: Names by the y coordinate of their row.
        rows: Height of the axes in rows.
        length: Characters per line if there is room for several lines.
    """
    lines = int(np.clip(_row_height(ax, rows) / (LEADING * SMALLEST), 1, 3))
    texts = [wrapped(name, length if lines > 1 else ONE_LINE, lines) for name in names.values()]
    most = max(text.count("\n") + 1 for text in texts)
    size = row_font(ax, rows * most, share=0.9 / LEADING)
    ax.set_yticks(list(names), texts, fontsize=size, parse_math=False)
    ax.tick_params(axis="y", length=0)


def _row_height(ax: Axes, rows: float) -> float:
    """Return the height of a row in points; approximate, because the layout comes later."""
    return ax.get_window_extent().height / ax.figure.dpi * 72 / max(rows, 1)
