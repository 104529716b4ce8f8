"""The forest plot: means, intervals, seeds and answers at the values of the frames, and readable names."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.patches import Rectangle

from analysis.comparisons import ANSWERS
from analysis.figures import ANSWER_STYLES, effects_forest
from tests.analysis.figure_helpers import (
    CELLS,
    METRIC,
    ablation,
    blank,
    compared,
    cut_off,
    legend,
    overlapping_rows,
    row_names,
)
from trainables.errors import UserError

FEW_CELLS = ["base", "no augmentation", "augmentation/flip=0", "budget_steps=2000"]

Frames = tuple[pd.DataFrame, pd.DataFrame]


@pytest.fixture(scope="module")
def six_seeds() -> Frames:
    return compared(ablation(FEW_CELLS, seeds=6))


@pytest.fixture(scope="module")
def many_cells() -> Frames:
    return compared(ablation(seeds=8))


def row_of(ax: Axes, cell: str) -> float:
    return float(ax.get_yticks()[row_names(ax).index(cell)])


def means(ax: Axes) -> dict[float, tuple[float, str, bool]]:
    """Return the x, the marker and whether it is filled of the mean in each row."""
    found = {}
    for line in ax.lines:
        if len(line.get_xdata()) == 1:
            (x,), (y,) = line.get_data()
            found[float(y)] = (float(x), line.get_marker(), line.get_markerfacecolor() != "white")
    return found


def intervals(ax: Axes, kind: str) -> dict[float, tuple[float, float]]:
    drawn = [line.get_data() for line in ax.lines if line.get_label() == kind]
    return {float(y[0]): (float(x[0]), float(x[1])) for x, y in drawn}


def rings(ax: Axes) -> list[np.ndarray]:
    return [np.asarray(points.get_offsets()) for points in ax.collections if isinstance(points, PathCollection)]


def test_every_answer_has_a_marker_of_its_own_and_only_answers_are_filled():
    assert set(ANSWER_STYLES) == set(ANSWERS)
    assert len({style.marker for style in ANSWER_STYLES.values()}) == len(ANSWERS)
    assert {name for name, style in ANSWER_STYLES.items() if style.filled} == {"better", "worse", "equivalent"}


def test_means_intervals_and_seeds_stand_at_their_values(six_seeds: Frames):
    effects, differences = six_seeds
    ax = effects_forest(effects, differences, blank())
    best_first = effects.sort_values("mean_difference", ascending=False)
    assert row_names(ax) == [
        cell for design in effects["design"].unique() for cell in best_first.query("design == @design")["cell"]
    ]
    by_row = {row: seeds for seeds in rings(ax) for row in [round(float(seeds[0, 1]), 6)]}
    for cell in effects.itertuples():
        row = row_of(ax, cell.cell)
        x, marker, filled = means(ax)[row]
        assert x == pytest.approx(cell.mean_difference)
        assert (marker, filled) == (ANSWER_STYLES[cell.answer].marker, ANSWER_STYLES[cell.answer].filled)
        assert intervals(ax, "ci")[row] == pytest.approx((cell.ci_low, cell.ci_high))
        assert intervals(ax, "family")[row] == pytest.approx((cell.family_low, cell.family_high))
        (seeds,) = [seeds for y, seeds in by_row.items() if row < y < row + 0.5]
        own = differences.loc[differences["cell"] == cell.cell, "difference"]
        np.testing.assert_allclose(np.sort(seeds[:, 0]), np.sort(own))
    assert len(intervals(ax, "ci")) == len(by_row) == len(effects)


def test_groups_are_headed_by_design_and_baseline_and_the_text_says_difference_and_answer(six_seeds: Frames):
    effects, differences = six_seeds
    ax = effects_forest(effects, differences, blank(), metric=METRIC)
    texts = [text.get_text() for text in ax.texts]
    assert [text for text in texts if "against" in text] == ["leave_one_out against base", "cures against base"]
    for cell in effects.itertuples():
        assert f"{cell.mean_difference:+.3f}  {cell.answer}".replace("-", "−") in texts
    assert ax.get_title(loc="left") == "context_prediction: effects, 6 seeds"
    assert ax.get_xlabel() == f"difference in {METRIC} (fraction)"


def test_cells_of_one_design_with_different_baselines_are_grouped_by_baseline():
    cells = [f"n_images={n}, augmentation_strength={s}" for n in (200, 500) for s in (0, 1)]
    ax = effects_forest(*compared(ablation(cells, seeds=6)), blank())
    headings = [text.get_text().replace("\n", " ") for text in ax.texts if "against" in text.get_text()]
    assert headings == [f"size_by_strength against n_images={n}, augmentation_strength=0" for n in (200, 500)]
    assert row_names(ax) == [cells[1], cells[3]]


def test_a_cell_compared_with_itself_has_no_row(six_seeds: Frames):
    effects, differences = six_seeds
    reference = effects.iloc[:1].assign(cell="base", mean_difference=0.0)
    rows = row_names(effects_forest(pd.concat([reference, effects]), differences, blank()))
    assert sorted(rows) == sorted(FEW_CELLS[1:])


def test_too_few_seeds_show_dots_and_means_without_an_interval():
    effects, differences = compared(ablation(FEW_CELLS, seeds=3))
    ax = effects_forest(effects, differences, blank())
    assert set(effects["answer"]) == {"too few seeds"}
    assert not intervals(ax, "ci")
    assert len(means(ax)) == len(rings(ax)) == 3
    assert {(marker, filled) for _, marker, filled in means(ax).values()} == {("D", False)}
    assert legend(ax) == ["mean alone", "each seed"]


def test_failed_seeds_are_counted_beside_the_answer_and_have_no_dot():
    runs = ablation(FEW_CELLS, seeds=7)
    failed = (runs["cell"] == "no augmentation") & (runs["seed"] == 100)
    runs.loc[failed, "status"] = "FAILED"
    effects, differences = compared(runs)
    ax = effects_forest(effects, differences, blank())
    row = row_of(ax, "no augmentation")
    (seeds,) = [seeds for seeds in rings(ax) if row < seeds[0, 1] < row + 0.5]
    assert len(seeds) == 6
    (note,) = [text.get_text() for text in ax.texts if "failed" in text.get_text()]
    assert note.endswith("(n=6, 1 failed)")


def test_the_zero_line_and_the_margin_span_the_cells(six_seeds: Frames):
    ax = effects_forest(*six_seeds, blank(), margin=0.02)
    bands = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert {(band.get_x(), band.get_width()) for band in bands} == {(-0.02, 0.04)}
    zero = [each for each in ax.collections if isinstance(each, LineCollection)]
    assert {x for each in zero for x in np.concatenate(each.get_segments())[:, 0]} == {0.0}
    for row in ax.get_yticks():
        assert any(band.get_y() < row < band.get_y() + band.get_height() for band in bands)
    assert "margin ±0.02" in legend(ax)


def test_a_cell_without_any_value_says_so(six_seeds: Frames):
    effects = six_seeds[0].copy()
    effects.loc[0, ["mean_difference", "ci_low", "ci_high", "family_low", "family_high"]] = np.nan
    ax = effects_forest(effects, None, blank())
    assert sum(text.get_text().startswith("no value") for text in ax.texts) == 1
    assert np.isfinite(ax.get_xlim()).all()


@pytest.mark.parametrize("own_size", [False, True])
def test_twenty_five_cells_by_eight_seeds_can_be_read(many_cells: Frames, own_size: bool):
    effects, differences = many_cells
    ax = effects_forest(effects, differences, None if own_size else blank(), margin=0.01, metric=METRIC)
    assert len(effects) == len(CELLS) - 5 == len(means(ax))
    assert not cut_off(ax)
    assert not overlapping_rows(ax)
    plt.close("all")


def test_what_cannot_be_drawn_says_what_is_missing_and_what_makes_it(six_seeds: Frames):
    effects, differences = six_seeds
    with pytest.raises(UserError, match=r"effects without 'ci_low', 'answer': pass what analysis\.comparisons"):
        effects_forest(effects.drop(columns=["ci_low", "answer"]), None, blank())
    with pytest.raises(UserError, match=r"nothing to draw.*analysis\.comparisons\.effects makes them"):
        effects_forest(effects.iloc[:0], None, blank())
    with pytest.raises(UserError, match=r"differences without 'difference'.*paired_differences"):
        effects_forest(effects, differences.drop(columns="difference"), blank())
    with pytest.raises(UserError, match="unknown answer perhaps"):
        effects_forest(pd.concat([effects.assign(answer="perhaps")]), None, blank())
