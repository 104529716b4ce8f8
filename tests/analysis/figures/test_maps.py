"""Heat maps: every square at its place, with its value, and colors that mean what the bar says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from analysis.comparisons import convergence_rates
from analysis.figures import pair_heatmap, size_strength_map
from analysis.figures.style import COLORS, ink_on
from tests.analysis.figure_helpers import blank, cut_off, row_names
from trainables.errors import UserError

OPS = ["crop_resize", "flip", "gray"]
PAIRS = pd.DataFrame(
    [
        ("simclr", "crop_resize", "crop_resize", 0.50),
        ("simclr", "flip", "flip", 0.41),
        ("simclr", "gray", "gray", 0.40),
        ("simclr", "flip", "crop_resize", 0.52),
        ("simclr", "crop_resize", "gray", 0.55),  # above the diagonal: to be moved below it
        ("simclr", "gray", "flip", np.nan),
    ],
    columns=["task", "first", "second", "mean"],
)


def mesh(ax: Axes) -> np.ma.MaskedArray:
    return ax.collections[0].get_array().reshape(len(ax.get_yticks()), len(ax.get_xticks()))


def squares(ax: Axes) -> dict[tuple[int, int], str]:
    """Return the text in each (row, column), counted from the upper left."""
    return {(int(y), int(x)): text.get_text() for text in ax.texts for x, y in [text.get_position()]}


def grid_runs(seeds: int = 5) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    rows = [
        {"task": "rotation", "phase": "ablate", "seed": seed, "n_images": n, "augmentation_strength": s}
        for n in (200, 1464, None)
        for s in (0.0, 0.5)
        for seed in range(seeds)
    ]
    runs = pd.DataFrame(rows).astype({"n_images": "Int64"})
    runs = runs.assign(trial_id=[f"t{i}" for i in range(len(runs))], cell="", status="FINISHED", budget_steps=100)
    return runs.assign(init_from="", **{"probe/shapes/linear": generator.uniform(0.2, 0.9, len(runs))})


def test_a_pair_is_drawn_once_below_the_diagonal_whichever_way_it_is_named():
    ax = pair_heatmap(PAIRS, blank())
    assert row_names(ax) == [label.get_text() for label in ax.get_xticklabels()] == OPS
    expected = np.array([[0.50, np.nan, np.nan], [0.52, 0.41, np.nan], [0.55, np.nan, 0.40]])
    np.testing.assert_array_equal(np.ma.filled(mesh(ax), np.nan), expected)
    texts = squares(ax)
    assert (texts[1, 0], texts[2, 0], texts[0, 1], texts[2, 1]) == ("0.520", "0.550", "", "–")


def test_a_pair_that_comes_both_ways_is_drawn_twice():
    both = pd.concat([PAIRS, PAIRS.iloc[[3]].assign(first="crop_resize", second="flip", mean=0.6)])
    ax = pair_heatmap(both, blank())
    assert (squares(ax)[1, 0], squares(ax)[0, 1]) == ("0.520", "0.600")


def test_colors_diverge_evenly_around_no_augmentation_and_the_sign_is_written_too():
    ax = pair_heatmap(PAIRS, blank(), baseline=0.42, metric="last/probe/linear")
    assert ax.collections[0].get_clim() == pytest.approx((0.42 - 0.13, 0.42 + 0.13))
    texts = squares(ax)
    assert (texts[2, 0], texts[1, 1]) == ("0.550\n+0.130", "0.410\n−0.010")
    assert ax.figure.axes[1].get_ylabel() == "probe/linear (fraction)"
    assert ax.get_title(loc="left") == "simclr: pairs of augmentations\n(alone on the diagonal; none at all: 0.420)"


def test_sizes_are_rows_with_all_on_top_and_squares_say_mean_and_number_of_seeds():
    runs = grid_runs()
    metric = "probe/shapes/linear"
    runs.loc[0, metric] = np.nan
    ax = size_strength_map(runs, metric, blank())
    assert row_names(ax) == ["all", "1,464", "200"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "0.5"]
    means = runs.assign(n_images=runs["n_images"].fillna(10**9)).groupby(["n_images", "augmentation_strength"])[metric]
    expected = means.mean().unstack().to_numpy(float)[::-1]
    np.testing.assert_allclose(mesh(ax), expected)
    assert squares(ax)[2, 0] == f"{expected[2, 0]:.3f}\nn=4"
    assert squares(ax)[0, 1] == f"{expected[0, 1]:.3f}\nn=5"
    assert size_strength_map(runs, metric, blank(), all_images=4000).get_yticklabels()[0].get_text() == "4,000"


def test_booleans_and_convergence_rates_are_drawn_alike_as_rates_from_0_to_1():
    runs = grid_runs()
    verdicts = pd.DataFrame({"trial_id": runs["trial_id"], "verdict": ["converged", "at_chance", "overfit"] * 10})
    by_trial = runs.assign(converged=verdicts["verdict"] == "converged")
    rates = convergence_rates(runs, verdicts, by=["task", "n_images", "augmentation_strength"])
    drawn = size_strength_map(by_trial, "converged", blank()), size_strength_map(rates, "rate", blank())
    for ax in drawn:
        assert ax.collections[0].get_clim() == (0, 1)
        counts = by_trial.loc[(by_trial["n_images"] == 200) & (by_trial["augmentation_strength"] == 0), "converged"]
        assert squares(ax)[2, 0] == f"{counts.mean():.2f}\n{counts.sum()} of 5"
    assert squares(drawn[0]) == squares(drawn[1])
    failed = by_trial.assign(status=["FAILED", *["FINISHED"] * (len(runs) - 1)])
    failed.loc[0, "converged"] = False
    ax = size_strength_map(failed, "converged", blank())
    assert squares(ax)[2, 0] == f"{failed.loc[:4, 'converged'].mean():.2f}\n{failed.loc[:4, 'converged'].sum()} of 5"
    for dtype in ("boolean", object):  # with a trial that has no verdict
        some = by_trial["converged"].astype(dtype)
        some[0] = None
        ax = size_strength_map(by_trial.assign(converged=some), "converged", blank())
        assert squares(ax)[2, 0].endswith(" of 4\n1 undecided")
        assert squares(ax)[1, 0].endswith(" of 5")
        assert ax.figure.axes[1].get_ylabel() == "converged (share of decided seeds)"
    assert drawn[0].figure.axes[1].get_ylabel() == "converged (share of seeds)"


def test_a_size_that_was_not_run_at_a_strength_is_marked_as_missing():
    runs = grid_runs().drop(index=range(5))
    assert squares(size_strength_map(runs, "probe/shapes/linear", blank()))[2, 0] == "–"


def test_text_stands_out_on_every_color_it_is_written_on():
    def luminance(color: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for color in [*COLORS, "black", "white", "0.2", "0.45", "0.8"]:
        light, dark = sorted([luminance(color), luminance(ink_on(color))], reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 4.5


def test_eight_ops_fit_the_size_of_the_report():
    ops = ["crop_resize", "flip", "translate", "color_jitter", "gray", "blur", "erase", "noise"]
    rows = [(a, b, 0.4 + 0.01 * i) for i, a in enumerate(ops) for b in ops[: i + 1]]
    ax = pair_heatmap(pd.DataFrame(rows, columns=["first", "second", "mean"]), blank(), baseline=0.42)
    assert not cut_off(ax)
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    width = ax.get_window_extent().width / len(ops)
    assert max(box.width for box in boxes) < width


def test_what_cannot_be_drawn_says_what_is_missing_and_what_makes_it():
    with pytest.raises(UserError, match=r"pairs without 'first'.*analysis\.comparisons\.pair_synergy"):
        pair_heatmap(PAIRS.drop(columns="first"), blank())
    with pytest.raises(UserError, match="more than once in pairs; pass one task"):
        pair_heatmap(pd.concat([PAIRS, PAIRS.assign(task="rotation")]), blank())
    with pytest.raises(UserError, match="has a mean"):
        pair_heatmap(PAIRS.assign(mean=np.nan), blank())
    with pytest.raises(UserError, match=r"without 'probe/x/linear'.*size_by_strength"):
        size_strength_map(grid_runs(), "probe/x/linear", blank())
    with pytest.raises(UserError, match="no value of 'lost' in these 30 rows"):
        size_strength_map(grid_runs().assign(lost=np.nan), "lost", blank())
    with pytest.raises(UserError, match="one task"):
        size_strength_map(grid_runs().assign(task=["a", "b"] * 15), "probe/shapes/linear", blank())
    with pytest.raises(UserError, match="two runs of n_images 200"):  # cells of another design would be mixed in
        size_strength_map(grid_runs().assign(seed=0), "probe/shapes/linear", blank())


def test_colors_span_the_margin_so_that_small_differences_look_alike():
    runs = grid_runs().assign(**{"probe/shapes/linear": 0.3})
    runs.loc[runs["augmentation_strength"] > 0, "probe/shapes/linear"] = 0.301
    drawn = size_strength_map(runs, "probe/shapes/linear", blank(), margin=0.01).collections[0]
    assert drawn.norm.vmax - drawn.norm.vmin == pytest.approx(0.02)
    assert size_strength_map(runs, "probe/shapes/linear", blank()).collections[0].norm.vmax == pytest.approx(0.301)
    same = PAIRS.assign(mean=0.4)
    drawn = pair_heatmap(same, blank(), baseline=0.4, margin=0.01).collections[0]
    assert (drawn.norm.vmin, drawn.norm.vmax) == pytest.approx((0.39, 0.41))
