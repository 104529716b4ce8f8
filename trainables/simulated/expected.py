"""Expected values of a simulated trial's metrics and results, over all seeds."""

from __future__ import annotations

import functools
import math

from trainables.data.table import Splits
from trainables.errors import ConfigError, suggestion
from trainables.simulated import response
from trainables.simulated.curves import expected_curve
from trainables.simulated.data import is_labeled, load_splits, mask_names
from trainables.simulated.measurement import monitor_measurement
from trainables.simulated.probe_results import mean_mask_results, mean_results
from trainables.simulated.trajectories import OUTCOMES
from trainables.simulated.truth import TRUTH, Truth
from trainables.trial import TrialConfig, is_baseline


def expected_value(trial: TrialConfig, metric: str, truth: Truth = TRUTH) -> float:
    """Return the mean over seeds of a metric at the last report, or of a final result.

    The mean is over seeds whose trial does not fail and whose value is finite; NaN if there are none. Outcomes are
    weighted by their rates (`response.outcome_rates`).

    Args:
        trial: Configuration; its seed is ignored.
        metric: Name of a metric, as in the `curves` frame, or of a final result, as `probe/DATASET/RESULT`.
        truth: Declared truth.

    Raises:
        ConfigError: The trial does not have this metric.
    """
    if is_baseline(trial.task):
        return _given_outcome(trial, "", metric, truth)
    rates = response.outcome_rates(trial, truth)
    values = {outcome: _given_outcome(trial, outcome, metric, truth) for outcome in OUTCOMES if rates[outcome]}
    finite = {outcome: value for outcome, value in values.items() if math.isfinite(value)}
    if not finite:
        return math.nan
    total = math.fsum(rates[outcome] for outcome in finite)
    return math.fsum(rates[outcome] * value for outcome, value in finite.items()) / total


def _given_outcome(trial: TrialConfig, outcome: str, metric: str, truth: Truth) -> float:
    """Return the mean of a metric over the seeds with one outcome."""
    if metric.startswith("probe/") and metric.count("/") > 1:  # otherwise an online probe; data set names may have any
        dataset, _, name = metric.removeprefix("probe/").rpartition("/")
        accuracy = response.probe_accuracy(trial, outcome, dataset, truth, response.Shifts())
        results = mean_results(accuracy, truth) if is_labeled(dataset) else {}
        if names := mask_names(dataset):
            results |= mean_mask_results(accuracy, names)
        if name in results:
            return results[name]
        raise ConfigError(f"no result {metric!r}; {suggestion(name, results)}")
    if outcome:
        trajectory = response.trajectory_of(trial, outcome, truth, labeled=is_labeled(trial.dataset))
        metrics = expected_curve(trajectory, monitor_measurement(trial, _default_splits(trial.dataset))).metrics
        if metric in metrics:
            return float(metrics[metric][-1])
        raise ConfigError(f"{trial.task} on {trial.dataset} reports no {metric!r}; {suggestion(metric, metrics)}")
    raise ConfigError(f"{trial.task} is only probed and reports no {metric!r}")


@functools.lru_cache(maxsize=64)
def _default_splits(dataset: str) -> Splits:
    return load_splits(dataset)
