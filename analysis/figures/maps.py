"""Heat maps: pairs of augmentations, data size by augmentation strength, and transfer between data sets."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from analysis.comparisons import grid
from analysis.data.tables import LAST, split_note, split_of
from analysis.figures.style import COLORS, SIZE, SMALL, axes, ink_on, label, require, title, whose
from trainables.errors import UserError

DIVERGING = sns.color_palette("vlag", as_cmap=True)
SCALE = sns.light_palette(COLORS[0], as_cmap=True)
MISSING = "–"
LONGEST_UPRIGHT = 6  # characters; longer column names are slanted
SQUARE = 0.7  # inches per square in a new figure


def pair_heatmap(
    pairs: pd.DataFrame,
    ax: Axes | None = None,
    *,
    baseline: float | None = None,
    metric: str = "",
    split: str = "",
    margin: float | None = None,
) -> Axes:
    """Draw the mean of each pair of augmentations, with single ones on the diagonal (Chen et al. 2020, figure 5).

    Args:
        pairs: Columns first, second, mean, from `analysis.comparisons.pair_synergy`. A pair without order is drawn
            once, below the diagonal; a pair in both orders is drawn twice.
        ax: Axes to draw on; None creates a figure.
        baseline: Mean without any augmentation. The colors then diverge around it, and every square also shows its
            difference.
        metric: The metric behind the mean, for the color bar.
        split: The split that it was measured on, for the title.
        margin: The smallest difference that matters; the colors span at least that much to each side.

    Raises:
        UserError: If the frame is empty, lacks a column, mixes tasks, or repeats a pair.
    """
    require(pairs, ["first", "second", "mean"], "pairs", "analysis.comparisons.pair_synergy")
    if pairs["mean"].isna().all():
        raise UserError(f"none of these {len(pairs)} pairs has a mean")
    if pairs.duplicated(["first", "second"]).any():
        raise UserError("a pair appears more than once in pairs; pass one task: pairs.query(\"task == '...'\")")
    ops = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    table = pairs.pivot(index="first", columns="second", values="mean").reindex(index=ops, columns=ops)
    upper = np.triu(np.ones(table.shape, dtype=bool), 1)
    above_alone = table.notna() & table.T.isna() & upper  # such a pair moves below the diagonal
    table = table.where(~above_alone.T, table.T).mask(above_alone)

    texts = table.map(lambda value: f"{value:.3f}")
    if baseline is not None:
        texts += table.map(lambda value: f"\n{value - baseline:+.3f}".replace("-", "−"))
    texts = texts.where(table.notna(), np.where(upper, "", MISSING))
    ax = axes(ax, size=(2.6 + SQUARE * len(ops), 1.8 + SQUARE * len(ops)))
    _heat(ax, table, texts, label(metric.removeprefix(LAST)) or "mean", center=baseline, margin=margin)
    ax.set(xlabel="augmentation", ylabel="augmentation")
    none = "" if baseline is None else f"; none at all: {baseline:.3f}"
    title(ax, f"{whose(pairs)}pairs of augmentations{split_note(metric, split)}\n(alone on the diagonal{none})")
    return ax


def size_strength_map(
    frame: pd.DataFrame,
    value: str,
    ax: Axes | None = None,
    *,
    all_images: int | None = None,
    margin: float | None = None,
) -> Axes:
    """Draw the mean of `value` for each number of images (rows) and augmentation strength (columns).

    Each square shows its mean and number of seeds; a rate shows how many of them. In a boolean column, seeds
    without a value are left out of the rate and counted as undecided.

    Args:
        frame: Runs of one task that differ only in these two settings and the seed, or rows of
            `analysis.comparisons.convergence_rates` by n_images and augmentation_strength.
        value: A metric's column, a boolean column, which gives a rate, or `rate`.
        ax: Axes to draw on; None creates a figure.
        all_images: Number of images if n_images is missing; without it, that row is labeled "all".
        margin: The smallest difference that matters; the colors span at least twice that.

    Raises:
        UserError: If the frame is empty, lacks a column or any value, mixes tasks, or a square would mix trials that
            differ in more than their seed.
    """
    require(frame, ["n_images", "augmentation_strength", value], "the frame", "the design size_by_strength of a study")
    if frame[value].isna().all():
        raise UserError(f"no value of {value!r} in these {len(frame)} rows")
    is_rate = value == "rate" or pd.api.types.is_bool_dtype(frame[value].dropna().infer_objects())
    drawn = frame.assign(**{value: frame[value].astype("float64")})
    if is_rate:
        drawn = drawn.drop(columns="status", errors="ignore")  # a failed trial counts: its value says that it did not
    means = grid(drawn, value, all_images=all_images).iloc[::-1]  # the largest on top
    if "n_seeds" in frame:
        counts = grid(drawn, "n_seeds", all_images=all_images)
    else:
        counts = grid(drawn, value, all_images=all_images, aggregate="count")
    counts = counts.reindex_like(means).fillna(0)
    shares_of = "seeds"
    if is_rate:
        right = (means * counts).round()
        texts = means.map("{:.2f}\n".format) + right.map("{:.0f} of ".format) + counts.map("{:.0f}".format)
        if value != "rate" and drawn[value].isna().any():
            shares_of = "decided seeds"
            listed = grid(drawn.assign(listed=1.0), "listed", all_images=all_images, aggregate="count")
            n_open = listed.reindex_like(means).fillna(0) - counts
            texts += n_open.map(lambda n: f"\n{n:.0f} undecided" if n else "")
    else:
        texts = means.map("{:.3f}\nn=".format) + counts.map("{:.0f}".format)
    texts = texts.where(means.notna(), MISSING)
    means.index = [name if isinstance(name, str) else f"{name:,.0f}" for name in means.index]
    means.columns = [f"{strength:g}" for strength in means.columns]

    name = value.removeprefix(LAST)
    ax = axes(ax, size=(max(SIZE[0], 2.6 + SQUARE * means.shape[1]), max(3.0, 1.4 + SQUARE * means.shape[0])))
    limits = (0, 1) if is_rate else None
    _heat(
        ax,
        means,
        texts,
        f"{name} (share of {shares_of})" if is_rate else label(name),
        limits=limits,
        margin=margin,
    )
    ax.set(xlabel="augmentation_strength", ylabel=label("n_images"))
    title(ax, f"{whose(frame)}{name}{split_note(value, split_of(frame, value))}")
    return ax


def transfer_map(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw how encoders trained on each data set transfer to every other one, compared with untrained encoders.

    A row is the data set that was trained on; a column is the data set that was probed, with a probe of its own. The
    color is the difference from untrained encoders in that column; the text is the mean accuracy and the answer of the
    test. The last row is the untrained encoders, whose mean depends on the seeds that a study has of both.

    Args:
        frame: Rows of `analysis.pages.transfer.transfer_frame` for one task.
        ax: Axes to draw on; None creates a figure.

    Raises:
        UserError: If the frame is empty, lacks a column or mixes tasks.
    """
    require(frame, ["trained_on", "probed_on", "mean", "mean_difference", "answer"], "the frame", "transfer_frame")
    if frame["task"].nunique() > 1:
        raise UserError(f"several tasks in one map: {', '.join(frame['task'].unique())}; keep one")
    cells = frame.assign(text=frame["mean"].map("{:.3f}\n".format) + frame["answer"])
    index = {"index": "trained_on", "columns": "probed_on"}
    differences, texts = (cells.pivot(values=name, **index) for name in ("mean_difference", "text"))
    order, columns = list(dict.fromkeys(frame["trained_on"])), list(dict.fromkeys(frame["probed_on"]))
    differences, texts = (table.reindex(index=order, columns=columns) for table in (differences, texts))
    untrained = frame.groupby("probed_on")["baseline_mean"].agg(["min", "max"]).loc[columns].round(3)
    differences.loc["untrained"] = 0.0
    texts.loc["untrained"] = [
        f"{low:.3f}" if low == high else f"{low:.3f}\nto {high:.3f}" for low, high in untrained.itertuples(index=False)
    ]
    ax = axes(ax, size=(max(SIZE[0], 2.6 + 1.3 * len(columns)), max(3.0, 1.4 + SQUARE * len(differences))))
    _heat(ax, differences, texts.fillna(MISSING), "difference from untrained encoders", center=0.0)
    ax.set(xlabel="probed on", ylabel="trained on")
    title(ax, f"{frame['task'].iloc[0]}: linear probe, test split")
    return ax


def _heat(
    ax: Axes,
    table: pd.DataFrame,
    texts: pd.DataFrame,
    bar_label: str,
    *,
    center: float | None = None,
    limits: tuple[float, float] | None = None,
    margin: float | None = None,
) -> None:
    """Draw the squares of `table` with their texts; colors diverge symmetrically around `center`.

    The colors span at least `margin` to each side, so that differences too small to matter look alike.
    """
    values = table.to_numpy(dtype=float)
    if center is not None:
        reach = max(np.nanmax(np.abs(values - center)), margin or 1e-6)
        limits = (center - reach, center + reach)
    low, high = limits or (np.nanmin(values), np.nanmax(values))
    if limits is None and margin and high - low < 2 * margin:
        middle = (low + high) / 2
        low, high = middle - margin, middle + margin
    colors = SCALE if center is None else DIVERGING
    sns.heatmap(table, ax=ax, cmap=colors, vmin=low, vmax=high, linewidths=1, cbar_kws={"label": bar_label})
    mesh = ax.collections[0]
    assert mesh.colorbar is not None
    mesh.colorbar.ax.tick_params(labelsize=SMALL)
    size = float(np.clip(ax.get_window_extent().width / ax.figure.dpi * 72 / table.shape[1] / 4.5, 4, SMALL))
    for (row, column), value in np.ndenumerate(values):
        shade = colors(mesh.norm(value)) if np.isfinite(value) else "white"
        text = texts.iat[row, column]
        ax.text(column + 0.5, row + 0.5, text, color=ink_on(shade), fontsize=size, ha="center", va="center")
    ax.tick_params(labelsize=SMALL, length=0)
    ax.tick_params(axis="y", labelrotation=0)
    if max(len(str(name)) for name in table.columns) > LONGEST_UPRIGHT:
        plt.setp(ax.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")
    else:
        ax.tick_params(axis="x", labelrotation=0)
