"""The gain over untrained networks by number of images: every cell at its place, with its interval and its answer."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from analysis.figures import size_gains
from tests.analysis.figure_helpers import cut_off, legend
from trainables.errors import UserError


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two sizes and two strengths; only the augmented cells are shown to differ."""
    rows = [
        (size, strength, difference, "better" if strength else "inconclusive")
        for size, strength, difference in ((100, 0.0, -0.02), (1000, 0.0, 0.01), (100, 1.0, 0.05), (1000, 1.0, 0.08))
    ]
    frame = pd.DataFrame(rows, columns=["n_images", "augmentation_strength", "mean_difference", "answer"])
    frame = frame.assign(task="rotation", metric="probe/shapes/linear", ci_low=frame["mean_difference"] - 0.02)
    return frame.assign(ci_high=frame["mean_difference"] + 0.03)


def test_every_cell_is_drawn_with_its_interval_and_filled_only_if_it_is_shown_to_differ(frame: pd.DataFrame):
    ax = size_gains(frame, "rotation")
    assert legend(ax) == ["untrained", "strength 0", "strength 1"]
    intervals = np.concatenate([lines.get_segments() for lines in ax.collections])
    assert sorted(intervals[:, :, 1].tolist()) == sorted(frame[["ci_low", "ci_high"]].to_numpy().tolist())
    marks = [line for line in ax.lines if line.get_linestyle() == "None" and len(line.get_xdata())]
    filled = {tuple(line.get_ydata()) for line in marks if line.get_markerfacecolor() != "white"}
    assert filled == {(0.05, 0.08)}
    assert {tuple(line.get_ydata()) for line in marks} - filled == {(-0.02, 0.01)}
    for line in marks:
        assert np.asarray(line.get_xdata()) == pytest.approx([100, 1000], rel=0.05)
    low, high = ax.get_ylim()
    assert low < -0.04, "differences below 0 are shown"
    assert high > 0.11
    assert not cut_off(ax)
    plt.close("all")


def test_cells_without_an_interval_are_their_mean(frame: pd.DataFrame):
    ax = size_gains(frame.assign(ci_low=np.nan, ci_high=np.nan, answer="too few seeds"), "rotation")
    assert {line.get_markerfacecolor() for line in ax.lines if line.get_linestyle() == "None"} >= {"white"}
    plt.close("all")


def test_all_tasks_have_the_same_axis(frame: pd.DataFrame):
    both = pd.concat([frame, frame.assign(task="simclr", ci_high=0.3)])
    assert size_gains(both, "rotation").get_ylim() == size_gains(both, "simclr").get_ylim()
    plt.close("all")


@pytest.mark.parametrize("changes", [{"task": "simclr"}, {"n_images": [100, np.nan, 100, 200]}])
def test_what_cannot_be_drawn_is_refused(frame: pd.DataFrame, changes: dict):
    with pytest.raises(UserError, match="size_gains needs rows of rotation"):
        size_gains(frame.assign(**changes), "rotation")
