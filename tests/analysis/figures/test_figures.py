"""Every figure: one way to call it, its own size, nothing cut off, and a cheap import."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.axes import Axes

from analysis import figures
from analysis.figures.style import counted, legend_below, title, wrapped
from tests.analysis.figure_helpers import blank, cut_off, legend

FIGURES = [name for name in figures.__all__ if inspect.isfunction(getattr(figures, name))]


@pytest.fixture(autouse=True)
def no_figure_left() -> Iterator[None]:
    yield
    plt.close("all")


def test_there_is_a_figure_for_every_question_of_the_design():
    assert set(FIGURES) == {
        *("learning_curves", "accuracy_by_task", "search_scatter", "verdict_map", "effects_forest", "pair_heatmap"),
        *("size_strength_map", "survival_curves", "size_law", "parallel_coordinates", "importance_bars"),
        *("sample_grid", "what_a_task_sees", "accuracy_bars", "transfer_map", "miou_by_task", "probe_by_stage"),
        *("label_curves", "balanced_accuracy_by_task", "size_gains"),
    }


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_takes_axes_or_none_and_returns_axes(name: str):
    function = getattr(figures, name)
    assert inspect.signature(function).parameters["ax"].default is None
    assert "return" in function.__annotations__
    assert function.__annotations__["return"] in ("Axes", Axes)
    assert "Raises:\n    UserError: " in inspect.getdoc(function)


def test_the_frame_figures_do_not_wait_for_torch():
    code = "import sys, analysis.figures; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_a_figure_drawn_on_no_axes_makes_one_that_shows_all_of_it():
    pairs = pd.DataFrame(
        {"first": ["flip", "gray", "gray"], "second": ["flip", "flip", "gray"], "mean": [0.1, 0.2, 0.3]}
    )
    ax = figures.pair_heatmap(pairs)
    assert plt.gcf() is ax.figure
    assert not cut_off(ax)


def test_a_legend_lies_below_the_x_label_and_hides_no_data():
    for names in (["a"], [f"a configuration with a long name {i}" for i in range(6)]):
        ax = blank()
        for name in names:
            ax.plot([0, 1], [0, 1], label=name)
        ax.set_xticks([0, 1], ["two\nlines", "one"])
        ax.set_xlabel("steps")
        legend_below(ax)
        ax.figure.draw_without_rendering()
        assert legend(ax) == names
        box = ax.get_legend().get_window_extent()
        assert box.y1 <= ax.xaxis.label.get_window_extent().y0
        assert not cut_off(ax)


def test_titles_break_where_the_axes_end():
    ax = blank()
    title(ax, "a rather long title, " * 8)
    assert not cut_off(ax)
    assert ax.get_title(loc="left").count("\n") >= 2


def test_names_break_between_settings_and_counts_know_their_plural():
    assert wrapped("n_images=200, augmentation_strength=0.25", 26) == "n_images=200,\naugmentation_strength=0.25"
    assert wrapped("augmentation=1, act=leaky-relu", 26) == "augmentation=1,\nact=leaky-relu"
    assert wrapped("lr=1e-05, batch_size=64", 12, lines=1) == "lr=1e-05, …"
    assert (counted(1, "seed"), counted(5, "seed")) == ("1 seed", "5 seeds")
