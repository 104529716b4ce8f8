"""Accuracy bars: a low bar at chance must not pass for weak transfer."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import accuracy_bars
from tests.analysis.figure_helpers import legend, lines
from trainables.errors import UserError

TOP1 = {"rotation": (0.40, 0.42), "simclr": (0.30, 0.34), "random_init": (0.30, 0.32), "raw_pixels": (0.35,)}


@pytest.fixture
def ax() -> Axes:
    return Figure(figsize=(8, 4)).subplots()


def runs(**columns: object) -> pd.DataFrame:
    rows = [
        {
            "task": task,
            "probe_split": "test",
            "probe/clothes/linear": top1,
            "probe/clothes/linear_top5": top1 + 0.4,
            "probe/clothes/linear_train": top1 + 0.1,
            "probe/clothes/linear_train_top5": top1 + 0.5,
            "probe/clothes/chance": 0.1,
        }
        for task, values in TOP1.items()
        for top1 in values
    ]
    return pd.DataFrame(rows).assign(**columns)


def test_every_encoder_has_four_bars_at_its_means_the_baselines_last(ax: Axes):
    accuracy_bars(runs(), "clothes", ax)
    heights = [bar.get_height() for bar in ax.patches]
    assert heights[:4] == pytest.approx([0.51, 0.41, 0.91, 0.81])
    assert len(heights) == 4 * len(TOP1)
    names = [tick.get_text() for tick in ax.get_xticklabels()]
    assert names == ["rotation", "simclr", "untrained", "raw pixels"]


def test_chance_stands_at_one_and_at_five_of_ten_classes_and_says_so(ax: Axes):
    accuracy_bars(runs(), "clothes", ax)
    levels = [float(line.get_ydata()[0]) for line in ax.lines]  # type: ignore[index]
    assert levels[:2] == pytest.approx([0.1, 0.5])
    assert {text.get_text() for text in ax.texts} >= {"chance 10%", "chance 50%"}


def test_chance_of_a_thousand_classes_is_not_zero(ax: Axes):
    accuracy_bars(runs(**{"probe/clothes/chance": 0.001}), "clothes", ax)
    assert "chance 0.1%\nchance 0.5%" in {text.get_text() for text in ax.texts}


@pytest.mark.parametrize(("share", "text"), [(0.3, "largest class 30%"), (0.11, "chance 10%\nlargest class 11%")])
def test_the_largest_class_has_a_line_and_a_name_that_hides_no_other(ax: Axes, share: float, text: str):
    accuracy_bars(runs(**{"probe/clothes/largest_class": share}), "clothes", ax)
    assert share in [float(line.get_ydata()[0]) for line in ax.lines]  # type: ignore[index]
    assert text in {written.get_text() for written in ax.texts}
    assert "largest class, test" in legend(ax)


def test_a_line_at_what_an_untrained_encoder_scores_crosses_every_group(ax: Axes):
    accuracy_bars(runs(), "clothes", ax)
    assert sorted(values[0] for values in lines(ax).values())[-1] == pytest.approx(0.71)
    assert 0.31 in [round(float(line.get_ydata()[0]), 6) for line in ax.lines]  # type: ignore[index]
    assert "untrained, test" in legend(ax)


def test_the_answer_of_the_test_against_untrained_encoders_stands_under_the_task(ax: Axes):
    compared = pd.DataFrame({"task": ["rotation", "simclr"], "answer": ["better", "inconclusive"]})
    accuracy_bars(runs(), "clothes", ax, compared=compared)
    names = [tick.get_text().replace("\n", " ") for tick in ax.get_xticklabels()]
    assert names[:2] == ["rotation better than untrained", "simclr not shown better than untrained"]
    assert names[2] == "untrained"


def test_bars_that_another_report_drew_at_chance_can_be_seen_to_lie_there(ax: Axes):
    accuracy_bars(runs(), "clothes", ax, reported=((0.09, 0.11), (0.42, 0.51)))
    bands = [patch.get_extents().transformed(ax.transData.inverted()) for patch in ax.patches[-2:]]
    assert [(round(band.y0, 6), round(band.y1, 6)) for band in bands] == [(0.09, 0.11), (0.42, 0.51)]
    assert "original report's bars" in legend(ax)


def test_the_axis_is_all_of_0_to_1_and_no_number_leaves_it(ax: Axes):
    best = runs().assign(**{"probe/clothes/linear_top5": 1.0})
    accuracy_bars(best, "clothes", ax)
    assert ax.get_ylim() == (0, 1.07)
    assert [ax.get_yticks()[0], ax.get_yticks()[-1]] == [0, 1]
    inside = ax.get_window_extent()
    numbers = [text for text in ax.texts if text.get_text() == "1.00"]
    assert numbers
    assert all(text.get_window_extent().y1 <= inside.y1 for text in numbers)


def test_other_splits_and_unknown_data_sets_are_refused(ax: Axes):
    with pytest.raises(UserError, match="not of the test split alone"):
        accuracy_bars(runs(probe_split="validation"), "clothes", ax)
    with pytest.raises(UserError, match="no linear probe on 'shoes' in these runs; there are: clothes"):
        accuracy_bars(runs(), "shoes", ax)


def test_folders_are_named_as_data_sets(ax: Axes):
    columns = {name: name.replace("clothes", "folder:/home/me/photos") for name in runs()}
    with pytest.raises(UserError, match="there are: folder:/home/me/photos"):
        accuracy_bars(runs().rename(columns=columns), "shoes", ax)


def test_an_unknown_chance_level_has_no_line(ax: Axes):
    accuracy_bars(runs().drop(columns="probe/clothes/chance"), "clothes", ax)
    assert not [text.get_text() for text in ax.texts if "chance" in text.get_text()]
    assert 1.0 not in [float(line.get_ydata()[0]) for line in ax.lines]  # type: ignore[index]
