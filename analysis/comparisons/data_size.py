"""Data-size law of a metric: fitted to the runs of a size sweep, tested at the largest size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.comparisons.cells import check_one_run_per_seed
from analysis.comparisons.selection import finished_values
from analysis.data.baselines import are_baselines
from analysis.stats.scaling_law import HeldOutPrediction, predict_largest_size
from trainables.errors import UserError


def data_size_law(
    runs: pd.DataFrame, metric: str, by: Sequence[str] = ("task",), *, all_images: int | None = None
) -> pd.DataFrame:
    """Fit a + b n_images^-c to all but the largest size and predict the largest, one row per group.

    Learning curves follow such power laws (Hestness et al. 2017, 1712.00409).

    Args:
        runs: One trial per group, n_images and seed, with otherwise equal settings: the cells of a size sweep at one
            strength. A seed without a finite value of a finished trial at some size is left out of all sizes.
        metric: A numeric column of `runs`.
        by: Columns of `runs` that define the groups.
        all_images: Number of images that a missing n_images means.

    Returns:
        Columns *by and the fields of `analysis.stats.HeldOutPrediction`.

    Raises:
        UserError: If a column is missing, n_images is missing and `all_images` is not given, or a seed occurs twice.
    """
    by = list(by)
    points = _points(runs, metric, by, all_images)
    rows = []
    for key, group in points.groupby(by, sort=False, dropna=False):
        wide = group.pivot(index="seed", columns="n_images", values=metric).sort_index(axis=1)
        prediction = predict_largest_size(wide.columns.to_numpy(np.float64), wide.dropna().to_numpy(np.float64))
        rows.append((*key, *prediction))
    return pd.DataFrame(rows, columns=[*by, *HeldOutPrediction._fields])


def _points(runs: pd.DataFrame, metric: str, by: list[str], all_images: int | None) -> pd.DataFrame:
    names = [*by, "n_images", "seed", metric]
    if missing := [name for name in names if name not in runs]:
        raise UserError(f"these runs have no column {', '.join(missing)}")
    points = runs.loc[~are_baselines(runs["task"])] if "task" in runs else runs
    if points["n_images"].isna().any():
        if all_images is None:
            raise UserError(
                f"{points['n_images'].isna().sum()} trials have no n_images, which means all; "
                "say how many that is: data_size_law(..., all_images=50_000)"
            )
        points = points.assign(n_images=points["n_images"].fillna(all_images))
    check_one_run_per_seed(points, [*by, "n_images"])
    return points[names].assign(**{metric: finished_values(points, metric)})
