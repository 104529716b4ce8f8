"""Statistics of plain numbers: tests, intervals, factorial models, survival, aggregates, scaling law.

Nothing here knows about studies or runs; `analysis.comparisons` does. `paired`, `factorial` and `split_plot` are used
by module name.
"""

from analysis.stats.aggregates import (
    improvement_interval,
    improvement_probability,
    interquartile_mean,
    interquartile_mean_interval,
)
from analysis.stats.binomial import exact_interval, mcnemar_p
from analysis.stats.scaling_law import HeldOutPrediction, Law, fit_law, predict_largest_size
from analysis.stats.significance import ALPHA
from analysis.stats.survival import median_time, survival_curve

__all__ = [
    "ALPHA",
    "HeldOutPrediction",
    "Law",
    "exact_interval",
    "fit_law",
    "improvement_interval",
    "improvement_probability",
    "interquartile_mean",
    "interquartile_mean_interval",
    "mcnemar_p",
    "median_time",
    "predict_largest_size",
    "survival_curve",
]
