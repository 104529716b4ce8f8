"""Across tasks: one scale, the interquartile mean and the probability of improvement, with intervals that hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, mannwhitneyu, norm, trim_mean

from analysis.comparisons import improvement_probabilities, interquartile_means, normalized_scores
from analysis.records import FAILED
from tests.analysis.ablated_runs import ablation
from trainables.errors import UserError

TASKS = ("rotation", "simclr", "context_prediction", "context_encoder")
LEVELS = np.array([0.2, 0.3, 0.5, 0.55])
METRIC = "probe/shapes/linear"


def scores_of(values: np.ndarray, cells: list[str] | None = None) -> pd.DataFrame:
    """Return scores of values [n_cells, n_seeds, n_tasks]."""
    cell, seed, task = (index.ravel() for index in np.indices(values.shape))
    names = np.array([f"cell{i}" for i in range(len(values))] if cells is None else cells)
    return pd.DataFrame(
        {"task": np.array(TASKS)[task], "cell": names[cell], "seed": seed, "score": values.ravel(), "failed": False}
    )


def noise(rng: np.random.Generator, *shape: int, shared: float = 0.5) -> np.ndarray:
    """Return unit normal noise [..., n_seeds, n_tasks]; a share of its variance is the seed's in all tasks."""
    return np.sqrt(shared) * rng.normal(size=(*shape[:-1], 1)) + np.sqrt(1 - shared) * rng.normal(size=shape)


def probed(*values: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return runs of one cell with these probe results, and two untrained encoders at 0.3 and 0.5."""
    runs, _ = ablation({("rotation", "base"): ["converged"] * len(values), ("random_init", "random_init"): [""] * 2})
    runs = runs.assign(probe_split="validation", **{METRIC: [*values, 0.3, 0.5], "probe/shapes/chance": 0.1})
    return runs, runs.loc[runs["task"] == "rotation"]


def test_a_score_is_the_way_from_the_untrained_encoder_to_perfect():
    runs, _ = probed(0.4, 0.7, 1.0, 0.1)
    assert normalized_scores(runs, METRIC)["score"].tolist() == pytest.approx([0.0, 0.5, 1.0, -0.5])
    assert normalized_scores(runs, METRIC, "chance")["score"].tolist() == pytest.approx([1 / 3, 2 / 3, 1.0, 0.0])


def test_the_chance_level_of_a_curve_is_that_of_its_task():
    runs, _ = ablation({(task, "base"): ["converged"] for task in TASKS[:2]})
    runs = runs.assign(**{"last/val/accuracy": [0.625, 0.625], "chance/val/accuracy": [0.25, 0.125]})
    assert normalized_scores(runs, "last/val/accuracy", "chance")["score"].tolist() == pytest.approx([0.5, 4 / 7])


def test_a_failed_trial_leaves_its_user_with_the_reference():
    runs, _ = probed(0.7, np.nan, 0.9)
    runs.loc[2, "status"] = FAILED
    found = normalized_scores(runs, METRIC)
    assert found["score"].tolist() == pytest.approx([0.5, 0.0, 0.0])
    assert found["failed"].tolist() == [False, True, True]
    assert interquartile_means(found)["n_failed"].tolist() == [2]


def test_a_score_without_scale_or_reference_is_an_error():
    runs, trained = probed(0.4, 0.7)
    with pytest.raises(UserError, match="'val/loss' is not a column of these runs with an accuracy"):
        normalized_scores(runs.assign(**{"val/loss": 1.0}), "val/loss")
    with pytest.raises(UserError, match="have no random_init trial"):
        normalized_scores(trained, METRIC)
    with pytest.raises(UserError, match="chance level of 'last/probe/knn' is not known"):
        normalized_scores(runs.assign(**{"last/probe/knn": 0.5}), "last/probe/knn", "chance")
    with pytest.raises(UserError, match=r"mix probe splits \(test, validation\)"):
        normalized_scores(runs.assign(probe_split=["test"] * 2 + ["validation"] * 2), METRIC)
    with pytest.raises(UserError, match="two runs of task 'rotation', cell 'base', seed 0"):
        normalized_scores(runs.assign(seed=0), METRIC)


def test_the_middle_half_counts_and_outliers_do_not():
    values = np.arange(16.0).reshape(1, 4, 4)
    assert interquartile_means(scores_of(values))["iqm"].tolist() == [7.5]
    values[0, 3, 3] = 1000.0
    row = interquartile_means(scores_of(values)).iloc[0]
    assert row["iqm"] == pytest.approx(trim_mean(values.ravel(), 0.25)) == 7.5
    assert (row["n_seeds"], row["tasks"]) == (4, ", ".join(sorted(TASKS)))


def test_a_seed_that_one_task_lacks_is_left_out_in_all():
    scores = scores_of(noise(np.random.default_rng(0), 1, 11, 3))
    whole = interquartile_means(scores[scores["seed"] != 4])
    holed = scores[(scores["seed"] != 4) | (scores["task"] != "rotation")]
    pd.testing.assert_frame_equal(interquartile_means(holed), whole)


def test_below_ten_seeds_the_numbers_describe_and_have_no_interval():
    scores = scores_of(noise(np.random.default_rng(0), 2, 9, 2), ["base", "cure"])
    for found in (interquartile_means(scores), improvement_probabilities(scores)):
        assert found[["ci_low", "ci_high"]].isna().all(axis=None)
        assert found["note"].unique().tolist() == ["descriptive: 9 seeds, an interval needs 10"]
    scores = scores_of(noise(np.random.default_rng(0), 2, 10, 2), ["base", "cure"])
    for found in (interquartile_means(scores), improvement_probabilities(scores)):
        assert found[["ci_low", "ci_high"]].notna().all(axis=None)
        assert found["note"].unique().tolist() == [""]


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize(("n_seeds", "n_tasks"), [(10, 4), (10, 2), (20, 4)])
def test_the_interval_of_the_interquartile_mean_holds_the_truth_in_95_percent_of_studies(n_seeds: int, n_tasks: int):
    rng, n = np.random.default_rng(n_seeds + n_tasks), 300
    level = LEVELS[:n_tasks]
    truth = trim_mean(level + 0.05 * noise(rng, 200_000, n_tasks), 0.25, axis=None)
    found = interquartile_means(scores_of(level + 0.05 * noise(rng, n, n_seeds, n_tasks)))
    covered = int(((found["ci_low"] <= truth) & (truth <= found["ci_high"])).sum())
    assert binom.ppf(5e-4, n, 0.94) <= covered <= binom.ppf(1 - 5e-4, n, 0.955)


def test_the_probability_of_improvement_is_mann_whitneys_share_of_wins():
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    found = improvement_probabilities(scores_of(np.stack([y, x])[..., None], ["base", "cure"])).iloc[0]
    n, wins = 12, mannwhitneyu(x, y).statistic
    same_seed = (x > y).sum()
    assert found["probability"] == pytest.approx((wins - same_seed) / (n * (n - 1)))
    assert (found["cell"], found["baseline"], found["n_seeds"]) == ("cure", "base", 12)


def test_ties_are_half_a_win_and_only_tasks_with_both_cells_count():
    values = np.zeros((2, 10, 2))
    values[1, :, 1] = 1.0
    scores = scores_of(values, ["base", "cure"])
    assert improvement_probabilities(scores)["probability"].tolist() == [0.75]
    only_first = scores[(scores["task"] == TASKS[0]) | (scores["cell"] == "cure")]
    assert improvement_probabilities(only_first)[["tasks", "probability"]].to_numpy().tolist() == [[TASKS[0], 0.5]]
    with pytest.raises(UserError, match="no task has the baseline 'nothing'"):
        improvement_probabilities(scores, "nothing")


def test_ten_seeds_that_all_win_do_not_make_it_certain():
    values = np.stack([np.zeros((10, 4)), np.ones((10, 4))])
    row = improvement_probabilities(scores_of(values, ["base", "cure"])).iloc[0]
    assert (row["probability"], row["ci_high"]) == (1.0, 1.0)
    assert row["ci_low"] == pytest.approx(0.025 ** (1 / 10))  # four tasks may repeat one another: ten, not forty


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize(("n_seeds", "shift", "shared"), [(10, 0.7, 1.0), (10, 3.0, 0.5), (20, 2.0, 0.5)])
def test_the_interval_of_the_probability_holds_the_truth_in_at_least_95_percent_of_studies(
    n_seeds: int, shift: float, shared: float
):
    rng, n = np.random.default_rng(n_seeds), 100
    assert _covered(rng, n, n_seeds, n_tasks=4, shift=shift, shared=shared, paired=0.5) >= binom.ppf(5e-4, n, 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [10, 15, 20])
def test_the_probability_is_covered_whatever_tasks_and_cells_share(n_seeds: int):
    rng, n = np.random.default_rng(n_seeds), 300
    for n_tasks, shared, paired, shift in [(1, 0, 0, 0), (1, 0, 0.9, 0), (4, 1, 0, 0.7), (2, 1, 0, 3), (4, 0, 0.9, 3)]:
        covered = _covered(rng, n, n_seeds, n_tasks=n_tasks, shift=shift, shared=shared, paired=paired)
        assert covered >= binom.ppf(1e-3, n, 0.965), (n_tasks, shared, paired, shift)


def _covered(
    rng: np.random.Generator, n: int, n_seeds: int, *, n_tasks: int, shift: float, shared: float, paired: float
) -> int:
    """Return in how many of n studies the interval holds the truth; `paired` correlates a seed's two cells."""
    truth, covered = norm.cdf(shift / np.sqrt(2)), 0
    for _ in range(n):
        base, own = (noise(rng, n_seeds, n_tasks, shared=shared) for _ in range(2))
        cell = paired * base + np.sqrt(1 - paired**2) * own + shift
        row = improvement_probabilities(scores_of(np.stack([base, cell]), ["base", "cell"])).iloc[0]
        covered += row["ci_low"] <= truth <= row["ci_high"]
    return covered
