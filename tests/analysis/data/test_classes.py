"""Classes: when balanced accuracy replaces accuracy, and the accuracy of each class with its interval."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

import analysis
from analysis.data import tables
from analysis.data.classes import (
    class_accuracies,
    comparison_columns,
    headline_results,
    imbalanced,
    levels_of,
)
from analysis.data.per_image import PerImage
from analysis.stats.binomial import wilson_interval
from trainables.per_image import pack


def probed(share: float = 0.9, *, balanced: tuple[float, ...] = (0.6, 0.7), split: str = "test") -> pd.DataFrame:
    """Return runs of two seeds, and raw pixels, which predict the majority class."""
    values = {
        "linear": [0.91, 0.93, share],
        "linear_balanced_accuracy": [*balanced, 0.5],
        "linear_macro_f1": [0.6, 0.7, 0.47],
        "knn": [0.9, 0.9, 0.9],
        "chance": [0.5] * 3,
        "largest_class": [share] * 3,
    }
    about = {"trial_id": list("xyz"), "phase": "evaluate", "task": ["rotation", "rotation", "raw_pixels"]}
    about |= {"seed": [0, 1, 0], "probe_split": split}
    return pd.DataFrame(about | {f"probe/a/{name}": column for name, column in values.items()})


def test_encoders_are_compared_by_balanced_accuracy_where_classes_are_imbalanced():
    assert comparison_columns(probed(0.9)) == ["probe/a/linear_balanced_accuracy"]
    assert comparison_columns(probed(0.6)) == ["probe/a/linear"]
    assert imbalanced(probed(0.9)).to_dict("records") == [
        {"dataset": "a", "probe_split": "test", "largest_class": 0.9, "n_classes": 2}
    ]


def test_runs_without_a_balanced_accuracy_are_compared_by_accuracy():
    mixed = probed(balanced=(math.nan, 0.7))
    assert comparison_columns(mixed) == ["probe/a/linear"]
    former = mixed[[name for name in mixed if "balanced" not in name and "largest" not in name]]
    assert comparison_columns(former) == ["probe/a/linear"]
    assert tables.probe_results(former)["largest_class"].isna().all()
    diverged = probed(balanced=(math.nan, 0.7)).assign(**{"probe/a/linear": [math.nan, 0.93, 0.9]})
    assert comparison_columns(diverged) == ["probe/a/linear_balanced_accuracy"]


def test_a_probe_has_the_levels_that_apply_to_it():
    levels = tables.probe_results(probed()).groupby("probe")[["chance", "largest_class"]].first()
    assert levels.loc["linear"].tolist() == [0.5, 0.9]
    assert levels.loc["knn"].tolist() == [0.5, 0.9]
    assert levels.loc["linear_balanced_accuracy", "chance"] == 0.5
    assert math.isnan(levels.loc["linear_balanced_accuracy", "largest_class"])
    assert levels.loc["linear_macro_f1"].isna().all()


def test_a_level_on_which_runs_do_not_agree_is_not_known():
    runs = pd.DataFrame({"task": ["simclr", "rotation"], "chance/val/accuracy": [1 / 127, 0.25]})
    assert math.isnan(levels_of(runs, "last/val/accuracy").chance)
    assert levels_of(runs.iloc[:1], "last/val/accuracy").chance == 1 / 127
    again = runs.assign(**{"chance/val/accuracy": [0.1, np.float32(0.1)]})
    assert levels_of(again, "last/val/accuracy").chance == pytest.approx(0.1)


def test_averages_over_classes_are_shown_where_classes_are_imbalanced():
    assert set(headline_results(probed(0.6))["probe"]) == {"linear", "knn"}
    assert set(headline_results(probed(0.9))["probe"]) == {
        *("linear", "knn", "linear_balanced_accuracy", "linear_macro_f1"),
    }


def with_images(runs: pd.DataFrame) -> analysis.Study:
    """Return a study of runs that classified 88 of 90 common images correctly, and 3 of 10 rare ones, then 5 of 10."""
    labels = np.repeat([0, 1], [90, 10])
    rare = {"x": 3, "y": 5, "z": 0}
    packed = {
        trial_id: {
            "probe/a/linear": pack(np.arange(100) % 90 < np.where(labels == 0, 88, rare[trial_id])),
            "probe/a/labels": pack(labels),
        }
        for trial_id in runs["trial_id"]
    }
    datasets = {"a": {"class_names": ["common", "rare"]}}
    return analysis.Study("s", runs, pd.DataFrame(), datasets=datasets, per_image=PerImage(packed.__getitem__))


def test_each_class_has_its_accuracy_with_an_interval_over_its_images():
    found = class_accuracies(with_images(probed()), probed()).set_index(["task", "class"])
    rare = found.loc[("rotation", "rare")]
    assert (rare["n_images"], rare["n_seeds"], rare["mean"]) == (10, 2, pytest.approx(0.4))
    assert (rare["ci_low"], rare["ci_high"]) == pytest.approx((0.1682, 0.6873), abs=1e-4)
    assert found.loc[("rotation", "common"), "mean"] == pytest.approx(88 / 90)
    assert found["few"].to_dict() == {(task, name): name == "rare" for task, name in found.index}
    assert list(found.index.get_level_values("task").unique()) == ["rotation", "raw_pixels"]


def test_trials_that_kept_no_images_have_no_accuracy_of_classes():
    assert class_accuracies(analysis.Study("s", probed(), pd.DataFrame()), probed()).empty


def test_a_wilson_interval_covers_at_its_level_on_average():
    n, shares = 30, np.linspace(0.02, 0.98, 97)
    counts = np.arange(n + 1)
    low, high = wilson_interval(counts / n, np.full(n + 1, n))
    covered = [binom.pmf(counts, n, share)[(low <= share) & (share <= high)].sum() for share in shares]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)
    assert min(covered) > 0.8
    assert np.isnan(wilson_interval(0.5, 0)).all()
