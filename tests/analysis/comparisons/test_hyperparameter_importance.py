"""Importance: which setting ruled a search, with as few trials as can tell."""

from __future__ import annotations

import logging

import numpy as np
import optuna
import pandas as pd
import pytest
from scipy.stats import binom

from analysis.comparisons import importance, searched_columns
from analysis.comparisons.hyperparameter_importance import MIN_TRIALS, Evaluator
from analysis.records import FAILED, FINISHED, STOPPED
from trainables.errors import UserError

METRIC = "last/probe/linear"
EVALUATORS: tuple[Evaluator, ...] = ("fanova", "mean_decrease_impurity", "ped_anova")


def search(n: int, rng: int = 0, task: str = "rotation") -> pd.DataFrame:
    """Return a random search of n trials in which the learning rate rules, batch size and weight decay do nothing."""
    draw = np.random.default_rng(rng)
    lr, strength = 10 ** draw.uniform(-4, -1, n), draw.uniform(0.1, 1.0, n)
    value = 0.7 - 0.08 * (np.log10(lr) + 2.5) ** 2 - 0.05 * (strength - 0.5) ** 2 + draw.normal(0, 0.03, n)
    columns = {"lr": lr, "augmentation_strength": strength, "batch_size": draw.choice([64, 128, 256], n)}
    runs = pd.DataFrame({"trial_id": [f"{task}{i}" for i in range(n)], "task": task, "phase": "search", "seed": 0})
    return runs.assign(status=FINISHED, n_images=1000, encoder="conv4", **columns, **{METRIC: value})


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_the_setting_that_rules_comes_out_first_in_nearly_all_searches_of_thirty_trials(evaluator: Evaluator):
    n = 8
    first = [
        importance(search(30, rng), METRIC, evaluator=evaluator, n_bootstrap=0)["hyperparameter"].iloc[0]
        for rng in range(n)
    ]
    assert first.count("lr") >= n - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_trials", "evaluator", "share"), [(15, "fanova", 0.93), (30, "fanova", 0.99), (30, "ped_anova", 0.95)]
)
def test_how_often_the_ruling_setting_is_first_is_what_the_docstring_says(
    n_trials: int, evaluator: Evaluator, share: float
):
    n = 60
    first = [
        importance(search(n_trials, rng), METRIC, evaluator=evaluator, n_bootstrap=0)["hyperparameter"].iloc[0]
        for rng in range(n)
    ]
    assert binom.ppf(5e-4, n, share) <= first.count("lr")


def test_importances_are_shares_with_their_range_over_resampled_trials():
    found = importance(search(30), METRIC, evaluator="mean_decrease_impurity", n_bootstrap=40)
    assert found["hyperparameter"].iloc[0] == "lr"
    assert set(found["hyperparameter"]) == {"lr", "augmentation_strength", "batch_size"}
    assert found["importance"].sum() == pytest.approx(1.0)
    assert found["importance"].is_monotonic_decreasing
    assert (found["low"] <= found["high"]).all()
    assert found["first"].sum() == pytest.approx(1.0)
    assert found["first"].iloc[0] > 0.8
    assert (found["n_trials"] == 30).all()


def test_the_same_seed_gives_the_same_numbers_and_another_one_others():
    runs = search(MIN_TRIALS)
    first, same, other = (
        importance(runs, METRIC, evaluator="mean_decrease_impurity", n_bootstrap=5, seed=seed) for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first, same)
    assert not first["low"].equals(other["low"])


def test_a_learning_rate_is_weighed_by_its_decades():
    """In plain units nine tenths of the range is the last decade, where this metric does not move at all."""
    draw = np.random.default_rng(0)
    runs = search(60)
    runs[METRIC] = (
        np.where(runs["lr"] < 1e-2, 0.3, 0.6) + 0.2 * runs["augmentation_strength"] + draw.normal(0, 0.01, 60)
    )
    by_decade, plain = (
        importance(runs, METRIC, n_bootstrap=0, log_scaled=log).set_index("hyperparameter")["importance"]
        for log in (("lr",), ())
    )
    assert by_decade["lr"] > 0.75
    assert by_decade["lr"] > plain["lr"] + 0.1


def test_what_was_searched_is_what_varies():
    runs = search(20).assign(**{"option/loss": ["l1", "l2"] * 10, "augmentation/flip": 1.0, "seed": range(20)})
    names = searched_columns(runs)
    assert sorted(names) == ["augmentation_strength", "batch_size", "lr", "option/loss"]


def test_a_choice_between_words_can_be_the_one_that_rules():
    runs = search(30).assign(**{"option/loss": ["l1", "l2", "l2"] * 10})
    runs[METRIC] += 0.5 * (runs["option/loss"] == "l2")
    for evaluator in EVALUATORS[:2]:
        found = importance(runs, METRIC, evaluator=evaluator, n_bootstrap=3)
        assert found["hyperparameter"].iloc[0] == "option/loss", evaluator


def test_stopped_and_failed_trials_are_left_out_and_counted():
    runs = search(20)
    runs.loc[:1, "status"], runs.loc[2, "status"], runs.loc[3, METRIC] = STOPPED, FAILED, np.nan
    found = importance(runs, METRIC, n_bootstrap=0)
    assert (found[["n_trials", "n_left_out"]].drop_duplicates().to_numpy() == [[16, 4]]).all()
    expected = importance(runs.iloc[4:], METRIC, n_bootstrap=0)
    assert found["importance"].tolist() == expected["importance"].tolist()


def test_where_there_is_no_answer_the_note_says_why():
    few = importance(search(MIN_TRIALS - 1), METRIC)
    assert few["importance"].isna().all()
    assert few["note"].unique().tolist() == ["too few trials: 14 finished, at least 15 are needed"]
    fixed = {"lr": 1e-3, "batch_size": 64, "augmentation_strength": 1.0}
    assert importance(search(15).assign(**fixed), METRIC)["note"].tolist() == ["nothing varies among these trials"]
    flat = importance(search(15).assign(**{METRIC: 0.1}), METRIC)
    assert flat["note"].unique().tolist() == [f"{METRIC} is the same in all trials"]


def test_tasks_are_judged_apart_and_only_their_searches():
    runs = pd.concat([search(16), search(15, 1, "simclr"), search(40, 2).assign(phase="confirm")], ignore_index=True)
    runs.loc[runs["task"] == "simclr", "option/temperature"] = np.geomspace(0.05, 1.0, 15)
    found = importance(runs, METRIC, evaluator="ped_anova", n_bootstrap=0)
    assert found.groupby("task")["n_trials"].first().to_dict() == {"rotation": 16, "simclr": 15}
    assert (found["hyperparameter"] == "option/temperature").groupby(found["task"]).sum().tolist() == [0, 1]


def test_a_gap_in_a_searched_column_leaves_importance_unknown():
    runs = search(20).assign(**{"option/temperature": [np.nan] + [0.1, 0.5] * 9 + [0.2]})
    found = importance(runs, METRIC)
    assert found["importance"].isna().all()
    assert set(found["note"]) == {"option/temperature is missing in 1 of 20 trials"}


def test_a_wrong_name_is_an_error():
    runs = search(20)
    with pytest.raises(UserError, match="no numeric column 'last/val/loss'"):
        importance(runs, "last/val/loss")
    with pytest.raises(UserError, match="mode = 'best'"):
        importance(runs, METRIC, "best")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="evaluator = 'shap'"):
        importance(runs, METRIC, evaluator="shap")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no trial of the phase 'search'"):
        importance(runs.assign(phase="ablate"), METRIC)


def test_the_end_that_is_best_matters_to_ped_anova():
    runs = search(60)
    high, low = (importance(runs, METRIC, mode, evaluator="ped_anova", n_bootstrap=0) for mode in ("max", "min"))  # type: ignore[arg-type]
    mirrored = importance(runs.assign(**{METRIC: -runs[METRIC]}), METRIC, "min", evaluator="ped_anova", n_bootstrap=0)
    assert high["importance"].tolist() == mirrored["importance"].tolist()
    assert high["importance"].tolist() != low["importance"].tolist()


def test_optunas_logging_is_quiet_and_left_as_it_was(capfd: pytest.CaptureFixture[str]):
    optuna.logging.set_verbosity(logging.INFO)
    importance(search(15), METRIC, evaluator="ped_anova", n_bootstrap=1)
    assert optuna.logging.get_verbosity() == logging.INFO
    assert "study" not in capfd.readouterr().err
