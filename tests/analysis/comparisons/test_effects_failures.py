"""Effects where seeds failed or are missing: no answer is better, worse or equivalent because of them."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.comparisons import effects
from tests.analysis.ablated_runs import METRIC, SPREAD, design, one_cell, only_effect, runs_of, with_value


@pytest.mark.parametrize("n", [1, 2, 4])
def test_below_5_seeds_there_are_means_and_no_test(n: int):
    found = only_effect(one_cell(0.02 + 0.001 * SPREAD[:n]), margin=0.01)
    assert found["mean_difference"] == pytest.approx(0.02 + 0.001 * SPREAD[:n].mean())
    assert (found["n_seeds"], found["answer"], found["test"]) == (n, "too few seeds", "")
    assert found["note"] == f"seeds with a value of both: {n}; a test needs 5"
    tests = ["ci_low", "p", "p_holm", "hedges_g", "smallest_detectable", "pairing_correlation", "p_equivalence_holm"]
    assert found[tests].isna().all()


def test_a_comparison_with_too_few_seeds_does_not_cost_the_others_of_its_family():
    cells = {
        ("a", "base"): 0.5 + 0.1 * SPREAD[:6],
        ("a", "two seeds"): [0.5, 0.6],
        ("a", "all"): 0.51 + 0.1 * SPREAD[6:12],
    }
    found = effects(runs_of(cells), METRIC).set_index("cell")
    assert found.loc["two seeds", "answer"] == "too few seeds"
    assert found.loc["all", "p_holm"] == found.loc["all", "p"]


def test_a_cell_without_any_run_of_its_own_is_a_row_and_not_an_error():
    designs = design(
        ("a", "d", "cell", "base"), ("a", "d", "not yet", "base"), ("a", "d", "not yet either", "nor this")
    )
    found = effects(one_cell(0.01 * SPREAD[:6]), METRIC, designs=designs).set_index("cell")
    for name in ("not yet", "not yet either"):
        assert found.loc[name, ["n_seeds", "answer"]].tolist() == [0, "too few seeds"]
        assert np.isnan(found.loc[name, "mean"])


FAILURES = [{"status": "FAILED"}, {"value": np.nan}, {"value": np.inf}, {"value": -np.inf}]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_cell_that_failed_where_its_baseline_did_not_is_never_better_and_never_equivalent(failure: dict):
    better = with_value(one_cell(0.02 + 0.003 * SPREAD[:7]), "cell", 102, **failure)
    found = only_effect(better)
    assert (found["n_seeds"], found["n_failed"], found["n_baseline_failed"]) == (6, 1, 0)
    assert found["p_holm"] < 0.05
    assert (found["answer"], found["note"]) == (
        "inconclusive",
        "failed at 1 of 7 seeds of its baseline, so neither better nor equivalent",
    )
    same = with_value(one_cell(1e-5 * SPREAD[:7]), "cell", 102, **failure)
    assert only_effect(same, margin=0.01)["answer"] == "inconclusive"
    worse = with_value(one_cell(-0.02 + 0.003 * SPREAD[:7]), "cell", 102, **failure)
    assert only_effect(worse)["answer"] == "worse"
    assert only_effect(worse, mode="min")["answer"] == "inconclusive"


@pytest.mark.parametrize("failure", FAILURES)
def test_a_cell_whose_baseline_failed_where_it_did_not_is_never_worse_and_never_equivalent(failure: dict):
    worse = with_value(one_cell(-0.02 + 0.003 * SPREAD[:7]), "base", 102, **failure)
    found = only_effect(worse)
    assert (found["n_seeds"], found["n_failed"], found["n_baseline_failed"]) == (6, 0, 1)
    assert found["answer"] == "inconclusive"
    assert found["note"].startswith("the baseline failed at 1 of 7 seeds")
    assert (
        only_effect(with_value(one_cell(1e-5 * SPREAD[:7]), "base", 102, **failure), margin=0.01)["answer"]
        == "inconclusive"
    )
    assert only_effect(with_value(one_cell(0.02 + 0.003 * SPREAD[:7]), "base", 102, **failure))["answer"] == "better"


def test_a_seed_at_which_both_failed_tells_neither_from_the_other():
    runs = one_cell(0.02 + 0.003 * SPREAD[:7])
    for cell in ("base", "cell"):
        runs = with_value(runs, cell, 102, status="FAILED")
    found = only_effect(runs)
    assert (found["n_seeds"], found["n_failed"], found["n_baseline_failed"], found["answer"]) == (6, 0, 0, "better")


def test_a_cell_that_failed_at_every_seed_is_a_row_that_says_so():
    runs = one_cell(0.01 * SPREAD[:5])
    runs.loc[runs["cell"] == "cell", "status"] = "FAILED"
    found = only_effect(runs)
    assert (found["n_seeds"], found["n_failed"], found["answer"]) == (0, 5, "too few seeds")
    assert found["note"].startswith("failed at 5 of 5 seeds of its baseline")


@pytest.mark.parametrize("status", ["RUNNING", "KILLED"])
def test_a_trial_that_did_not_end_of_itself_is_no_outcome(status: str):
    for cell in ("base", "cell"):
        found = only_effect(with_value(one_cell(0.02 + 0.003 * SPREAD[:7]), cell, 102, status=status))
        assert (found["n_seeds"], found["n_failed"], found["n_baseline_failed"], found["answer"]) == (6, 0, 0, "better")


def test_a_seed_that_only_one_of_the_two_has_is_not_paired():
    runs = one_cell(0.02 + 0.003 * SPREAD[:7])
    for cell in ("base", "cell"):
        found = only_effect(runs[(runs["cell"] != cell) | (runs["seed"] != 100)])
        assert (found["n_seeds"], found["n_failed"], found["n_baseline_failed"]) == (6, 0, 0)
    assert found["mean"] - found["baseline_mean"] == pytest.approx(found["mean_difference"])
