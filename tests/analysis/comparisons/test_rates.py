"""Convergence rates: exact at every number of seeds, over the trials that had a fair chance to converge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from analysis.comparisons import grid, left_out, rates
from analysis.records import FAILED, FINISHED, KILLED, STOPPED
from tests.analysis.ablated_runs import ablation
from tests.analysis.error_rates import at_most
from trainables.errors import UserError

SEEDS = (3, 5, 8, 10)


def simulated(converged: np.ndarray, cells: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return runs and verdicts of booleans [n_tasks, n_cells, n_seeds]."""
    words = np.where(converged, "converged", "at_chance")
    return ablation({(f"task{i}", cell): words[i, j] for i in range(len(words)) for j, cell in enumerate(cells)})


def test_a_rate_stands_with_the_interval_of_clopper_and_pearson():
    runs, verdicts = ablation(
        {
            ("rotation", "base"): ["converged"] * 5,
            ("rotation", "no augmentation"): ["at_chance"] * 5,
            ("simclr", "base"): ["converged", "overfit", "converged", "still_improving", "failed"],
        }
    )
    found = rates.convergence_rates(runs, verdicts)
    assert found[["task", "cell", "n_seeds", "n_converged", "rate"]].to_numpy().tolist() == [
        ["rotation", "base", 5, 5, 1.0],
        ["rotation", "no augmentation", 5, 0, 0.0],
        ["simclr", "base", 5, 2, 0.4],
    ]
    for row in found.itertuples():
        exact = binomtest(row.n_converged, row.n_seeds).proportion_ci(0.95, method="exact")
        assert (row.ci_low, row.ci_high) == pytest.approx((exact.low, exact.high))


def test_a_trial_has_left_chance_whatever_came_of_it():
    runs, verdicts = ablation({("a", "base"): ["converged", "diverged", "collapsed", "diverged", "failed"]})
    verdicts["left_chance"] = [True, True, True, None, False]
    rate = rates.convergence_rates(runs, verdicts, event="left_chance").iloc[0]
    assert rate[["n_seeds", "n_converged", "n_undecided"]].tolist() == [5, 3, 1]
    with pytest.raises(UserError, match="verdicts has no column left_chance"):
        rates.convergence_rates(runs, verdicts.drop(columns="left_chance"), event="left_chance")


def test_an_undecided_trial_counts_where_all_that_its_numbers_leave_possible_agrees():
    runs, verdicts = ablation({("a", "base"): ["undecided"] * 3, ("a", "only flip"): ["at_chance"] * 3})
    possible = ["still_improving or converged", "at_chance or still_improving", "at_chance or overfit"]
    verdicts["possible"] = [*possible, *["at_chance"] * 3]
    counts = ["n_converged", "n_undecided"]
    assert rates.convergence_rates(runs, verdicts)[counts].to_numpy().tolist() == [[0, 1], [0, 0]]
    without = rates.convergence_rates(runs, verdicts.drop(columns="possible"))
    assert without[counts].to_numpy().tolist() == [[0, 3], [0, 0]]
    (change,) = rates.rate_differences(runs, verdicts).itertuples()
    assert (change.n_pairs, change.only_baseline, change.both, change.only_cell) == (2, 0, 0, 0)
    verdicts["left_chance"] = [True, None, None, *[False] * 3]
    (change,) = rates.rate_differences(runs, verdicts, event="left_chance").itertuples()
    assert (change.n_pairs, change.only_baseline, change.both, change.only_cell) == (1, 1, 0, 0)


@pytest.mark.parametrize("n", SEEDS)
def test_the_interval_covers_the_true_rate_in_at_least_95_percent_of_studies(n: int):
    rng = np.random.default_rng(n)
    for truth in (0.1, 0.5, 0.8, 0.97):
        runs, verdicts = simulated(rng.random((2000, 1, n)) < truth, ["base"])
        found = rates.convergence_rates(runs, verdicts)
        missed = ((found["ci_low"] > truth) | (found["ci_high"] < truth)).mean()
        assert missed <= at_most(0.05, 2000), truth


def test_all_images_are_a_group_of_their_own():
    runs, verdicts = ablation({("a", "n_images=200"): ["at_chance"] * 2, ("a", "n_images=all"): ["converged"] * 2})
    runs["n_images"] = pd.array([200, 200, None, None], dtype="Int64")
    found = rates.convergence_rates(runs, verdicts, by=["n_images"])
    assert found["rate"].tolist() == [0.0, 1.0]
    assert found["n_images"].isna().tolist() == [False, True]


def test_only_trials_that_trained_to_a_fixed_budget_count():
    runs, verdicts = ablation({("a", "base"): ["converged"] * 5, ("random_init", "random_init"): ["converged"]})
    runs.loc[1, "status"], runs.loc[2, "status"] = "RUNNING", KILLED
    runs.loc[3, "init_from"], runs.loc[4, "budget_steps"] = "t0", 0
    assert rates.convergence_rates(runs, verdicts)["n_seeds"].tolist() == [1]
    left = left_out(runs)
    assert dict(zip(left["trial_id"], left["why"], strict=True)) == {
        "t1": "has not ended: RUNNING",
        "t2": "has not ended: KILLED",
    }


def test_a_stopped_trial_takes_its_selected_neighbors_with_it():
    runs, verdicts = ablation({("a", ""): ["converged"] * 3, ("b", ""): ["converged"] * 3})
    runs["phase"] = "search"
    runs.loc[0, "status"] = STOPPED
    assert rates.convergence_rates(runs, verdicts)["task"].tolist() == ["b"]
    left = left_out(runs)
    assert left["trial_id"].tolist() == ["t0", "t1", "t2"]
    assert left["why"].str.contains("selection").tolist() == [False, True, True]
    with pytest.raises(UserError, match=r"no trial that trained to a fixed budget.*3 left out"):
        rates.convergence_rates(runs.head(3), verdicts)


def test_a_missing_verdict_or_a_seed_that_is_there_twice_is_an_error():
    runs, verdicts = ablation({("a", "base"): ["converged"] * 3, ("a", "only flip"): ["converged"] * 3})
    with pytest.raises(UserError, match="1 of 6 trials have no verdict, the first is t5"):
        rates.convergence_rates(runs, verdicts.head(5))
    with pytest.raises(UserError, match="two runs of task 'a'"):
        rates.convergence_rates(runs, verdicts, by=["task"])
    with pytest.raises(UserError, match="unknown verdicts: Converged; verdicts are failed"):
        rates.convergence_rates(runs, verdicts, converged=["Converged"])
    with pytest.raises(UserError, match="runs has no column budget_steps"):
        rates.convergence_rates(runs.drop(columns="budget_steps"), verdicts)


def test_frames_that_were_read_from_csv_count_the_same_trials(tmp_path: Path):
    runs, verdicts = ablation({("a", "base"): ["at_chance"] * 3, ("a", "cure"): ["converged"] * 3})
    designs = pd.DataFrame({"task": "a", "design": "cures", "cell": ["base", "cure"], "baseline": ["", "base"]})
    read = []
    for number, frame in enumerate((runs, verdicts, designs)):
        frame.to_csv(tmp_path / f"{number}.csv", index=False)
        read.append(pd.read_csv(tmp_path / f"{number}.csv"))
    assert rates.rate_differences(*read).equals(rates.rate_differences(runs, verdicts, designs))


def test_a_difference_is_judged_by_the_pairs_that_disagree():
    good, bad = "converged", "at_chance"
    runs, verdicts = ablation(
        {
            ("a", "base"): [bad] * 6 + [good, bad],
            ("a", "no augmentation"): [good] * 6 + [bad, bad],
            ("a", "only flip"): [bad] * 6 + [good, bad],
        }
    )
    found = rates.rate_differences(runs, verdicts).set_index("cell")
    row = found.loc["no augmentation"]
    assert (row["n_pairs"], row["only_cell"], row["only_baseline"], row["rate_difference"]) == (8, 6, 1, 5 / 8)
    assert row["p"] == pytest.approx(binomtest(6, 7, 0.5).pvalue)
    assert row["p_holm"] == pytest.approx(2 * row["p"])
    assert (found.loc["only flip", "p"], found.loc["only flip", "rate_difference"]) == (1.0, 0.0)


def test_pairs_are_the_seeds_that_both_have():
    runs, verdicts = ablation({("a", "base"): ["at_chance"] * 4, ("a", "cure"): ["converged"] * 4})
    fewer = rates.rate_differences(runs[~runs["trial_id"].isin(["t0", "t7"])], verdicts).iloc[0]
    assert (fewer["n_pairs"], fewer["only_cell"]) == (2, 2)
    apart = rates.rate_differences(runs[runs["trial_id"].isin(["t0", "t7"])], verdicts).iloc[0]
    assert apart["n_pairs"] == 0
    assert apart[["rate_difference", "p", "p_holm"]].isna().all()


def test_designs_name_the_baselines_and_the_families():
    cells = ("base", "n_images=200", "n_images=200, augmentation_strength=0", "only flip")
    runs, verdicts = ablation({("a", cell): ["at_chance" if cell == "base" else "converged"] * 6 for cell in cells})
    rows = [
        ("size_by_strength", cells[0], cells[0]),
        ("size_by_strength", cells[1], cells[2]),
        ("add_one_in", cells[3], cells[0]),
        ("factorial", cells[3], ""),
    ]
    designs = pd.DataFrame([("a", *row) for row in rows], columns=["task", "design", "cell", "baseline"])
    designs.loc[len(designs)] = ["a task that did not run", "add_one_in", "only flip", "base"]
    found = rates.rate_differences(runs, verdicts, designs)
    assert found[["design", "cell", "baseline"]].to_numpy().tolist() == [list(rows[1]), list(rows[2])]
    assert found["p"].tolist() == pytest.approx([1.0, 2**-5])
    assert found["p_holm"].tolist() == pytest.approx([1.0, 2**-5]), "each design is a family of its own"
    with pytest.raises(UserError, match="a: no run of the baseline 'nothing'"):
        rates.rate_differences(runs, verdicts, baseline="nothing")


@pytest.mark.parametrize("n", SEEDS)
def test_equal_rates_seem_to_differ_anywhere_in_a_family_in_at_most_5_percent_of_studies(n: int):
    rng = np.random.default_rng(n)
    easy = rng.normal(size=(1500, 1, n))  # a seed's cells share their images and initialization
    converged = easy + rng.normal(size=(1500, 4, n)) > -0.3
    found = rates.rate_differences(*simulated(converged, ["base", "b", "c", "d"]))
    assert len(found) == 4500
    assert (found["p"] <= 0.05).mean() <= at_most(0.05, 4500)
    assert (found.groupby("task")["p_holm"].min() <= 0.05).mean() <= at_most(0.05, 1500)
    can_reject = 3 * 2.0 ** (1 - n) <= 0.05
    assert found["p"].notna().all() if can_reject else found["p"].isna().all()


@pytest.mark.parametrize(("n", "cells", "needed"), [(5, 9, 9), (5, 1, 6), (6, 1, 6), (8, 9, 9), (9, 9, 9)])
def test_a_test_that_could_not_find_anything_is_not_made(n: int, cells: int, needed: int):
    outcomes = {("a", "base"): ["at_chance"] * n} | {("a", f"c{i}"): ["converged"] * n for i in range(cells)}
    found = rates.rate_differences(*ablation(outcomes))
    assert set(found["pairs_needed"]) == {needed}
    assert (found["p_holm"] <= 0.05).all() if n >= needed else found[["p", "p_holm"]].isna().all(axis=None)
    assert cells * 2.0 ** (1 - needed) <= 0.05 < cells * 2.0 ** (2 - needed)


def test_a_test_that_could_not_find_anything_does_not_count_in_its_family():
    bad, good = "at_chance", "converged"
    outcomes = {("a", "base"): [bad] * 7, ("a", "cure"): [good] * 7, ("a", "other"): [good] * 7}
    runs, verdicts = ablation(outcomes)
    lost = runs.loc[(runs["cell"] == "other"), "trial_id"].iloc[:3]
    found = rates.rate_differences(runs[~runs["trial_id"].isin(lost)], verdicts).set_index("cell")
    assert found["n_pairs"].to_dict() == {"cure": 7, "other": 4}
    assert found.loc["cure", "p_holm"] == found.loc["cure", "p"] == 2.0**-6
    assert np.isnan(found.loc["other", "p_holm"])


def test_a_comparison_that_two_designs_share_counts_once():
    outcomes = {("a", name): ["converged" if name else "at_chance"] * 8 for name in ("", "x", "y")}
    runs, verdicts = ablation({(task, name or "base"): ends for (task, name), ends in outcomes.items()})
    rows = [("a", "first", "x", "base"), ("a", "second", "x", "base"), ("a", "second", "y", "base")]
    designs = pd.DataFrame(rows, columns=["task", "design", "cell", "baseline"])
    found = rates.rate_differences(runs, verdicts, designs)
    assert found["p_holm"].tolist() == found["p"].tolist() == [2.0**-7] * 3


def test_a_cure_that_nearly_always_works_is_found_with_ten_seeds():
    converged = np.random.default_rng(0).random((300, 2, 10)) < np.array([0.05, 0.95])[:, None]
    found = rates.rate_differences(*simulated(converged, ["base", "cure"]))
    assert (found["p"] <= 0.05).mean() > 0.9
    assert found["rate_difference"].mean() == pytest.approx(0.9, abs=0.03)


def test_a_grid_has_sizes_and_strengths_in_order_and_means_over_seeds():
    cells = [(n, strength) for n in (800, None, 200) for strength in (1.0, 0.0)]
    frame = pd.DataFrame([(n, s, seed) for n, s in cells for seed in (0, 1)], columns=["n_images", "strength", "seed"])
    frame = frame.assign(n_images=frame["n_images"].astype("Int64"), task="a", score=[float(i) for i in range(12)])
    table = grid(frame, "score", columns="strength")
    assert table.index.tolist() == [200, 800, "all"]
    assert table.columns.tolist() == [0.0, 1.0]
    assert table.to_numpy().tolist() == [[10.5, 8.5], [2.5, 0.5], [6.5, 4.5]]
    numbered = grid(frame, "score", columns="strength", all_images=500)
    assert numbered.index.tolist() == [200, 500, 800]
    frame.loc[0, "score"] = np.nan
    assert grid(frame, "score", columns="strength").loc[800, 1.0] == 1.0
    assert grid(frame, "score", columns="strength", aggregate="count").loc[800, 1.0] == 1
    half_way = frame.assign(status=[FINISHED] * 2 + [FAILED, "RUNNING"] + [FINISHED] * 8)
    assert np.isnan(grid(half_way, "score", columns="strength").loc[800, 0.0])


def test_a_grid_of_rates_is_the_same_table():
    frame = pd.DataFrame({"n_images": [200, 200], "augmentation_strength": [0.0, 1.0], "rate": [0.2, 0.8]})
    assert grid(frame, "rate").to_numpy().tolist() == [[0.2, 0.8]]


def test_a_grid_does_not_mix_tasks_or_cells_that_differ_otherwise():
    frame = pd.DataFrame({"task": ["a", "b"], "n_images": 200, "augmentation_strength": 1.0, "seed": 0, "x": 1.0})
    with pytest.raises(UserError, match="a grid shows one task, these are a, b"):
        grid(frame, "x")
    with pytest.raises(UserError, match="two runs of n_images 200"):
        grid(frame.assign(task="a"), "x")
    with pytest.raises(UserError, match="no column y"):
        grid(frame, "y")
