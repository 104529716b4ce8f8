"""Statistics of paired differences: arrays [..., n] of one difference a seed in, one number a comparison out.

All take finite differences, cell minus baseline in the metric's own units, float64, seeds along the last axis. What
holds of them at 3 to 10 seeds is measured in tests/analysis/stats/test_coverage.py; the numbers quoted here are from there.

Differences that are all the same have no spread to judge by: they get no interval and no effect size, and a test of
their signs alone in place of t, which would call any of them certain.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from scipy import stats
from scipy.optimize import brentq
from scipy.special import gammaln

Test = Literal["paired t", "sign-flip"]
Alternative = Literal["two-sided", "less", "greater"]

PAIRED_T: Test = "paired t"
SIGN_FLIP: Test = "sign-flip"
MIN_SEEDS = 5  # below, no test: dots and means
SIGN_FLIP_SEEDS = 8
BCA_SEEDS = 10
POWER = 0.8
RESAMPLES = 99_999  # sign patterns: all of them up to 16 seeds, this many at random above
BOOTSTRAP_RESAMPLES = 9_999
IN_CACHE = 10**6  # values resampled at a time: larger batches are eight times slower
SAME = 1e-9  # relative: differences closer than this are one number and its rounding


def choose_test(n_seeds: int, n_comparisons: int, alpha: float) -> Test:
    """Return which test answers a comparison; the choice depends on the plan and never on the values.

    The sign-flip test from 8 seeds on, since it is exact whatever the symmetric distribution. Its smallest p-value is
    2^(1 - n), so it can say nothing in a family of more than alpha 2^(n - 1) comparisons (6 at 8 seeds and 5 %): there,
    and below 8 seeds, the paired t-test. In a family of just that size its power is 0.6 to 0.7 where that of t is 0.8.
    """
    can_answer = 2.0 ** (1 - n_seeds) * n_comparisons <= alpha
    return SIGN_FLIP if n_seeds >= SIGN_FLIP_SEEDS and can_answer else PAIRED_T


def p_value(differences: np.ndarray, test: Test, alternative: Alternative = "two-sided") -> np.ndarray:
    """Return p-values [...] of no difference: of a mean of 0 (t), or of a distribution symmetric about 0 (sign-flip).

    The sign-flip test (Fisher 1935, chapter 21) takes all 2^n sign patterns up to n = 16, and 99,999 random ones,
    always the same, above.
    """
    differences = np.asarray(differences, np.float64)
    rows = differences.reshape(-1, differences.shape[-1])
    by_signs = _all_same(rows) if test == PAIRED_T else np.ones(len(rows), bool)
    p = np.empty(len(rows))
    if by_signs.any():
        p[by_signs] = _sign_flip_p(rows[by_signs], alternative)
    if not by_signs.all():
        p[~by_signs] = stats.ttest_1samp(rows[~by_signs], 0.0, axis=-1, alternative=alternative).pvalue
    return p.reshape(differences.shape[:-1])


def equivalence_p(differences: np.ndarray, margin: float, test: Test) -> np.ndarray:
    """Return p-values [...] of a mean difference of `margin` or more, either way: two one-sided tests.

    Schuirmann 1987: the larger p-value of the two, each of which asks about one end of (-margin, margin).
    """
    differences = np.asarray(differences, np.float64)
    above_low = p_value(differences + margin, test, "greater")
    below_high = p_value(differences - margin, test, "less")
    return np.maximum(above_low, below_high)


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values [..., M] adjusted for the M of a family (Holm 1979); NaN, of a comparison not tested, is not one.

    Not statsmodels' `multipletests`, which runs a full garbage collection at every call, some 80 ms for each family.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, axis=-1)  # NaN last
    n_tested = np.isfinite(p).sum(axis=-1, keepdims=True)
    scaled = np.take_along_axis(p, order, axis=-1) * (n_tested - np.arange(p.shape[-1]))
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(scaled, axis=-1), 1.0), axis=-1)
    return adjusted


def t_interval(differences: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the t interval (low [...], high [...]) of the mean difference; NaN for differences that are all the same.

    Exact for normal differences. At 5 to 10 seeds, nominal 95 % covers 96 % for heavy tails (t with 4 degrees of
    freedom), 93.5 % for a skewness of 1, and 94.5 % for shares of 200 right answers, 0.9 against 0.8.
    """
    differences = np.asarray(differences, np.float64)
    n = differences.shape[-1]
    mean, error = differences.mean(axis=-1), _sd(differences) / np.sqrt(n)
    half = stats.t.ppf((1 + confidence) / 2, n - 1) * error
    return mean - half, mean + half


def bca_interval(differences: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a BCa bootstrap interval (low [...], high [...]) of the mean difference (Efron 1987), always the same one.

    At its nominal level BCa is too short for so few values: 95 % covers 90 % of the time at 10 seeds and 93 % at 20. So
    it is taken at the level at which a percentile interval of normal values would be as long as the t interval
    (Hesterberg 2015, The American Statistician 69:371, "expanded"). Nominal 95 % then covers 94 % at 10 seeds, of
    normal and of mildly skewed differences, and 92 % for heavy tails. NaN where they are too alike to resample.
    """
    differences = np.asarray(differences, np.float64)
    n, unit = differences.shape[-1], _unit(differences)
    z = np.sqrt(n / (n - 1)) * stats.t.ppf((1 + confidence) / 2, n - 1)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # the interval is NaN then, which says it
        interval = stats.bootstrap(
            (differences / unit[..., None],),
            _rounded_mean,
            axis=-1,
            method="BCa",
            vectorized=True,
            confidence_level=2 * stats.norm.cdf(z) - 1,
            n_resamples=BOOTSTRAP_RESAMPLES,
            batch=max(1, IN_CACHE // differences.size),
            rng=np.random.default_rng(0),
        ).confidence_interval
    return unit * interval.low, unit * interval.high


def hedges_g(differences: np.ndarray) -> np.ndarray:
    """Return Hedges' g_z [...]: mean over standard deviation of the differences, freed from small-sample bias.

    The factor is the exact one, Gamma(m/2) / (sqrt(m/2) Gamma((m - 1)/2)) with m = n - 1 (Hedges 1981, equation 6e).
    It comes without an interval: that from the noncentral t, exact for normal differences, covers a true value of 1
    not 95 % of the time but 90 to 93 % for heavy tails, and 87 to 99 % for a skewness of 1, at 5 to 10 seeds.
    """
    differences = np.asarray(differences, np.float64)
    m = differences.shape[-1] - 1
    unbias = np.exp(gammaln(m / 2) - gammaln((m - 1) / 2)) / np.sqrt(m / 2)
    return unbias * differences.mean(axis=-1) / _sd(differences)


def smallest_detectable(differences: np.ndarray, alpha: float) -> np.ndarray:
    """Return the mean difference [...] that a paired t-test at level alpha finds with probability 0.8 at this n.

    In the metric's units, taking the standard deviation of the differences for the true one. Not by the `TTestPower` of
    statsmodels 0.15, whose solver stops at the first NaN of its own power: at 5 seeds and alpha = 0.05 / 20 it answers
    2.98 standard deviations, which are found with probability 0.57, in place of 3.78.
    """
    differences = np.asarray(differences, np.float64)
    n = differences.shape[-1]
    critical = stats.t.isf(alpha / 2, n - 1)
    missed = (1 - POWER) / 4  # at the upper end by the normal part of t, and as often by its chi
    most = critical * np.sqrt(stats.chi2.isf(missed, n - 1) / (n - 1)) + stats.norm.isf(missed)
    noncentrality = brentq(lambda size: stats.nct.sf(critical, n - 1, size) - POWER, 0.0, most)
    return noncentrality / np.sqrt(n) * _sd(differences)


def _sign_flip_p(rows: np.ndarray, alternative: Alternative) -> np.ndarray:
    test = stats.permutation_test(
        (rows / _unit(rows)[:, None],),
        _rounded_mean,
        permutation_type="samples",
        vectorized=True,
        alternative=alternative,
        axis=-1,
        n_resamples=RESAMPLES,
        batch=max(1, IN_CACHE // rows.size),
        rng=np.random.default_rng(0),
    )
    return test.pvalue


def _unit(differences: np.ndarray) -> np.ndarray:
    """Return the largest size [...] of the differences, 1 where all are 0."""
    largest = np.abs(differences).max(axis=-1)
    return np.where(largest > 0, largest, 1.0)


def _rounded_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return means, of values up to 1, in which a tie is a tie: sums of equal shares are equal only nearly."""
    return np.round(values.mean(axis=axis), 12)


def _sd(differences: np.ndarray) -> np.ndarray:
    """Return the sample standard deviation; NaN, not the rounding error, where all differences are the same."""
    return np.where(_all_same(differences), np.nan, differences.std(axis=-1, ddof=1))


def _all_same(differences: np.ndarray) -> np.ndarray:
    return np.ptp(differences, axis=-1) <= SAME * np.abs(differences).max(axis=-1)
