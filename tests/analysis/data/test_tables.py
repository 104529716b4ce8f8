"""Tables: what is compared with chance and with the baselines, and by which bound."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

import analysis
from analysis.data import tables
from analysis.data.classes import class_ious
from tests.analysis.journals import DATASET, N_VALIDATION, SEEDS, write_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> analysis.Study:
    return analysis.load(write_study(tmp_path_factory.mktemp("study")))


def one_trial(metric: str, mode: str, chance: float, n_validation: int | None, **last: float):
    runs = pd.DataFrame({"trial_id": ["t"], "phase": "search", "task": "a", "cell": "", "seed": 0, "chance": chance})
    runs = runs.assign(primary_metric=metric, primary_mode=mode, n_validation=pd.array([n_validation], dtype="Int64"))
    points = [("t", 25, name, value) for name, value in last.items()]
    return runs, pd.DataFrame(points, columns=["trial_id", "step", "metric", "value"])


def judged(metric: str, mode: str, chance: float, n_validation: int | None, **last: float) -> pd.Series:
    return tables.against_chance(*one_trial(metric, mode, chance, n_validation, **last)).iloc[0]


def test_the_last_value_is_taken_and_not_the_best():
    runs = pd.DataFrame({"trial_id": ["t"]})
    points = [("t", 50, "val/accuracy", 0.4), ("t", 0, "val/accuracy", 0.2), ("t", 25, "val/accuracy", 0.9)]
    curves = pd.DataFrame(points, columns=["trial_id", "step", "metric", "value"])
    assert tables.last_values(runs, curves)["last/val/accuracy"].tolist() == [0.4]


def test_the_data_set_of_a_result_may_be_a_folder():
    known = ["cifar10", "folder:/home", "folder:/home/me/photos"]
    assert tables.dataset_of("probe/folder:/home/me/photos/linear/10_labels", known) == "folder:/home/me/photos"
    assert tables.dataset_of("probe/folder:/home/linear", known) == "folder:/home"
    assert tables.dataset_of("probe/cifar10/linear/stage1", known) == "cifar10"
    assert tables.dataset_of("probe/folder:/data/linear") == "folder:/data"


@pytest.mark.parametrize(("right", "n"), [(0, 10), (1, 10), (25, 200), (200, 200)])
def test_the_lower_bound_is_the_exact_binomial_one(right: int, n: int):
    expected = binomtest(right, n, alternative="greater").proportion_ci(0.95, method="exact").low
    assert tables.accuracy_lower_bound(np.array([right / n]), np.array([n]))[0] == pytest.approx(expected)


def test_the_lower_bound_lies_above_the_truth_in_at_most_5_percent_of_samples():
    chance, n = 0.25, 200
    accuracy = np.random.default_rng(0).binomial(n, chance, 20_000) / n
    wrong = (tables.accuracy_lower_bound(accuracy, np.full(20_000, n)) > chance).mean()
    assert 0.02 < wrong <= 0.05


def test_an_accuracy_beats_chance_only_when_its_bound_does():
    assert judged("val/accuracy", "max", 0.25, 200, **{"val/accuracy": 0.35})["beats_chance"]
    assert not judged("val/accuracy", "max", 0.25, 200, **{"val/accuracy": 0.29})["beats_chance"]
    assert judged("val/accuracy", "max", 0.25, 20_000, **{"val/accuracy": 0.29})["beats_chance"]


def test_a_loss_is_judged_by_its_standard_error_where_that_was_reported():
    surely = judged("val/loss", "min", 1.0, 512, **{"val/loss": 0.9, "val/loss_se": 0.05})
    hardly = judged("val/loss", "min", 1.0, 512, **{"val/loss": 0.9, "val/loss_se": 0.07})
    unknown = judged("val/loss", "min", 1.0, 512, **{"val/loss": 0.9})
    assert (surely["beats_chance"], hardly["beats_chance"]) == (True, False)
    assert pd.isna(unknown["beats_chance"])
    assert surely["bound"] == pytest.approx(0.9 + 1.6449 * 0.05, abs=1e-4)
    assert np.isnan(unknown["bound"])
    assert unknown["ratio"] == pytest.approx(0.9)


def test_a_diverged_trial_does_not_beat_chance_and_an_unknown_chance_gives_no_answer():
    assert not judged("val/loss", "min", 1.0, 512, **{"val/loss": np.nan})["beats_chance"]
    assert pd.isna(judged("val/loss", "min", np.nan, 512, **{"val/loss": 0.5})["beats_chance"])


def test_images_with_several_predictions_are_not_independent_ones():
    clustered = {"val/accuracy": 0.29, "val/accuracy_se": 0.03}
    assert not judged("val/accuracy", "max", 0.25, 20_000, **clustered)["beats_chance"]
    assert judged("val/accuracy", "max", 0.25, 20_000, **(clustered | {"val/accuracy_se": 0.02}))["beats_chance"]
    assert judged("val/accuracy", "max", 0.25, 200, **{"val/accuracy": 1.0, "val/accuracy_se": 0.0})["beats_chance"]


def test_against_chance_finds_the_task_that_learned_nothing(study: analysis.Study):
    found = tables.against_chance(study.runs, study.curves)
    by_task = found.loc[found["phase"] == "confirm"].groupby("task")["beats_chance"].mean()
    assert by_task.dropna().to_dict() == {"rotation": 1.0, "context_prediction": 0.0}
    assert by_task.index[by_task.isna()].tolist() == ["simclr"]  # its loss has no standard error here
    assert (found["n_validation"] == N_VALIDATION).all()
    assert not set(found["task"]) & {"random_init", "raw_pixels"}


def test_the_untrained_value_stands_beside_the_last_one(study: analysis.Study):
    found = tables.against_chance(study.runs, study.curves).iloc[0]
    curve = study.curves.query("trial_id == @found.trial_id and metric == @found.metric")["value"]
    assert (found["untrained"], found["value"]) == (curve.iloc[0], curve.iloc[-1])


def test_a_probe_summary_is_mean_and_sample_deviation_over_seeds_with_baselines_last(study: analysis.Study):
    runs = study.tested
    summary = tables.probe_summary(tables.probe_results(runs))
    row = summary[(summary["task"] == "simclr") & (summary["probe"] == "linear")].iloc[0]
    values = runs.loc[runs["task"] == "simclr", f"probe/{DATASET}/linear"]
    assert (row["n_seeds"], row["chance"]) == (len(SEEDS), 0.2)
    assert row["mean"] == pytest.approx(values.mean())
    assert row["sd"] == pytest.approx(np.std(values, ddof=1))
    assert list(summary["task"])[-4:] == ["random_init", "raw_pixels"] * 2
    assert summary.loc[summary["task"] == "raw_pixels", "sd"].isna().all()


def test_a_task_no_better_than_a_baseline_is_named_with_it():
    columns = ["task", "dataset", "probe", "mean"]
    summary = pd.DataFrame(
        [["a", "d", "knn", 0.30], ["b", "d", "knn", 0.40], ["random_init", "d", "knn", 0.33]], columns=columns
    )
    found = tables.not_above_baselines(summary)
    assert found[["task", "baseline"]].to_numpy().tolist() == [["a", "random_init"]]


def test_configurations_name_what_differs_and_seeds_share_one(study: analysis.Study):
    runs = study.runs.query("phase == 'confirm' and task == 'simclr'")
    assert tables.configurations(runs).unique().tolist() == ["lr=0.001", "lr=0.01"]
    assert tables.configurations(runs.head(2)).tolist() == ["", ""]


def test_seeds_of_an_ablation_that_draw_their_own_images_share_a_name():
    runs = pd.DataFrame({"task": "rotation", "cell": "base", "seed": [1, 2], "data_seed": [1, 2], "lr": 0.1})
    runs = pd.concat([runs, runs.assign(cell="lr=0.2", lr=0.2)], ignore_index=True)
    assert tables.configurations(runs).unique().tolist() == ["lr=0.1", "lr=0.2"]


@pytest.mark.parametrize(
    ("column", "mode"),
    [
        ("last/val/error", "min"),  # the primary metric of a task that says so
        ("last/val/accuracy", "max"),
        ("last/train/loss", "min"),
        ("last/val/loss_fraction", "min"),
        ("last/health/uniformity", "min"),
        ("probe/losses/linear", "max"),  # of a data set by that name
    ],
)
def test_less_is_better_where_the_task_or_the_metrics_name_says_so(column: str, mode: str):
    runs = pd.DataFrame({"primary_metric": ["val/error"], "primary_mode": ["min"]})
    assert tables.mode_of(runs, column) == mode


def test_final_accuracies_are_told_from_curves_and_other_results():
    columns = ["probe/voc/linear", "probe/voc/knn", "probe/voc/miou", "probe/linear", "probe/voc/linear_top5", "lr"]
    assert [name for name in columns if tables.is_final_accuracy(name)] == ["probe/voc/linear", "probe/voc/knn"]


def segmented() -> pd.DataFrame:
    """Return runs that were probed on masks: three encoders, one of them diverged, and raw pixels."""
    rows = [
        ("raw_pixels", 0.30, 0.8, 0.1),
        ("rotation", 0.40, 0.8, 0.2),
        ("rotation", 0.50, 0.8, 0.4),
        ("simclr", math.nan, math.nan, math.nan),
    ]
    names = ["task", "probe/voc/miou", "probe/voc/iou/background", "probe/voc/iou/cat"]
    runs = pd.DataFrame(rows, columns=names).assign(phase="evaluate", seed=range(4), probe_split="test")
    return runs.assign(trial_id=list("abcd"), **{"probe/voc/iou/bus": math.nan, "probe/voc/miou_chance": 0.25})


def test_the_miou_stands_beside_that_of_background_everywhere():
    found = tables.probe_results(segmented())
    assert set(found["probe"]) == {"miou"}
    assert set(found["dataset"]) == {"voc"}
    assert found["chance"].tolist() == [0.25] * 3
    assert tables.probe_summary(found).set_index("task")["mean"].to_dict() == {"rotation": 0.45, "raw_pixels": 0.30}


def test_ious_of_classes_are_means_over_seeds_of_those_that_occur():
    found = class_ious(segmented())
    assert found.columns.tolist() == ["dataset", "class", "rotation", "raw_pixels"]
    assert found.to_numpy().tolist() == [["voc", "background", 0.8, 0.8], ["voc", "cat", pytest.approx(0.3), 0.1]]
    assert class_ious(pd.DataFrame({"task": ["rotation"]})).empty


def test_encoders_are_compared_by_the_linear_probe_and_by_the_miou():
    columns = ["probe/voc/linear", "probe/voc/knn", "probe/voc/miou", "probe/voc/miou_chance", "probe/voc/iou/cat"]
    assert [name for name in columns if tables.is_comparison_probe(name)] == ["probe/voc/linear", "probe/voc/miou"]


def test_cost_adds_up_what_each_phase_took(study: analysis.Study):
    cost = tables.cost(study.runs).set_index("phase")
    assert list(cost.index) == ["baselines", "search", "confirm", "evaluate"]
    assert cost["trials"].sum() == len(study.runs)
    assert cost.loc["confirm", "steps"] == 18 * 200
    assert cost.loc["confirm", "samples_seen"] == 18 * 200 * 128
