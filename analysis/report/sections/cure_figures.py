"""Figures of an ablation: forest plots, size by strength, pairs, take-off, and the data-size law."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.comparisons import data_size_law, kaplan_meier, steps_to
from analysis.data.tables import split_of
from analysis.figures import effects_forest, pair_heatmap, size_law, size_strength_map, survival_curves
from analysis.findings import Findings, design_runs, queries
from analysis.report.pictures import Picture, Shown, call, picture
from analysis.report.sources import Sources
from analysis.report.words import counted, metric_words, number, signed
from analysis.stats.scaling_law import MIN_SIZES
from trainables.errors import UserError

SURVIVAL_CELLS = 4  # curves of take-off: the main baseline and the best other cells
MAPPED = ("pairs", "size_by_strength")  # designs that a heat map summarizes


def ablation_pictures(findings: Findings, sources: Sources, task: str) -> Iterator[Picture]:
    """Yield the figures that a task's ablation has data for, without the forest plots of `MAPPED` designs."""
    if task in findings.metrics:
        yield from forests(findings, sources, task, mapped=False)
        yield from _size_strength(findings, sources, task)
        yield from _pairs(findings, sources, task)
        yield from _law(findings, sources, task)
    yield from _take_off(findings, sources, task)


def forests(findings: Findings, sources: Sources, task: str, *, mapped: bool) -> Iterator[Picture]:
    """Yield one forest plot per design.

    Args:
        findings: What was computed for the study.
        sources: Frames that the figures are drawn from.
        task: The ablation's pretext task.
        mapped: Whether to yield the `MAPPED` designs, or all others.
    """
    every = sources.effects.query(f"task == {task!r}")
    for design in every.value["design"].unique():
        if (design in MAPPED) == mapped:
            where = f"task == {task!r} and design == {design!r}"
            effects, seeds = sources.effects.query(where), sources.differences.query(where)
            column = findings.metrics[task].column
            values = (f"{row.cell} {signed(row.mean_difference)} {row.answer}" for row in effects.value.itertuples())
            alt = f"{task}, {design}: difference in {metric_words(column)} from the baseline: {', '.join(values)}"
            options = {"margin": _margin(findings), "metric": column}
            caption = (
                "Each row is a change, the best on top. A thin line, which holds for all changes at once, that stays "
                "clear of 0 and of the gray margin is a difference that matters."
            )
            name = f"effects-{task}-{design}"
            yield picture(name, alt, effects_forest, effects, seeds, caption=caption, **options)


def _margin(findings: Findings) -> float | None:
    return None if findings.margin is None else float(findings.margin)


def _size_strength(findings: Findings, sources: Sources, task: str) -> Iterator[Picture]:
    frame = _cells(sources, task, "size_by_strength")
    lower_is_better = findings.metrics[task].mode == "min"
    for value in (findings.metrics[task].column, "converged"):
        known = frame.value[value].notna()
        if not known.any():
            continue
        squares = frame.value.loc[known].groupby(["n_images", "augmentation_strength"], dropna=False)[value].mean()
        if value == "converged" and squares.nunique() == 1:
            continue  # one color shows nothing
        name = "share of trials that converged" if value == "converged" else metric_words(value)
        span = f"from {number(squares.min())} to {number(squares.max())}"
        alt = f"{task}: {name} by number of images and augmentation strength, {span}"
        margin = _margin(findings) if value != "converged" else None
        caption = "Upward: more images. To the right: stronger augmentation."
        if value == "converged" or not lower_is_better:
            caption += (
                " Where the lower left is pale and the lower right is not, few images score higher with augmentation."
            )
        file = f"size-strength-{task}-{value}"
        yield picture(file, alt, size_strength_map, frame, value, margin=margin, caption=caption)


def _pairs(findings: Findings, sources: Sources, task: str) -> Iterator[Picture]:
    means = sources.synergy.query(f"task == {task!r}")
    known = means.value.dropna(subset=["mean"])
    if known.empty:
        return
    column, mode = findings.metrics[task]
    best = known.loc[known["mean"].idxmin() if mode == "min" else known["mean"].idxmax()]
    where = f"{'lowest' if mode == 'min' else 'highest'} for {best['first']} and {best['second']}"
    alt = f"{task}: mean {metric_words(column)} of each augmentation alone and of each pair, {where}"
    own = findings.effects.loc[(findings.effects["task"] == task) & (findings.effects["design"] == "pairs")]
    none = own["baseline_mean"].mean()
    baseline = None if pd.isna(none) else round(float(none), 6)
    split = split_of(findings.ablated, column)
    yield picture(
        f"pairs-{task}",
        alt,
        pair_heatmap,
        means,
        baseline=baseline,
        metric=column,
        split=split,
        margin=_margin(findings),
        caption="Compare a pair with both of its augmentations alone, on the diagonal. The synergies have the test.",
    )


def _take_off(findings: Findings, sources: Sources, task: str) -> Iterator[Picture]:
    """Yield survival curves of the steps to take-off, for the main baseline and the cells with the largest gains."""
    baseline = queries.main_baseline(findings, task)
    cells = [baseline, *queries.ranked(findings, task, baseline)["cell"].head(SURVIVAL_CELLS - 1)]
    runs = sources.ablated.query(f"task == {task!r} and cell in {cells!r}")
    try:
        times = call(steps_to, runs, sources.curves)
    except UserError:
        return  # no trial counts, or a level or an error is unknown
    events = times.value.groupby("cell", sort=False)[["steps", "observed"]]
    if len({tuple(sorted(map(tuple, own.to_numpy()))) for _, own in events}) < 2:
        return  # curves that coincide show nothing
    had = times.value.groupby("cell", sort=False)["observed"].agg(["sum", "size"])
    counts = ", ".join(f"{cell} {row['sum']} of {counted(row['size'], 'seed')}" for cell, row in had.iterrows())
    alt = f"{task}: share of seeds not shown to have left chance against optimizer steps; shown to: {counts}"
    caption = (
        "A curve falls when a seed is shown to have left chance: the further left it falls, the sooner the task starts "
        "to learn."
    )
    yield picture(f"take-off-{task}", alt, survival_curves, call(kaplan_meier, times), caption=caption)


def _law(findings: Findings, sources: Sources, task: str) -> Iterator[Picture]:
    """Yield the data-size law of each strength, if there are enough sizes to test it."""
    frame = _cells(sources, task, "size_by_strength")
    dataset = queries.main_dataset(findings)
    everything = findings.study.datasets.get(dataset, {}).get("counts", {}).get("pretext_train")
    sizes = frame.value["n_images"].astype("Float64").fillna(everything or 0)
    is_distinct = (
        not pd.DataFrame({"n": sizes, "s": frame.value["augmentation_strength"], "seed": frame.value["seed"]})
        .duplicated()
        .any()
    )
    if sizes.nunique() < MIN_SIZES or (sizes == 0).any() or not is_distinct:
        return
    column = findings.metrics[task].column
    options = {"by": ["augmentation_strength"], "all_images": everything}
    laws = call(data_size_law, frame, column, **options)
    answers = "; ".join(f"strength {row.augmentation_strength:g} {row.answer}" for row in laws.value.itertuples())
    law = f"with a law fitted to all but the largest: {answers}"
    alt = f"{task}: {metric_words(column)} by number of images, {law}"
    caption = (
        "Ring: measured at the largest size. Cross: predicted from the smaller ones. Whether more images pay depends "
        "on how steep the curve still is at its end."
    )
    yield picture(f"size-law-{task}", alt, size_law, frame, laws, column, caption=caption, **options)


def _cells(sources: Sources, task: str, design: str) -> Shown:
    return call(design_runs, sources.findings, task, design)
