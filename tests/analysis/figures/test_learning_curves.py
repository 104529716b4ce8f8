"""Learning curves: what is drawn, at which values, with which labels."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import analysis
from analysis.figures import learning_curves
from tests.analysis.figure_helpers import legend, lines
from tests.analysis.journals import SEEDS, write_study
from trainables.errors import UserError


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> analysis.Study:
    return analysis.load(write_study(tmp_path_factory.mktemp("study")))


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


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
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("optimizer steps", "val/accuracy (fraction)")


def test_the_chance_line_is_dashed_and_says_its_level(study: analysis.Study, ax: Axes):
    learning_curves(study.curves, study.runs.query("task == 'rotation' and phase == 'confirm'"), "val/accuracy", ax)
    (line,) = [line for line in ax.lines if line.get_label() == "chance 0.25"]
    assert line.get_linestyle() == "--"
    assert set(line.get_ydata()) == {0.25}
    assert "chance 0.25" in legend(ax)


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
    drawn = curves[(curves["metric"] == "val/loss") & curves["trial_id"].isin(runs["trial_id"])]
    assert drawn["value"].min() - 1 < ax.get_ylim()[0] < drawn["value"].min()


def test_the_best_values_of_a_balanced_accuracy_are_not_cut_off(study: analysis.Study, ax: Axes):
    runs = study.runs.query("task == 'rotation' and phase == 'confirm'")
    curves = study.curves.loc[study.curves["metric"] == "probe/linear"].assign(metric="probe/linear_balanced_accuracy")
    curves.loc[curves["step"] == curves["step"].max(), "value"] = 0.95
    learning_curves(curves, runs, "probe/linear_balanced_accuracy", ax)
    assert "cut off" not in ax.get_title(loc="left")
    assert ax.get_ylim()[1] > 0.95


def test_many_configurations_are_drawn_alike_and_counted(study: analysis.Study, ax: Axes):
    runs = study.runs.query("phase in ('search', 'confirm') and task != 'simclr'").copy()
    runs["weight_decay"] = np.arange(len(runs)) * 1e-3
    learning_curves(study.curves, runs, "val/accuracy", ax)
    assert legend(ax) == [f"{len(runs)} trials", "chance 0.125, 0.25"]
    (drawn,) = ax.collections  # one artist for all of them, however many there are
    points = study.curves.query("metric == 'val/accuracy'")
    expected = {tuple(points.loc[points["trial_id"] == trial, "value"]) for trial in runs["trial_id"]}
    assert {tuple(curve[np.isfinite(curve).all(axis=1), 1]) for curve in drawn.get_segments()} == expected
    assert ax.get_ylim()[1] > max(map(max, expected))


def test_a_metric_that_nobody_reported_is_an_error_that_lists_the_metrics(study: analysis.Study, ax: Axes):
    with pytest.raises(UserError, match=r"no curve of 'val/miou'.*val/accuracy"):
        learning_curves(study.curves, study.runs, "val/miou", ax)


def test_the_curves_of_an_ablation_are_named_by_their_cells(study: analysis.Study, ax: Axes):
    runs = study.runs.query("task == 'rotation' and phase == 'confirm'")
    cells = [f"cell {index}" for index in range(len(runs))]
    learning_curves(study.curves, runs.assign(phase="ablate", cell=cells), "val/accuracy", ax)
    named = {text.get_text() for text in ax.get_legend().get_texts()}
    assert {*cells} <= named


def test_long_names_of_configurations_leave_room_for_the_curves(study: analysis.Study):
    runs = study.runs.query("task == 'rotation' and phase == 'search'").copy()
    for index in range(9):
        runs[f"option/some_long_name_{index}"] = np.linspace(0, 1, len(runs)) / 3
    figure = Figure(figsize=(5.5, 4.2), layout="constrained")
    ax = learning_curves(study.curves, runs, "val/accuracy", figure.subplots())
    figure.draw_without_rendering()
    assert ax.get_position().width > 0.7
    assert ax.get_position().height > 0.4


def test_a_curve_that_begins_or_ends_in_nan_is_drawn_as_far_as_it_goes(study: analysis.Study, ax: Axes):
    runs = study.runs.query("task == 'rotation' and phase == 'search'").iloc[1:]
    curves = study.curves.copy()
    curves.loc[(curves["trial_id"] == runs["trial_id"].iloc[0]) & (curves["step"] > 50), "value"] = np.nan
    curves.loc[(curves["trial_id"] == runs["trial_id"].iloc[1]) & (curves["step"] == 0), "value"] = np.inf
    learning_curves(curves, runs, "val/loss", ax)
    finite = [int(np.isfinite(values).sum()) for label, values in lines(ax).items() if not label.startswith("chance")]
    assert finite == [3, 8, 9]
    curves.loc[(curves["trial_id"] == runs["trial_id"].iloc[1]) & (curves["step"] == 200), "value"] = 1e9
    cut = learning_curves(curves, runs, "val/loss", Figure().subplots())
    assert cut.get_ylim()[1] < 5
    assert "cut off" in cut.get_title(loc="left")
