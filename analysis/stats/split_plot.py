"""F tests of a balanced split plot whose noise differs between tasks: Box's estimated degrees of freedom."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy import stats


def interaction_p(values: np.ndarray, f: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the p-values of the terms `task`, `cell` and `task:cell`.

    Args:
        values: float64 [..., tasks, cells, seeds].
        f: F statistics [...] of the three terms.

    Returns:
        p-values [...] of each term.
    """
    n_tasks = values.shape[-3]
    seeds = values.mean(axis=-2, keepdims=True)
    between = seeds - seeds.mean(axis=-1, keepdims=True)
    within = values - values.mean(axis=-1, keepdims=True) - between
    mean = np.full((n_tasks, n_tasks), 1 / n_tasks)
    differences = np.eye(n_tasks) - mean
    tests = {"task": (differences, between), "cell": (mean, within), "task:cell": (differences, within)}
    return {term: box_p(f[term], hypothesis, residuals) for term, (hypothesis, residuals) in tests.items()}


def box_p(f: np.ndarray, hypothesis: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Return p-values of F in a balanced split plot, for any noise of each task and any correlations.

    The degrees of freedom match the variances of the numerator and denominator of F (Box 1954, Annals of Mathematical
    Statistics 25:290 and 25:484). Covariances are estimated, as in Brunner, Dette and Munk 1997.

    Args:
        f: F statistics [...].
        hypothesis: Projection of the tasks' means that is tested, float64 [T, T].
        residuals: float64 [..., T, C, n], n seeds; F's denominator is their mean square.
    """
    n_seeds, weight = residuals.shape[-1], np.diag(hypothesis)
    covariances = residuals @ np.swapaxes(residuals, -1, -2) / (n_seeds - 1)
    products = np.einsum("...tcd,...udc->...tu", covariances, covariances)
    total = (weight * np.trace(covariances, axis1=-2, axis2=-1)).sum(axis=-1) ** 2
    df = total / (hypothesis**2 * products).sum(axis=(-2, -1))
    df_rest = (n_seeds - 1) * total / (weight**2 * np.diagonal(products, axis1=-2, axis2=-1)).sum(axis=-1)
    return stats.f.sf(f, df, df_rest)
