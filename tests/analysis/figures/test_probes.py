"""Probes of frozen features: what is drawn, at which values, with which labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

import analysis
from analysis.data.tables import last_values
from analysis.figures import accuracy_by_task, learning_curves, miou_by_task, probe_by_stage, search_scatter
from tests.analysis.figure_helpers import legend, lines
from tests.analysis.journals import DATASET, write_study
from trainables.errors import UserError


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> analysis.Study:
    return analysis.load(write_study(tmp_path_factory.mktemp("study")))


@pytest.fixture
def ax() -> Axes:
    return Figure().subplots()


def test_accuracy_by_task_shows_seeds_means_chance_and_baselines(study: analysis.Study, ax: Axes):
    runs = study.tested
    accuracy_by_task(runs, DATASET, ax)
    drawn = {str(points.get_label()): np.asarray(points.get_offsets())[:, 1] for points in ax.collections}
    column = f"probe/{DATASET}/linear"
    pretext = runs[~runs["task"].isin(["random_init", "raw_pixels"])]
    np.testing.assert_allclose(sorted(drawn["linear probe, each seed"]), sorted(pretext[column]))
    np.testing.assert_allclose(sorted(drawn["linear probe, mean"]), sorted(pretext.groupby("task")[column].mean()))
    random_init = runs.loc[runs["task"] == "random_init", column].mean()
    assert lines(ax)[f"untrained, linear probe {random_init:.3f}"][0] == pytest.approx(random_init)
    assert len([label for label in lines(ax) if label.startswith(("untrained", "raw pixels"))]) == 4
    assert set(lines(ax)["chance 0.200"]) == {0.2}
    best_first = pretext.groupby("task")[column].mean().sort_values(ascending=False).index
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [task.replace("_", "\n") for task in best_first]


@pytest.mark.parametrize("tasks", [["random_init"], ["random_init", "rotation"]])
def test_accuracy_by_task_draws_studies_without_pretext_results_or_with_one_probe(tasks: list[str], ax: Axes):
    runs = pd.DataFrame({"trial_id": tasks, "task": tasks}, dtype="str").assign(seed=1, phase="evaluate")
    runs = runs.assign(probe_split="test", **{"probe/shapes/linear": 0.3, "probe/shapes/chance": 0.2})
    accuracy_by_task(runs, "shapes", ax)
    assert {"untrained, linear probe 0.300", "chance 0.200"} <= set(lines(ax))
    drawn = [len(points.get_offsets()) for points in ax.collections if "linear" in str(points.get_label())]
    assert drawn == [len(tasks) - 1] * 2
    assert not [name for name in legend(ax) if "kNN" in name]


def test_miou_by_task_shows_seeds_and_means_beside_background_everywhere(study: analysis.Study, ax: Axes):
    runs = study.tested
    runs = runs.assign(**{"probe/voc/miou": np.linspace(0.1, 0.4, len(runs)), "probe/voc/miou_chance": 0.05})
    miou_by_task(runs, "voc", ax)
    drawn = {str(points.get_label()): np.asarray(points.get_offsets())[:, 1] for points in ax.collections}
    pretext = runs[~runs["task"].isin(["random_init", "raw_pixels"])]
    np.testing.assert_allclose(sorted(drawn["segmentation probe, each seed"]), sorted(pretext["probe/voc/miou"]))
    assert set(lines(ax)["chance 0.050"]) == {0.05}
    assert ax.get_ylabel() == "mIoU"
    assert "linear probe, mean" not in drawn


def test_stages_are_drawn_one_line_a_task_beside_the_untrained_encoder(ax: Axes):
    runs = pd.DataFrame({"trial_id": list("abc"), "task": ["random_init", "rotation", "rotation"], "seed": [1, 1, 2]})
    for stage, values in enumerate(([0.2, 0.3, 0.5], [0.25, 0.6, 0.8]), start=1):
        runs[f"probe/shapes/linear/stage{stage}"] = values
    probe_by_stage(runs, "shapes", ax=ax)
    drawn = {line.get_label(): np.asarray(line.get_ydata()).tolist() for line in ax.get_lines()}
    assert drawn == {"rotation": pytest.approx([0.4, 0.7]), "untrained": [0.2, 0.25]}
    levels = {"probe/shapes/chance": 0.1, "probe/shapes/largest_class": 0.3, "probe_split": "test"}
    probe_by_stage(runs.assign(**levels), "shapes", ax=(other := Figure().subplots()))
    assert {"chance 0.100", "largest class 0.300, test"} <= set(lines(other))
    with pytest.raises(UserError, match=r"no miou probe of stages on 'shapes'.*evaluate.probe_layers"):
        probe_by_stage(runs, "shapes", "miou")


def test_every_axis_of_accuracy_or_miou_begins_at_0_and_ends_at_1_at_most(study: analysis.Study):
    runs = last_values(study.runs, study.curves).query("task == 'rotation' and phase == 'search'")
    runs.loc[runs.index[0], "last/probe/linear"] = 1.0
    tested = study.tested
    # So close together that on an axis of their own they would look far apart.
    segmented = tested.assign(**{"probe/voc/miou": np.linspace(0.30, 0.31, len(tested)), "probe/voc/miou_chance": 0.29})
    stages = tested.assign(**{f"probe/voc/{probe}/stage1": 0.3 for probe in ("linear", "miou")})
    drawn = [
        accuracy_by_task(tested, DATASET, Figure().subplots()),
        miou_by_task(segmented, "voc", Figure().subplots()),
        probe_by_stage(stages, "voc", "linear", Figure().subplots()),
        probe_by_stage(stages, "voc", "miou", Figure().subplots()),
        learning_curves(study.curves, runs, "probe/linear", Figure().subplots()),
        search_scatter(runs, ax=Figure().subplots()),
    ]
    assert [ax.get_ylim()[0] for ax in drawn] == [0] * len(drawn)
    assert max(ax.get_ylim()[1] for ax in drawn) == drawn[-1].get_ylim()[1] == 1


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
    assert "1 of 4 trials have no value" in ax.get_title(loc="left")
    assert set(lines(ax)["chance 0.2"]) == {0.2}
    assert [axes.get_ylabel() for axes in ax.figure.axes[1:]] == ["batch_size (images)"]


def test_the_search_scatter_colors_by_strength_where_the_batch_size_is_the_same(study: analysis.Study, ax: Axes):
    runs = last_values(study.runs, study.curves).query("phase == 'search' and batch_size == 128")
    search_scatter(runs.assign(augmentation_strength=np.linspace(0, 1, len(runs))), x="augmentation_strength", ax=ax)
    assert ax.get_xscale() == "linear"
    assert ax.figure.axes[1].get_ylabel() == "augmentation_strength"


def test_options_that_span_decades_have_log_axes(study: analysis.Study, ax: Axes):
    runs = last_values(study.runs, study.curves).query("task == 'simclr' and phase == 'search'")
    runs = runs.assign(**{"option/temperature": np.geomspace(0.01, 1, len(runs))})
    search_scatter(runs, "option/temperature", ax, hue="option/temperature")
    assert ax.get_xscale() == "log"
    assert isinstance(ax.collections[0].norm, LogNorm)


def test_the_search_scatter_without_values_lists_what_can_be_drawn(study: analysis.Study, ax: Axes):
    with pytest.raises(UserError, match=r"no value of 'last/probe/linear'.*columns to draw: .*probe/shapes/linear"):
        search_scatter(study.runs, ax=ax)


def test_the_search_scatter_leaves_out_infinite_losses(study: analysis.Study, ax: Axes):
    runs = last_values(study.runs, study.curves).query("task == 'simclr' and phase == 'search'")
    search_scatter(runs.assign(**{"last/val/loss": [3.0, np.inf, 2.0, np.nan]}), ax=ax, metric="last/val/loss")
    drawn = np.concatenate([np.asarray(points.get_offsets())[:, 1] for points in ax.collections])
    assert sorted(drawn[np.isfinite(drawn)]) == [2.0, 3.0]
    assert "2 of 4 trials have no value" in ax.get_title(loc="left")
    with pytest.raises(UserError, match="no value of 'last/val/loss'"):
        search_scatter(runs.assign(**{"last/val/loss": np.inf}), ax=ax, metric="last/val/loss")


def test_a_setting_that_is_constant_gets_no_color_bar(study: analysis.Study, ax: Axes):
    runs = last_values(study.runs, study.curves).query("phase == 'search'")
    search_scatter(runs.assign(batch_size=64, augmentation_strength=0.5), ax=ax)
    assert len(ax.figure.axes) == 1
    search_scatter(runs, ax=Figure().subplots())
    own = search_scatter(runs, hue="lr", ax=Figure(layout="constrained").subplots())
    assert len(own.figure.axes) == 2


def test_probe_curves_have_the_levels_of_the_baselines(study: analysis.Study, ax: Axes):
    runs, baselines = (study.runs.query(f"phase == '{phase}'") for phase in ("confirm", "baselines"))
    learning_curves(study.curves, runs, "probe/linear", ax, baselines=baselines)
    means = baselines.groupby("task")[f"probe/{DATASET}/linear"].mean()
    for task, name in (("random_init", "untrained"), ("raw_pixels", "raw pixels")):
        assert lines(ax)[f"{name}, final probe {means[task]:.3f}"][0] == pytest.approx(means[task])
    other = learning_curves(study.curves, runs, "val/accuracy", Figure().subplots(), baselines=baselines)
    assert not [label for label in lines(other) if "final probe" in label]
