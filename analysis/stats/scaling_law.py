"""How does a metric grow with the number of images? The law a + b n^-c, judged on a size that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.stats import t

from analysis.comparisons.cells import check_one_run_a_seed
from analysis.stats.rates import ALPHA, finished_values
from trainables.errors import UserError
from trainables.trial import BASELINES

MIN_SIZES = 4  # three to fit three numbers, one to judge them by
JUDGED_SIZES, JUDGED_SEEDS = 5, 5  # from which on the error has an interval that holds
EXPONENTS = (0.02, 3.0)  # below, the law is a logarithm; above, one size differs from all others
HOLDS, FAILS = "within noise", "off by more than noise"
TOO_FEW_SIZES, TOO_FEW_SEEDS = "too few sizes", "too few seeds"

_STARTS = np.geomspace(*EXPONENTS, 20)
_COLUMNS = ["n_sizes", "n_seeds", "a", "b", "c", "n_held_out", "predicted", "observed", "error"]


class Law(NamedTuple):
    """a + b n^-c: a is the value at infinitely many images, b < 0 where more images give a higher value."""

    a: float
    b: float
    c: float

    def __call__(self, n_images: float) -> float:
        """Return the law's value at `n_images`."""
        return self.a + self.b * n_images**-self.c


def data_size_law(
    runs: pd.DataFrame, metric: str, by: Sequence[str] = ("task",), *, all_images: int | None = None
) -> pd.DataFrame:
    """Fit a + b n_images^-c to all but the largest size, and predict the largest; one row a group.

    runs: one trial for each group, n_images and seed, alike in all else: the cells of a size sweep at one strength.
        Seeds that did not finish with a finite value at every size are left out: all sizes are judged on the same ones.
    metric: a numeric column of `runs`. all_images: the number of images that a missing n_images stands for.

    Returns *by, n_sizes, n_seeds, a, b, c, n_held_out, predicted, observed (mean over seeds at the largest size),
    error (predicted - observed), error_low, error_high, answer.
    error_low, error_high: 95 % interval of the error, t with a jackknife over whole seeds, since a seed's subsets are
        nested and its values correlated. Only from 5 sizes and 5 seeds on: there its measured coverage is 93 to 97 %,
        with 4 sizes 89 to 96 % (tests/analysis/stats/test_scaling_law.py). It tells whether the law fails, not that it is true.
    answer: `within noise` (0 lies in the interval), `off by more than noise`, `too few seeds` or `too few sizes` for an
        interval; with fewer than 4 sizes, or no seed that has them all, nothing is fitted either.

    Source of the form: power laws of learning curves (Hestness 2017, 1712.00409). Raises UserError for a column that is
    not there, a missing n_images without `all_images`, and a seed that is there twice.
    """
    by = list(by)
    points = _points(runs, metric, by, all_images)
    rows = []
    for key, group in points.groupby(by, sort=False, dropna=False):
        wide = group.pivot(index="seed", columns="n_images", values=metric).sort_index(axis=1)
        row = _judge(wide.columns.to_numpy(np.float64), wide.dropna().to_numpy(np.float64))
        rows.append(dict(zip(by, key, strict=True)) | row)
    return pd.DataFrame(rows, columns=[*by, *_COLUMNS, "error_low", "error_high", "answer"])


def fit_law(n_images: np.ndarray, values: np.ndarray) -> Law:
    """Return the least-squares law of `values` [k] at `n_images` [k], k >= 3 of them different.

    For a given c the law is linear in a and b; what remains is a search over c alone in EXPONENTS (variable projection,
    Golub and Pereyra 1973), which has no starting values to go wrong.
    """
    n, v = np.asarray(n_images, np.float64), np.asarray(values, np.float64)
    smallest = n.min()  # in units of it b is the distance from the asymptote there, whatever c

    def solved(c: float) -> tuple[float, float, float]:
        """Return the squared error of the line through (n^-c, v), its intercept and its slope."""
        x = (n / smallest) ** -c
        dx, dv = x - x.mean(), v - v.mean()
        slope = dx @ dv / (dx @ dx)
        return float(np.sum((dv - slope * dx) ** 2)), float(v.mean() - slope * x.mean()), float(slope)

    start = int(np.argmin([solved(c)[0] for c in _STARTS]))
    bounds = np.log(_STARTS[[max(start - 1, 0), min(start + 1, len(_STARTS) - 1)]])
    found = minimize_scalar(lambda log_c: solved(np.exp(log_c))[0], bounds=bounds, method="bounded")
    c = float(np.exp(found.x))
    _, a, b = solved(c)
    return Law(a, float(b * smallest**c), c)


def _points(runs: pd.DataFrame, metric: str, by: list[str], all_images: int | None) -> pd.DataFrame:
    names = [*by, "n_images", "seed", metric]
    if missing := [name for name in names if name not in runs]:
        raise UserError(f"these runs have no column {', '.join(missing)}")
    points = runs.loc[~runs["task"].isin(BASELINES)] if "task" in runs else runs
    if points["n_images"].isna().any():
        if all_images is None:
            raise UserError(
                f"{points['n_images'].isna().sum()} trials have no n_images, which means all; "
                "say how many that is: data_size_law(..., all_images=50_000)"
            )
        points = points.assign(n_images=points["n_images"].fillna(all_images))
    check_one_run_a_seed(points, [*by, "n_images"])
    return points[names].assign(**{metric: finished_values(points, metric)})


def _judge(sizes: np.ndarray, values: np.ndarray) -> dict[str, float | int | str]:
    """Judge the law on values [n_seeds, n_sizes], sizes ascending."""
    n_seeds, n_sizes = values.shape
    counts = {"n_sizes": n_sizes, "n_seeds": n_seeds, "n_held_out": sizes[-1]}
    if n_sizes < MIN_SIZES:
        return counts | {"answer": TOO_FEW_SIZES}
    if not n_seeds:
        return counts | {"answer": TOO_FEW_SEEDS}
    law, predicted, observed = _prediction(sizes, values)
    error = predicted - observed
    found = counts | law._asdict() | {"predicted": predicted, "observed": observed, "error": error}
    if n_sizes < JUDGED_SIZES or n_seeds < JUDGED_SEEDS:
        return found | {"answer": TOO_FEW_SIZES if n_sizes < JUDGED_SIZES else TOO_FEW_SEEDS}
    without = [np.delete(values, seed, axis=0) for seed in range(n_seeds)]
    errors = np.array([predicted - observed for _, predicted, observed in (_prediction(sizes, w) for w in without)])
    half = t.ppf(1 - ALPHA / 2, n_seeds - 1) * np.sqrt((n_seeds - 1) ** 2 / n_seeds * errors.var(ddof=1))
    ends = {"error_low": error - half, "error_high": error + half}
    return found | ends | {"answer": HOLDS if abs(error) <= half else FAILS}


def _prediction(sizes: np.ndarray, values: np.ndarray) -> tuple[Law, float, float]:
    """Return the law of all but the last size, its prediction there, and the mean observed there."""
    means = values.mean(axis=0)
    law = fit_law(sizes[:-1], means[:-1])
    return law, law(sizes[-1]), float(means[-1])
