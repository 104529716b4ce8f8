"""Paired differences: each number is what its definition says, also for ties and for no spread at all."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from analysis.stats import paired
from analysis.stats.paired import PAIRED_T, SIGN_FLIP


def differences(n: int, mean: float = 0.01, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 0.01, n)


def counted_by_hand(points: list[int], alternative: str) -> float:
    """Return the sign-flip p-value over all patterns, in whole numbers, where ties are ties."""
    sums = np.array([np.dot(signs, points) for signs in itertools.product((1, -1), repeat=len(points))])
    below, above = np.mean(sums <= sum(points)), np.mean(sums >= sum(points))
    return {"less": below, "greater": above, "two-sided": min(1.0, 2 * min(below, above))}[alternative]


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
@pytest.mark.parametrize(
    "points", [[3, 1, 2, 4, -1, 2, 5, 1], [1, 1, 1, -1, 1, 1, 0, 0, 2], [0] * 8, [1] * 8, [2, -2] * 4]
)
def test_the_sign_flip_p_value_is_the_share_of_sign_patterns(points: list[int], alternative: paired.Alternative):
    shares = np.array(points) / 200  # accuracies over 200 images tie, and 1/200 is no binary number
    assert paired.p_value(shares, SIGN_FLIP, alternative) == pytest.approx(counted_by_hand(points, alternative))


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_the_paired_t_is_scipys(alternative: paired.Alternative):
    cell, baseline = np.random.default_rng(0).normal(0.5, 0.1, (2, 6))
    expected = stats.ttest_rel(cell, baseline, alternative=alternative).pvalue
    assert paired.p_value(cell - baseline, PAIRED_T, alternative) == pytest.approx(expected, rel=1e-9)


def test_above_16_seeds_sign_patterns_are_drawn_and_always_the_same():
    many = differences(30, 0.004)
    p = paired.p_value(many, SIGN_FLIP)
    assert p == paired.p_value(many, SIGN_FLIP)
    assert p == pytest.approx(paired.p_value(many, PAIRED_T), rel=0.1)


@pytest.mark.parametrize(
    ("n", "n_comparisons", "test"),
    [(5, 1, PAIRED_T), (7, 1, PAIRED_T), (8, 1, SIGN_FLIP), (8, 6, SIGN_FLIP), (8, 7, PAIRED_T), (9, 12, SIGN_FLIP)],
)
def test_signs_are_flipped_from_8_seeds_on_where_that_can_still_be_significant(n: int, n_comparisons: int, test: str):
    assert paired.choose_test(n, n_comparisons, 0.05) == test
    extreme = np.full(n_comparisons, paired.p_value(np.arange(1.0, n + 1), SIGN_FLIP))
    assert (paired.holm(extreme)[0] <= 0.05) == (test == SIGN_FLIP or (n >= 6 and n_comparisons == 1))


def test_every_function_takes_arrays_of_comparisons_and_says_of_each_what_it_says_of_it_alone():
    block = np.random.default_rng(0).normal(0.01, 0.01, (2, 3, 10))
    functions = {
        "t": lambda d: paired.p_value(d, PAIRED_T),
        "signs": lambda d: paired.p_value(d, SIGN_FLIP, "less"),
        "equivalence": lambda d: paired.equivalence_p(d, 0.02, PAIRED_T),
        "t interval": lambda d: paired.t_interval(d, 0.95),
        "bca": lambda d: paired.bca_interval(d, 0.95),
        "g": paired.hedges_g,
        "detectable": lambda d: paired.smallest_detectable(d, 0.05),
    }
    for name, function in functions.items():
        together = np.asarray(function(block))
        assert together.shape[-2:] == (2, 3), name
        for i, j in np.ndindex(2, 3):
            np.testing.assert_allclose(together[..., i, j], np.asarray(function(block[i, j])), rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("values", [[0.01] * 6, [0.0] * 6, [-0.0, 0.0] * 3, [0.51 - 0.5, 0.61 - 0.6, 0.71 - 0.7] * 2])
def test_equal_differences_have_no_interval_and_no_size_and_are_judged_by_their_signs(values: list[float]):
    same = np.array(values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paired.p_value(same, PAIRED_T) == (2.0**-5 if same[0] else 1.0)
        assert paired.equivalence_p(same, 0.02, PAIRED_T) == 2.0**-6
        assert paired.equivalence_p(same, 0.005, PAIRED_T) == (1.0 if same[0] else 2.0**-6)
        intervals = [
            paired.t_interval(same, 0.95),
            paired.bca_interval(same, 0.95),
        ]
        assert np.isnan([*intervals, [paired.hedges_g(same), paired.smallest_detectable(same, 0.05)]]).all()


def test_a_t_interval_leaves_out_0_exactly_where_p_is_significant():
    many = np.random.default_rng(0).normal(0.01, 0.01, (500, 5))
    low, high = paired.t_interval(many, 0.95)
    significant = paired.p_value(many, PAIRED_T) < 0.05
    assert 50 < significant.sum() < 450
    assert (((low > 0) | (high < 0)) == significant).all()


def test_equivalence_is_the_90_percent_interval_within_the_margin():
    many = np.random.default_rng(0).normal(0.004, 0.006, (500, 5))
    low, high = paired.t_interval(many, 0.90)
    equivalent = paired.equivalence_p(many, 0.01, PAIRED_T) < 0.05
    assert 50 < equivalent.sum() < 450
    assert (((low > -0.01) & (high < 0.01)) == equivalent).all()
    p = DescrStatsW(many[0]).ttost_mean(-0.01, 0.01)[0]
    assert paired.equivalence_p(many[0], 0.01, PAIRED_T) == pytest.approx(p)


@pytest.mark.parametrize("p", [[0.3], [0.04, 0.01, 0.03, 0.005], [0.2, 0.2, 0.01, 0.9, 0.01], [0.0, 1.0, 0.5]])
def test_holm_is_that_of_statsmodels(p: list[float]):
    np.testing.assert_allclose(paired.holm(np.array(p)), multipletests(p, method="holm")[1], rtol=1e-12)


def test_holm_counts_no_comparison_that_was_not_tested_and_takes_families_at_once():
    p = np.array([0.04, np.nan, 0.01, np.nan])
    np.testing.assert_array_equal(paired.holm(p), [0.04, np.nan, 0.02, np.nan])
    families = np.array([p, [0.01, 0.5, 0.02, 0.03], [np.nan] * 4])
    np.testing.assert_array_equal(paired.holm(families), [paired.holm(family) for family in families])
    assert paired.holm(np.array([])).shape == (0,)


def test_hedges_g_is_mean_over_deviation_less_its_small_sample_bias():
    for n, factor in ((5, 0.7979), (8, 0.8882), (10, 0.9139)):  # Hedges 1981, table 1, at 4, 7 and 9
        values = differences(n)
        assert paired.hedges_g(values) == pytest.approx(factor * values.mean() / values.std(ddof=1), rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.floats(0.01, 100), st.integers(0, 50))
def test_what_is_measured_scales_with_the_unit_and_turns_with_the_sign(unit: float, seed: int):
    values = differences(9, seed=seed)
    for test in (PAIRED_T, SIGN_FLIP):
        assert paired.p_value(-unit * values, test) == pytest.approx(paired.p_value(values, test))
    assert paired.hedges_g(-unit * values) == pytest.approx(-paired.hedges_g(values))
    low, high = paired.t_interval(values, 0.95)
    np.testing.assert_allclose(paired.t_interval(-unit * values, 0.95), (-unit * high, -unit * low))
    detectable = paired.smallest_detectable(values, 0.05)
    assert paired.smallest_detectable(-unit * values, 0.05) == pytest.approx(unit * detectable)


def test_the_smallest_detectable_difference_is_that_of_statsmodels_where_that_can_tell():
    for n, alpha in ((5, 0.05), (8, 0.05), (10, 0.01), (30, 0.05 / 12)):
        values = differences(n)
        expected = TTestPower().solve_power(nobs=n, alpha=alpha, power=0.8) * values.std(ddof=1)
        assert paired.smallest_detectable(values, alpha) == pytest.approx(expected, rel=1e-3)


def test_more_comparisons_never_make_a_smaller_difference_detectable():
    values = differences(5)
    detectable = [paired.smallest_detectable(values, 0.05 / m) for m in range(1, 400, 7)]
    assert (np.diff(detectable) > 0).all()


def test_a_bootstrap_interval_is_always_the_same_and_about_the_t_interval_for_normal_values():
    values = differences(12)
    low, high = paired.bca_interval(values, 0.95)
    assert (low, high) == paired.bca_interval(values, 0.95)
    t_low, t_high = paired.t_interval(values, 0.95)
    assert low < values.mean() < high
    assert (high - low) == pytest.approx(t_high - t_low, rel=0.2)


def test_a_bootstrap_interval_leans_to_the_long_tail():
    skewed = np.array([0.0, 0.001, 0.002, 0.001, 0.0, 0.003, 0.002, 0.001, 0.03, 0.012])
    low, high = paired.bca_interval(skewed, 0.95)
    assert high - skewed.mean() > 1.5 * (skewed.mean() - low)
