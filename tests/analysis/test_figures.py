"""Figures: what is drawn, at which values, with which labels."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import analysis
from analysis.figures import accuracy_by_task, learning_curves, search_scatter
from analysis.tables import last_values
from tests.analysis.journals import DATASET, SEEDS, write_study
from trainables.errors import UserError


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> analysis.Study:
    return analysis.load(write_study(tmp_path_factory.mktemp("study")))


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


def lines(ax: Axes) -> dict[str, np.ndarray]:
    return {str(line.get_label()): np.asarray(line.get_ydata(), float) for line in ax.lines}


def test_learning_curves_draw_every_seed_and_their_mean_per_configuration(study: analysis.Study, ax: Axes):
    runs = study.runs.query("task == 'rotation' and phase == 'confirm'")
    assert learning_curves(study.curves, runs, "val/accuracy", ax) is ax
    assert len(ax.lines) == 2 * (len(SEEDS) + 1) + 1
    chosen = runs.loc[runs["lr"] == 1e-3, "trial_id"]
    points = study.curves.query("metric == 'val/accuracy'")
    points = points[points["trial_id"].isin(chosen)]
    expected = points.groupby("step")["value"].mean().to_numpy()
    np.testing.assert_allclose(lines(ax)["lr=0.001: mean of 3 seeds"], expected)
    seeds = {tuple(np.asarray(line.get_ydata(), float)) for line in ax.lines}
    assert {tuple(group["value"]) for _, group in points.groupby("trial_id")} <= seeds
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("optimiser steps", "val/accuracy (fraction)")


def test_the_chance_line_is_dashed_and_says_its_level(study: analysis.Study, ax: Axes):
    learning_curves(study.curves, study.runs.query("task == 'rotation' and phase == 'confirm'"), "val/accuracy", ax)
    (line,) = [line for line in ax.lines if line.get_label() == "chance 0.25"]
    assert line.get_linestyle() == "--"
    assert set(line.get_ydata()) == {0.25}
    assert "chance 0.25" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_where_chance_depends_on_the_batch_size_each_level_is_drawn(study: analysis.Study, ax: Axes):
    learning_curves(study.curves, study.runs.query("task == 'simclr' and phase == 'search'"), "val/loss", ax)
    dashed = sorted(float(line.get_ydata()[0]) for line in ax.lines if line.get_linestyle() == "--")
    assert dashed == pytest.approx([np.log(127), np.log(255)])
    assert "chance 4.84, 5.54" in lines(ax)
    assert ax.get_ylim()[1] >= np.log(255)


def test_a_mean_ends_where_the_first_seed_ends(study: analysis.Study, ax: Axes):
    runs = study.runs.query("task == 'rotation' and phase == 'confirm' and lr == 1e-3")
    first = runs["trial_id"].iloc[0]
    curves = study.curves[(study.curves["trial_id"] != first) | (study.curves["step"] <= 100)]
    learning_curves(curves, runs, "val/accuracy", ax)
    mean = lines(ax)["mean of 3 seeds"]
    assert np.isfinite(mean[:5]).all()
    assert np.isnan(mean[5:]).all()


def test_a_diverged_trial_is_cut_off_and_the_title_says_so(study: analysis.Study, ax: Axes):
    runs = study.runs.query("task == 'simclr' and phase == 'confirm'")
    curves = study.curves.copy()
    curves.loc[(curves["trial_id"] == runs["trial_id"].iloc[0]) & (curves["step"] == 200), "value"] = 1e9
    learning_curves(curves, runs, "val/loss", ax)
    assert 2 * np.log(255) == pytest.approx(ax.get_ylim()[1], abs=0.1)
    assert "cut off" in ax.get_title(loc="left")


def test_many_configurations_are_drawn_alike_and_counted(study: analysis.Study, ax: Axes):
    runs = study.runs.query("phase in ('search', 'confirm') and task != 'simclr'").copy()
    runs["weight_decay"] = np.arange(len(runs)) * 1e-3
    learning_curves(study.curves, runs, "val/accuracy", ax)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == [f"{len(runs)} trials", "chance 0.125, 0.25"]


def test_a_metric_that_nobody_reported_is_an_error_that_lists_the_metrics(study: analysis.Study, ax: Axes):
    with pytest.raises(UserError, match=r"no curve of 'val/miou'.*val/accuracy"):
        learning_curves(study.curves, study.runs, "val/miou", ax)


def test_accuracy_by_task_shows_seeds_means_chance_and_baselines(study: analysis.Study, ax: Axes):
    runs = study.runs.query("probe_split == 'test'")
    accuracy_by_task(runs, DATASET, ax)
    drawn = {str(points.get_label()): np.asarray(points.get_offsets())[:, 1] for points in ax.collections}
    column = f"probe/{DATASET}/linear"
    pretext = runs[~runs["task"].isin(["random_init", "raw_pixels"])]
    np.testing.assert_allclose(sorted(drawn["linear probe, each seed"]), sorted(pretext[column]))
    np.testing.assert_allclose(sorted(drawn["linear probe, mean"]), sorted(pretext.groupby("task")[column].mean()))
    random_init = runs.loc[runs["task"] == "random_init", column].mean()
    assert lines(ax)[f"random init, linear probe {random_init:.3f}"][0] == pytest.approx(random_init)
    assert len([label for label in lines(ax) if label.startswith(("random init", "raw pixels"))]) == 4
    assert set(lines(ax)["chance 0.200"]) == {0.2}
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["rotation", "simclr", "context\nprediction"]


def test_every_accuracy_axis_begins_at_0_and_ends_at_1_at_most(study: analysis.Study):
    runs = last_values(study.runs, study.curves).query("task == 'rotation' and phase == 'search'")
    runs.loc[runs.index[0], "last/probe/linear"] = 1.0
    drawn = [
        accuracy_by_task(study.runs.query("probe_split == 'test'"), DATASET, Figure().subplots()),
        learning_curves(study.curves, runs, "probe/linear", Figure().subplots()),
        search_scatter(runs, ax=Figure().subplots()),
    ]
    assert [ax.get_ylim()[0] for ax in drawn] == [0, 0, 0]
    assert drawn[2].get_ylim()[1] == 1


def test_long_names_of_configurations_leave_room_for_the_curves(study: analysis.Study):
    runs = study.runs.query("task == 'rotation' and phase == 'search'").copy()
    for index in range(9):
        runs[f"option/some_long_name_{index}"] = np.linspace(0, 1, len(runs)) / 3
    figure = Figure(figsize=(5.5, 4.2), layout="constrained")
    ax = learning_curves(study.curves, runs, "val/accuracy", figure.subplots())
    figure.draw_without_rendering()
    assert ax.get_position().width > 0.7
    assert ax.get_position().height > 0.4


def test_accuracy_by_task_refuses_mixed_splits_and_unknown_sets(study: analysis.Study, ax: Axes):
    with pytest.raises(UserError, match="mix probe splits"):
        accuracy_by_task(study.runs, DATASET, ax)
    with pytest.raises(UserError, match=r"no probe on 'voc'.*there are: shapes"):
        accuracy_by_task(study.runs, "voc", ax)


def test_the_search_scatter_puts_each_trial_at_its_lr_and_last_value(study: analysis.Study, ax: Axes):
    runs = last_values(study.runs, study.curves).query("task == 'simclr' and phase == 'search'")
    search_scatter(runs, ax=ax)
    drawn = {str(points.get_label()): np.asarray(points.get_offsets()) for points in ax.collections}
    assert set(drawn) == {"FINISHED", "STOPPED"}
    finished = runs[runs["status"] == "FINISHED"]
    np.testing.assert_allclose(drawn["FINISHED"], finished[["lr", "last/probe/linear"]])
    assert ax.get_xscale() == "log"
    assert "1 of 4 trials without" in ax.get_title(loc="left")
    assert set(lines(ax)["chance 0.2"]) == {0.2}
    assert [axes.get_ylabel() for axes in ax.figure.axes[1:]] == ["batch_size (images)"]


def test_the_search_scatter_colours_by_strength_where_the_batch_size_is_the_same(study: analysis.Study, ax: Axes):
    runs = last_values(study.runs, study.curves).query("phase == 'search' and batch_size == 128")
    search_scatter(runs.assign(augmentation_strength=np.linspace(0, 1, len(runs))), x="augmentation_strength", ax=ax)
    assert ax.get_xscale() == "linear"
    assert ax.figure.axes[1].get_ylabel() == "augmentation_strength"


def test_the_search_scatter_without_values_lists_what_can_be_drawn(study: analysis.Study, ax: Axes):
    with pytest.raises(UserError, match=r"no value of 'last/probe/linear'.*columns to draw: .*probe/shapes/linear"):
        search_scatter(study.runs, ax=ax)
