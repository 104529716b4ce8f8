"""Parallel coordinates and importance bars: lines through the right heights, bars of the right length."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D

from analysis.comparisons import importance
from analysis.figures import importance_bars, parallel_coordinates
from tests.analysis.figure_helpers import blank, cut_off, legend, row_names
from trainables.errors import UserError

METRIC = "last/probe/linear"
IMPORTANCE = pd.DataFrame(
    {
        "task": "simclr",
        "hyperparameter": ["batch_size", "lr", "option/temperature"],
        "importance": [0.1, 0.7, 0.2],
        "low": [0.0, 0.5, 0.1],
        "high": [0.2, 0.8, 0.35],
        "first": [0.0, 0.98, 0.02],
        "n_trials": 24,
        "note": "",
    }
)


def searched(n: int = 12) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    runs = pd.DataFrame(
        {
            "trial_id": [f"t{i}" for i in range(n)],
            "phase": "search",
            "task": "simclr",
            "status": "FINISHED",
            "seed": np.arange(n),
            "lr": np.geomspace(1e-4, 1e-1, n),
            "batch_size": generator.choice([64, 128], n),
            "weight_decay": 1e-4,
            "option/head_norm": generator.choice(["batch", "none"], n),
            "augmentation_strength": generator.uniform(0, 1, n),
            "primary_metric": "val/loss",
            "primary_mode": "min",
            METRIC: generator.permutation(np.linspace(0.3, 0.6, n)),
        }
    )
    runs.loc[0, ["status", METRIC]] = ["FAILED", np.nan]
    runs.loc[1, "status"] = "STOPPED"
    return runs.assign(**{"last/val/loss": 3 - runs[METRIC]})


def trials(ax: Axes) -> list[Line2D]:
    return [line for line in ax.lines if len(line.get_xdata()) > 2]


def names(ax: Axes) -> list[str]:
    return [label.get_text().replace("\n", "") for label in ax.get_xticklabels()]


def test_each_trial_is_a_line_through_its_settings_and_its_metric():
    runs = searched()
    ax = parallel_coordinates(runs, METRIC, blank())
    assert names(ax) == [
        "lr",
        "batch_size(images)",
        "augmentation_strength",
        "option/head_norm",
        "probe/linear(fraction)",
    ]
    expected = np.column_stack(
        [
            np.arange(12) / 11,  # lr in even factors: even heights on a log axis
            (runs["batch_size"] == 128).astype(float),
            (runs["augmentation_strength"] - runs["augmentation_strength"].min())
            / np.ptp(runs["augmentation_strength"]),
            (runs["option/head_norm"] == "none").astype(float),
            (runs[METRIC] - runs[METRIC].min()) / np.ptp(runs[METRIC].dropna()),
        ]
    )
    drawn = np.array(
        sorted((tuple(np.asarray(line.get_ydata(), float)) for line in trials(ax)), key=lambda row: row[0])
    )
    np.testing.assert_allclose(drawn, expected, atol=1e-12)


def test_unfinished_trials_are_gray_and_dashed_and_end_where_they_have_no_value():
    ax = parallel_coordinates(searched(), METRIC, blank())
    dashed = [line for line in trials(ax) if line.get_linestyle() == "--"]
    assert [float(line.get_ydata()[0]) for line in dashed] == pytest.approx([0, 1 / 11])
    assert all(np.ptp(to_rgb(line.get_color())) == 0 for line in dashed)
    assert np.isnan(dashed[0].get_ydata()[-1])
    assert legend(ax) == ["not finished (2 of 12)", "the best trial"]


@pytest.mark.parametrize(("metric", "lowest"), [(METRIC, False), ("last/val/loss", True)])
def test_darker_is_better_and_the_best_is_thick_and_on_top(metric: str, lowest: bool):
    runs = searched()
    ax = parallel_coordinates(runs, metric, blank())
    finished = [line for line in trials(ax) if line.get_linestyle() == "-"]
    best = runs.loc[2:, metric].min() if lowest else runs.loc[2:, metric].max()
    height = (best - runs[metric].min()) / np.ptp(runs[metric].dropna())
    assert finished[-1].get_ydata()[-1] == pytest.approx(height)
    assert finished[-1].get_linewidth() > max(line.get_linewidth() for line in finished[:-1])
    brightness = [sum(to_rgb(line.get_color())) for line in finished]
    assert brightness == sorted(brightness, reverse=True)
    name = "lowest val/loss" if lowest else "highest probe/linear (validation split)"
    assert ax.get_title(loc="left") == f"simclr, search: 12 trials\n(darker is better: {name})"


def test_ticks_say_the_values_and_decades_of_an_axis():
    ax = parallel_coordinates(searched(), METRIC, blank())
    places = {(round(x), round(y, 6)): text.get_text() for text in ax.texts for x, y in [text.get_position()]}
    assert [places[0, round(height, 6)] for height in (0, 1 / 3, 2 / 3, 1)] == ["0.0001", "0.001", "0.01", "0.1"]
    assert (places[1, 0], places[1, 1], places[3, 0], places[3, 1]) == ("64", "128", "batch", "none")


def test_a_missing_number_breaks_the_line_and_a_missing_name_is_one_of_its_own():
    runs = searched()
    runs["option/temperature"] = [np.nan, *np.linspace(0.1, 1, 11)]
    runs["option/head_norm"] = pd.Series(["none"] * 6 + ["batch"] * 5 + [None], dtype="str")
    runs["n_images"] = pd.Series([200, 1000] * 5 + [None, None], dtype="Int64")
    runs.loc[5, METRIC] = np.inf
    ax = parallel_coordinates(runs, METRIC, blank())
    place = {name: index for index, name in enumerate(names(ax))}
    heights = np.array([np.asarray(line.get_ydata(), float) for line in trials(ax)])
    heights = heights[heights[:, place["lr"]].argsort()]
    assert np.isnan(heights[:, place["option/temperature"]]).tolist() == [True] + [False] * 11
    assert np.isnan(heights[:, place["n_images(images)"]]).tolist() == [False] * 10 + [True] * 2
    assert heights[[0, 10, 11], place["option/head_norm"]].tolist() == [0.5, 0, 1]
    assert np.isnan(heights[[0, 5], -1]).all()
    assert (np.nanmin(heights[:, -1]), np.nanmax(heights[:, -1])) == (0, 1)
    assert "–" in [text.get_text() for text in ax.texts]


@pytest.mark.parametrize("own_size", [False, True])
def test_eight_settings_can_be_read(own_size: bool):
    runs = searched(60)
    for index in range(4):
        runs[f"option/some_long_setting_{index}"] = np.linspace(0, index + 1, 60)
    ax = parallel_coordinates(runs, METRIC, None if own_size else blank())
    assert not cut_off(ax)
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(left.x1 <= right.x0 + 1 for left, right in itertools.pairwise(boxes))


def test_searches_that_cannot_be_drawn_say_why():
    runs = searched()
    with pytest.raises(UserError, match=r"runs without 'last/x'.*last_values"):
        parallel_coordinates(runs, "last/x", blank())
    with pytest.raises(UserError, match=r"trials of rotation, simclr; pass those of one task"):
        parallel_coordinates(runs.assign(task=["rotation", "simclr"] * 6), METRIC, blank())
    with pytest.raises(UserError, match="no value of"):
        parallel_coordinates(runs.assign(**{METRIC: np.nan}), METRIC, blank())
    with pytest.raises(UserError, match="do not differ in any setting"):
        parallel_coordinates(runs[["task", "status", "seed", METRIC]], METRIC, blank())


def test_bars_are_sorted_and_as_long_as_the_importance_with_its_interval():
    ax = importance_bars(IMPORTANCE, blank())
    assert row_names(ax) == ["lr", "option/temperature", "batch_size"]
    assert [bar.get_width() for bar in ax.patches] == [0.7, 0.2, 0.1]
    (intervals,) = [each for each in ax.collections if isinstance(each, LineCollection)]
    ends = [tuple(segment[:, 0]) for segment in intervals.get_segments()]
    assert ends == [(0.5, 0.8), (0.1, 0.35), (0.0, 0.2)]
    assert [text.get_text() for text in ax.texts] == ["0.70, first in 98%", "0.20, first in 2%", "0.10, first in 0%"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the most important on top
    assert ax.get_title(loc="left") == "simclr: importance of settings, 24 trials"
    assert not cut_off(ax)
    assert not cut_off(importance_bars(IMPORTANCE.assign(high=0.99), blank()))


def test_a_bar_without_a_range_stands_alone():
    ax = importance_bars(IMPORTANCE.assign(low=np.nan, high=np.nan, first=np.nan), blank())
    assert not [each for each in ax.collections if isinstance(each, LineCollection)]
    assert [bar.get_width() for bar in ax.patches] == [0.7, 0.2, 0.1]
    assert [text.get_text() for text in ax.texts] == ["0.70", "0.20", "0.10"]
    assert not legend(ax)


def test_importance_that_cannot_be_drawn_says_why():
    with pytest.raises(UserError, match=r"importance without 'low'.*analysis\.comparisons\.importance"):
        importance_bars(IMPORTANCE.drop(columns="low"), blank())
    with pytest.raises(UserError, match="more than once in importance; pass the rows of one task"):
        importance_bars(pd.concat([IMPORTANCE, IMPORTANCE.assign(task="rotation")]), blank())
    with pytest.raises(UserError, match="no importance to draw: too few trials"):
        importance_bars(IMPORTANCE.assign(importance=np.nan, note="too few trials: 3 finished"), blank())


def test_what_the_importance_function_returns_can_be_drawn():
    runs = searched(20).assign(status="FINISHED", **{METRIC: np.linspace(0.3, 0.6, 20)})
    found = importance(runs, METRIC, evaluator="ped_anova", n_bootstrap=5)
    ax = importance_bars(found, blank())
    assert row_names(ax) == list(found["hyperparameter"])
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], found["importance"])
