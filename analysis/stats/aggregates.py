"""Aggregates of normalized scores over tasks: interquartile mean and probability of improvement.

The statistics are those of Agarwal et al. 2021 (2108.13264), the intervals are not: a percentile bootstrap over whole
seeds covers 88 to 93% with 10 seeds where 95% are claimed, and 54 to 83% for a probability near 1. The intervals
here use a jackknife that leaves out one seed at a time in all tasks, since tasks share their seeds. They need no random
numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import beta, norm, t, trim_mean

from analysis.stats.significance import ALPHA

MIN_INTERVAL_SEEDS = 10  # with fewer seeds, the numbers describe these runs and have no interval
_Z = norm.ppf(1 - ALPHA / 2)


def interquartile_mean(values: np.ndarray) -> float:
    """Return the mean of the middle half of all values; a quarter is rounded down at either end.

    Args:
        values: Scores, float64 [n_seeds, n_tasks].
    """
    return float(trim_mean(values, 0.25, axis=None))


def interquartile_mean_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of `interquartile_mean`: t with a jackknife variance over whole seeds.

    Measured coverage: 94 to 95.5% for two or more tasks, 93% for one.

    Args:
        values: Scores, float64 [n_seeds, n_tasks].

    Returns:
        Lower and upper end; NaN below MIN_INTERVAL_SEEDS seeds.
    """
    if len(values) < MIN_INTERVAL_SEEDS:
        return np.nan, np.nan
    mean = interquartile_mean(values)
    half = t.ppf(1 - ALPHA / 2, len(values) - 1) * np.sqrt(jackknife_variance(interquartile_mean, values))
    return mean - half, mean + half


def improvement_probability(values: np.ndarray) -> float:
    """Return P(cell > baseline), ties counting half, over pairs of different seeds, averaged over tasks.

    This is the Mann-Whitney statistic of Agarwal et al. 2021 without the pairs of equal seeds, which share images and
    initialization.

    Args:
        values: Scores of the cell and of the baseline, float64 [n_seeds, n_tasks, 2], n_seeds >= 2.
    """
    n = len(values)
    wins = np.sign(values[:, None, :, 0] - values[None, :, :, 1]).mean(axis=-1)
    return float(0.5 + 0.5 * (wins.sum() - np.trace(wins)) / (n * (n - 1)))


def improvement_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of `improvement_probability` (Korn and Graubard 1998).

    This is the exact binomial interval at the effective number of pairs, which a jackknife over whole seeds estimates,
    but at most the number of trials. Measured coverage: 96.5 to 100%, even if the true probability is 0.98 and every
    pair agrees.

    Args:
        values: Scores of the cell and of the baseline, float64 [n_seeds, n_tasks, 2].

    Returns:
        Lower and upper end; NaN below MIN_INTERVAL_SEEDS seeds.
    """
    n_seeds, n_tasks, _ = values.shape
    if n_seeds < MIN_INTERVAL_SEEDS:
        return np.nan, np.nan
    probability = improvement_probability(values)
    variance = jackknife_variance(improvement_probability, values)
    n = float(n_seeds)  # if every pair agrees, the variance is unknown: tasks may repeat one another
    if 0 < probability < 1 and variance > 0:
        degrees = (_Z / t.ppf(1 - ALPHA / 2, n_seeds - 1)) ** 2
        n = min(probability * (1 - probability) / variance * degrees, 2.0 * n_seeds * n_tasks)
    wins, losses = n * probability, n * (1 - probability)
    low = beta.ppf(ALPHA / 2, wins, losses + 1) if wins > 0 else 0.0
    high = beta.ppf(1 - ALPHA / 2, wins + 1, losses) if losses > 0 else 1.0
    return float(low), float(high)


def jackknife_variance(statistic: Callable[[np.ndarray], float], values: np.ndarray) -> float:
    """Return the jackknife variance of a statistic, leaving out one row (seed) at a time (Tukey 1958).

    Args:
        statistic: Function of an array shaped like `values` with one row less.
        values: float64 [n_seeds, ...].
    """
    n = len(values)
    without = np.array([statistic(np.delete(values, seed, axis=0)) for seed in range(n)])
    return float((n - 1) ** 2 / n * without.var(ddof=1))
