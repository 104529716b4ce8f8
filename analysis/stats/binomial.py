"""Exact binomial statistics of proportions and of paired yes/no outcomes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from analysis.stats.paired import holm
from analysis.stats.significance import ALPHA


def exact_interval(count: ArrayLike, n: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact 95% interval of a proportion (Clopper and Pearson 1934).

    It covers at least 95% at any n, and it is wide: [0.29, 1] for 3 of 3, [0.48, 1] for 5 of 5, [0.69, 1] for 10 of
    10.

    Args:
        count: Number of successes, [M].
        n: Number of trials, [M].

    Returns:
        Lower and upper ends, float64 [M] each.
    """
    low, high = proportion_confint(np.asarray(count), np.asarray(n), alpha=ALPHA, method="beta")
    return np.asarray(low, np.float64), np.asarray(high, np.float64)


def wilson_interval(share: ArrayLike, n: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95% score interval of a proportion (Wilson 1927).

    Its coverage is close to 95% on average over proportions, where `exact_interval` is too wide (Brown, Cai and
    DasGupta 2001, Statistical Science 16).

    Args:
        share: Proportion of successes in [0, 1], [M]; NaN gives NaN.
        n: Number of trials, [M]; 0 gives NaN.

    Returns:
        Lower and upper ends, float64 [M] each.
    """
    share, n = np.asarray(share, np.float64), np.asarray(n, np.float64)
    n = np.where(n > 0, n, np.nan)
    low, high = proportion_confint(share * n, n, alpha=ALPHA, method="wilson")
    return np.asarray(low, np.float64), np.asarray(high, np.float64)


def difference_interval(share: float, n: int, other: float, n_other: int) -> tuple[float, float]:
    """Return the 95% interval of the difference of two independent proportions (Newcombe 1998, method 10).

    It combines the `wilson_interval` of each.

    Args:
        share: First proportion, in [0, 1].
        n: Its number of trials, at least 1.
        other: Proportion that is subtracted.
        n_other: Its number of trials, at least 1.
    """
    low, high = confint_proportions_2indep(
        share * n, n, other * n_other, n_other, method="newcomb", compare="diff", alpha=ALPHA
    )
    return float(low), float(high)


def mcnemar_p(only_first: ArrayLike, only_second: ArrayLike) -> np.ndarray:
    """Return the p-values of the exact two-sided McNemar test (1947), a binomial test of the discordant pairs.

    Args:
        only_first: Number of pairs in which only the first member succeeded, [M].
        only_second: Number of pairs in which only the second did, [M].

    Returns:
        p-values, float64 [M]; 1 if no pair is discordant.
    """
    first, second = np.asarray(only_first), np.asarray(only_second)
    return np.minimum(1.0, 2 * binom.cdf(np.minimum(first, second), first + second, 0.5))


def mcnemar_can_reject(n_pairs: np.ndarray) -> np.ndarray:
    """Return which McNemar tests of a family could be significant after Holm's correction, whatever their outcomes.

    The smallest possible p-value of n pairs is 2^(1 - n). A test that cannot reject does not count in the family, which
    may let others reject. The answer depends on numbers of pairs alone and never on outcomes.

    Args:
        n_pairs: Number of pairs of each test, int64 [M].

    Returns:
        bool [M].
    """
    can = np.asarray(n_pairs) > 0
    while can.any():
        smallest = np.where(can, 2.0 ** (1 - np.asarray(n_pairs)), np.nan)
        still = can & (holm(smallest) <= ALPHA)
        if (still == can).all():
            break
        can = still
    return can


def mcnemar_pairs_needed(n_tests: int) -> int:
    """Return the number of pairs with which each of `n_tests` McNemar tests could be significant after Holm."""
    return math.ceil(1 + math.log2(max(n_tests, 1) / ALPHA))
