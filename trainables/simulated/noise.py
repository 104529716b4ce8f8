"""Noise of simulated validation metrics: the spread of their samples, and the errors of values and of changes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from trainables.recent import quarters
from trainables.simulated.measurement import Measurement

_LOSS_SPREAD = 0.4  # standard deviation of one sample's loss, as a share of the mean loss


def standard_errors(metrics: Mapping[str, np.ndarray], measurement: Measurement) -> dict[str, np.ndarray]:
    """Return the errors of every validation metric and of its changes, as `History.add` names them."""
    errors = {}
    for name in [name for name in metrics if name.startswith("val/")]:
        values = metrics[name]
        errors[f"{name}_se"] = standard_error(name, values, measurement)
        ends = range(1, len(values))
        gain = [_change_error(name, values[: end + 1], [0], [end], measurement) for end in ends]
        recent = [
            _change_error(name, values[: end + 1], *quarters(measurement.steps[: end + 1].tolist()), measurement)
            for end in ends
        ]
        errors[f"{name}_gain_se"], errors[f"{name}_recent_se"] = (np.array([np.nan, *each]) for each in (gain, recent))
    return errors


def _change_error(
    name: str, values: np.ndarray, before: list[int], after: list[int], measurement: Measurement
) -> float:
    """Return the standard error of the change between the means of two groups of reports, whose noise is partly shared.

    The values of an untrained network other than SimCLR's have no noise.
    """
    n, correlation = measurement.n_validation, measurement.correlation
    deviations = spread(name, values)
    if measurement.trial.task != "simclr":
        deviations[0] = 0.0
    independent = sum(float(np.sum(deviations[part] ** 2)) / len(part) ** 2 for part in (before, after))
    first, second = values[before].mean(), values[after].mean()
    if before == [0] and not deviations[0]:
        shared = float(deviations[after[-1]] ** 2)
    elif is_loss(name):
        shared = float(deviations[after].mean() - deviations[before].mean()) ** 2
    else:  # the shared predictions whose difficulty lies between the two accuracies
        change = abs(float(second - first))
        shared = max(0.0, change * (1 - change))
    return math.sqrt(((1 - correlation) * independent + correlation * shared) / n)


def standard_error(name: str, value: np.ndarray, measurement: Measurement) -> np.ndarray:
    """Return the standard error of a metric whose mean is `value`, float64 [R]."""
    return spread(name, value) / math.sqrt(measurement.n_validation)


def spread(name: str, value: np.ndarray) -> np.ndarray:
    """Return the standard deviation over samples of a metric whose mean is `value`."""
    return _LOSS_SPREAD * value if is_loss(name) else np.sqrt(np.clip(value * (1 - value), 0, None))


def is_loss(metric: str) -> bool:
    """Return whether a metric is a loss, by its name without the prefix."""
    return metric.rsplit("/", 1)[-1].startswith("loss")
