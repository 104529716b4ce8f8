"""The data-size law: fitted without the largest size and tested there, with an interval only where it is calibrated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from analysis.comparisons import data_size_law
from analysis.records import FAILED, FINISHED
from analysis.stats import Law, fit_law
from analysis.stats.scaling_law import BEYOND_NOISE, TOO_FEW_SEEDS, TOO_FEW_SIZES, WITHIN_NOISE
from trainables.errors import UserError

SIZES = (100, 300, 1000, 3000, 10_000)
TRUTH = Law(0.8, -3.0, 0.5)  # from 0.5 at 100 images


def sweep(values: np.ndarray, sizes: Sequence[int] = SIZES) -> pd.DataFrame:
    """Return runs of values [n_tasks, n_seeds, n_sizes]."""
    tasks, seeds, at = (index.ravel() for index in np.indices(values.shape))
    runs = pd.DataFrame({"task": [f"task{task}" for task in tasks], "seed": seeds, "score": values.ravel()})
    return runs.assign(n_images=pd.array(np.array(sizes)[at], dtype="Int64"), status=FINISHED)


def noisy(law: Law, n_tasks: int, n_seeds: int, *, sd: float, sizes: Sequence[int] = SIZES, rng: int = 0) -> np.ndarray:
    """Return a law's values with noise of which half the variance is the seed's, shared by its nested subsets."""
    draw = np.random.default_rng(rng).normal
    noise = draw(size=(n_tasks, n_seeds, 1)) + draw(size=(n_tasks, n_seeds, len(sizes)))
    return law(np.array(sizes, float)) + sd * np.sqrt(0.5) * noise  # type: ignore[arg-type]


@pytest.mark.parametrize("law", [TRUTH, Law(0.8, -0.9, 0.25), Law(0.1, 40.0, 1.0), Law(2.0, 0.0, 0.5)])
def test_a_law_without_noise_is_found_whether_it_rises_falls_or_is_flat(law: Law):
    sizes = np.array(SIZES, float)
    found = fit_law(sizes[:-1], law(sizes[:-1]))
    assert found(30_000) == pytest.approx(law(30_000), abs=1e-5)
    if law.b:
        assert found == pytest.approx(law, rel=1e-3)


def test_the_largest_size_judges_the_law_and_has_no_part_in_it():
    values = np.tile(TRUTH(np.array(SIZES, float)), (2, 1, 1))  # type: ignore[arg-type]
    values[1, 0, -1] -= 0.1
    found = data_size_law(sweep(values), "score")
    assert found["a"].tolist() == pytest.approx([0.8, 0.8], abs=1e-6)
    assert found["predicted"].tolist() == pytest.approx([0.77, 0.77], abs=1e-6)
    assert found["observed"].tolist() == pytest.approx([0.77, 0.67])
    assert found["error"].tolist() == pytest.approx([0.0, 0.1], abs=1e-6)
    assert (found["n_held_out"] == 10_000).all()


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [5, 8, 10])
def test_the_interval_of_the_error_holds_0_in_95_percent_of_studies_where_the_law_is_true(n_seeds: int):
    n = 150
    found = data_size_law(sweep(noisy(TRUTH, n, n_seeds, sd=0.02, rng=n_seeds)), "score")
    wrong = int(((found["error_low"] > 0) | (found["error_high"] < 0)).sum())
    assert binom.ppf(5e-4, n, 0.05) <= wrong <= binom.ppf(1 - 5e-4, n, 0.05)
    assert (found["answer"] == WITHIN_NOISE).sum() == n - wrong


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [5, 10])
@pytest.mark.parametrize("law", [Law(0.8, -0.9, 0.25), Law(0.7, 0.0, 0.5)])
def test_coverage_is_what_the_docstring_says_for_slow_flat_and_noisy_laws(law: Law, n_seeds: int):
    n = 1000
    found = data_size_law(sweep(noisy(law, n, n_seeds, sd=0.03, rng=n_seeds)), "score")
    covered = int(((found["error_low"] <= 0) & (found["error_high"] >= 0)).sum())
    assert binom.ppf(1e-3, n, 0.93) <= covered <= binom.ppf(1 - 1e-3, n, 0.97)


def test_a_size_beyond_the_law_is_off_by_more_than_noise():
    values = noisy(TRUTH, 20, 5, sd=0.005)
    values[:, :, -1] -= 0.05  # too few steps for so many images
    found = data_size_law(sweep(values), "score")
    assert (found["answer"] == BEYOND_NOISE).all()
    assert found["error"].mean() == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(
    ("n_sizes", "n_seeds", "answer", "fitted"),
    [
        (3, 10, TOO_FEW_SIZES, False),
        (4, 10, TOO_FEW_SIZES, True),
        (5, 4, TOO_FEW_SEEDS, True),
        (5, 5, WITHIN_NOISE, True),
    ],
)
def test_an_interval_is_shown_only_where_it_holds(n_sizes: int, n_seeds: int, answer: str, fitted: bool):
    sizes = SIZES[:n_sizes]
    row = data_size_law(sweep(noisy(TRUTH, 1, n_seeds, sd=0.01, sizes=sizes), sizes), "score").iloc[0]
    assert (row["answer"], row["n_sizes"], row["n_seeds"]) == (answer, n_sizes, n_seeds)
    assert pd.notna(row["error"]) == pd.notna(row["c"]) == fitted
    assert pd.notna(row["error_low"]) == (answer == WITHIN_NOISE)


def test_seeds_without_a_value_at_every_size_are_left_out_of_all():
    values = noisy(TRUTH, 1, 6, sd=0.01)
    whole = data_size_law(sweep(values[:, 1:]), "score").iloc[0]
    runs = sweep(values)
    runs.loc[2, "score"] = np.nan
    assert data_size_law(runs, "score").iloc[0].equals(whole)
    failed = sweep(values)
    failed.loc[2, "status"] = FAILED
    assert data_size_law(failed, "score").iloc[0].equals(whole)
    nobody = data_size_law(runs[runs["seed"] == 0], "score").iloc[0]
    assert (nobody["answer"], nobody["n_seeds"]) == (TOO_FEW_SEEDS, 0)


def test_all_images_need_a_number_and_a_seed_counts_once():
    runs = sweep(noisy(TRUTH, 1, 5, sd=0.01))
    expected = data_size_law(runs, "score").iloc[0]
    runs.loc[runs["n_images"] == 10_000, "n_images"] = pd.NA
    with pytest.raises(UserError, match="5 trials have no n_images, which means all"):
        data_size_law(runs, "score")
    assert data_size_law(runs, "score", all_images=10_000).iloc[0].equals(expected)
    with pytest.raises(UserError, match="two runs of task 'task0', n_images 100, seed 0"):
        data_size_law(pd.concat([runs, runs.head(1)]), "score", all_images=10_000)
    with pytest.raises(UserError, match="no column strength, height"):
        data_size_law(runs, "height", by=["task", "strength"])


def test_the_untrained_baseline_is_no_sweep():
    runs = sweep(noisy(TRUTH, 1, 5, sd=0.01))
    assert len(data_size_law(pd.concat([runs, runs.assign(task="random_init")]), "score")) == 1
