"""Simulated learning curves: a Monitor's reports of a trajectory, with the noise of finite validation data.

Every metric's mean is linear in the progress, so the expected value is known (`expected_curve`). The real Monitor
evaluates the same images with the same random draws at every report, so validation noise is partly shared between
reports: the difficulty of the image determines the share `correlation` of the predictions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainables.errors import ConfigError
from trainables.simulated.measurement import CORRELATION, POSITIONS, Measurement
from trainables.simulated.noise import is_loss, spread, standard_error, standard_errors
from trainables.simulated.trajectories import N_CLASSES, Progress, Trajectory, draw_trajectory, progress
from trainables.training.optimizers import lr_at
from trainables.trial import CLASS_AVERAGES, ONLINE_PROBES, TrialConfig

KNN_PER_LINEAR = 0.8  # kNN accuracy above 1 / N_CLASSES, as a share of the linear probe's

# Each loss at progress 1, as a share of its chance level; a contrastive loss cannot reach 0.
_LOSS_AT_BEST = {"simclr": 0.45, "context_encoder": 0.1}
_HEALTHY = {"feature_std": 0.45, "rankme": 40.0, "uniformity": -0.8, "alignment": 0.4}
_COLLAPSED = {"feature_std": 0.002, "rankme": 1.02, "uniformity": -1e-4, "alignment": 1e-4}
_HEALTH_NOISE = 0.02  # relative


@dataclass(frozen=True)
class Curve:
    """All reports of one trial.

    Attributes:
        trajectory: The noise-free trajectory.
        measurement: How it was measured.
        steps: Steps of the reports, int64 [R].
        metrics: Values by name as in the `curves` frame, float64 [R] each. Metrics that are only known after training
            (`train/*`, lr, grad_norm, images_per_s) are NaN at step 0.
    """

    trajectory: Trajectory
    measurement: Measurement
    steps: np.ndarray
    metrics: dict[str, np.ndarray] = field(repr=False)

    @property
    def facts(self) -> dict[str, Any]:
        """Facts of the trial's reports, as in `trainables.training.loop.Report`."""
        return self.measurement.facts

    def report(self, index: int) -> dict[str, float]:
        """Return the metrics of one report: those of training not at step 0, those of the features where measured."""
        step = int(self.steps[index])
        has_features = step == self.steps[-1] or self.measurement.trial.measures_features(step)
        return {
            name: float(values[index])
            for name, values in self.metrics.items()
            if (step or not (_is_training(name) or _is_change(name))) and (has_features or not _is_of_features(name))
        }


def draw_curve(
    outcome: str,
    *,
    rng: np.random.Generator,
    task: str = "rotation",
    n_validation: int = 2048,
    n_queries: int = 1000,
    noise: float = 0.01,
    correlation: float = CORRELATION,
    budget_steps: int = 500,
    report_every: int = 25,
    batch_size: int = 128,
    stuck_head: str = "",
    **trajectory: Any,
) -> Curve:
    """Draw the reports of one trial with a known outcome.

    Args:
        outcome: One of `trajectories.OUTCOMES`.
        rng: Source of randomness.
        task: A pretext task, or TWO_HEADS.
        n_validation: See `Measurement`.
        n_queries: See `Measurement`.
        noise: See `Measurement`.
        correlation: See `Measurement`.
        budget_steps: See `TrialConfig`.
        report_every: See `TrialConfig`.
        batch_size: See `TrialConfig`.
        stuck_head: See `Measurement`.
        **trajectory: Fields of `Trajectory` to set, for example `flat_loss=True` or `end=0.3`; the others are drawn.

    Raises:
        ConfigError: The outcome is unknown, or its curve would be indistinguishable from another outcome's.
    """
    trial = TrialConfig("simulated", task, budget_steps=budget_steps, report_every=report_every, batch_size=batch_size)
    measurement = Measurement(
        trial,
        n_validation=n_validation,
        n_queries=n_queries,
        noise=noise,
        correlation=correlation,
        stuck_head=stuck_head,
    )
    return measure(draw_trajectory(outcome, rng, task=task, **trajectory), measurement, rng)


def measure(trajectory: Trajectory, measurement: Measurement, rng: np.random.Generator) -> Curve:
    """Return a noisy curve: one measurement of the trajectory."""
    _check(trajectory, measurement)
    exact = progress(trajectory, measurement.time)
    fluctuation = measurement.noise * rng.standard_normal(len(measurement.time))
    fluctuating = exact._replace(
        validation=exact.validation * (1 + fluctuation), validation_loss=exact.validation_loss * (1 + fluctuation)
    )
    means = _means(fluctuating, measurement)
    metrics = {name: _with_noise(name, mean, measurement, rng) for name, mean in means.items()}
    return _as_reported(
        Curve(trajectory, measurement, measurement.steps, metrics | standard_errors(metrics, measurement))
    )


def expected_curve(trajectory: Trajectory, measurement: Measurement) -> Curve:
    """Return the mean of `measure` over all noise."""
    _check(trajectory, measurement)
    means = _means(progress(trajectory, measurement.time), measurement)
    return _as_reported(Curve(trajectory, measurement, measurement.steps, means | standard_errors(means, measurement)))


def knn_accuracy(linear: Any) -> Any:
    """Return the accuracy of the kNN probe given the linear probe's, a float or an array of floats."""
    return 1 / N_CLASSES + KNN_PER_LINEAR * (linear - 1 / N_CLASSES)


def sample_accuracy(p: np.ndarray, n: int, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Draw the accuracy of `n` predictions, each correct with probability `p`.

    Each accuracy is binomial, and two reports of equal p correlate by `correlation`: this share of the predictions
    has a fixed difficulty, uniform in [0, 1], and is correct wherever p exceeds it.

    Args:
        p: Probability of a correct prediction at each report, float64 [R]; NaN gives NaN.
        n: Number of predictions.
        correlation: Share of the predictions that are the same images at every report, in [0, 1].
        rng: Source of randomness.

    Returns:
        Shares of correct predictions, float64 [R].
    """
    known = np.nan_to_num(np.clip(p, 0, 1))
    n_shared = round(correlation * n)
    difficulties = np.sort(rng.random(n_shared))
    correct = np.searchsorted(difficulties, known) + rng.binomial(n - n_shared, known)
    return np.where(np.isnan(p), np.nan, correct / n)


def _means(exact: Progress, measurement: Measurement) -> dict[str, np.ndarray]:
    """Return the mean of every metric but the standard errors, float64 [R] each."""
    before = _between_reports(exact.train)
    means = {}
    for name, chance in measurement.facts["chance"].items():
        split, _, metric = name.partition("/")
        share = before if split == "train" else exact.validation_loss if is_loss(name) else exact.validation
        best = _LOSS_AT_BEST.get(measurement.trial.task, 0.05) * chance if is_loss(name) else 1.0
        mean = chance + (best - chance) * share * _weight(metric, measurement.stuck_head)
        means[name] = mean * exact.inflation if is_loss(name) else np.clip(mean, 0, 1)
    for name, healthy in _HEALTHY.items():
        means[f"health/{name}"] = _COLLAPSED[name] + (healthy - _COLLAPSED[name]) * exact.health
    if measurement.n_queries:
        linear, knn = ONLINE_PROBES
        means[linear] = exact.probe
        means[knn] = knn_accuracy(exact.probe)
    trial = measurement.trial
    means["lr"] = np.array([lr_at(trial, max(0, step - 1)) for step in measurement.steps.tolist()])
    means["grad_norm"] = (1 + 0.5 * before) * exact.inflation**3
    means["images_per_s"] = np.full(len(measurement.steps), 10_000.0)
    return means


def _between_reports(share: np.ndarray) -> np.ndarray:
    """Return means over the steps since the last report, which is how training metrics are averaged."""
    return np.append(share[:1], (share[1:] + share[:-1]) / 2)


def _weight(metric: str, stuck_head: str) -> float:
    """Return a metric's share of the progress: 0 for a stuck head, the other head's share for their summed loss."""
    if not stuck_head:
        return 1.0
    if metric == "loss":
        sizes = {"position": math.log(POSITIONS), "class": math.log(N_CLASSES)}
        return 1 - sizes[stuck_head] / sum(sizes.values())
    return float(metric != f"accuracy_{stuck_head}")


def _with_noise(name: str, mean: np.ndarray, measurement: Measurement, rng: np.random.Generator) -> np.ndarray:
    if name == "lr":
        return mean
    if name in ONLINE_PROBES:
        return sample_accuracy(mean, measurement.n_queries, measurement.correlation, rng)
    if name.startswith("val/"):
        if is_loss(name):
            noise = standard_error(name, mean, measurement) * _shared_noise(len(mean), measurement.correlation, rng)
        else:
            noise = sample_accuracy(mean, measurement.n_validation, measurement.correlation, rng) - mean
        if measurement.trial.task != "simclr":
            noise[0] = 0.0  # an untrained network gives all images the same answer
        return mean + noise
    if name.startswith("train/"):
        n_samples = measurement.trial.batch_size * measurement.trial.report_every
        noisy = mean + spread(name, mean) / math.sqrt(n_samples) * rng.standard_normal(len(mean))
        return noisy if is_loss(name) else np.clip(noisy, 0, 1)
    return mean * (1 + _HEALTH_NOISE * rng.uniform(-1, 1, len(mean)))


def _shared_noise(count: int, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Return standard normals [count] with pairwise correlation `correlation`."""
    fresh = rng.standard_normal(count)
    return math.sqrt(correlation) * rng.standard_normal() + math.sqrt(1 - correlation) * fresh


def _as_reported(curve: Curve) -> Curve:
    """Cut a curve after the first non-finite training loss, as the loop does, and drop step 0's training metrics.

    The classes are balanced, so the averages over classes of each probe equal its accuracy.
    """
    broken = np.append(~np.isfinite(curve.metrics["train/loss"]), True)
    n_reports = min(int(np.argmax(broken)) + 1, len(curve.steps))
    probes = {name: values for name, values in curve.metrics.items() if name in ONLINE_PROBES}
    averages = {f"{name}_{average}": values for name, values in probes.items() for average in CLASS_AVERAGES}
    metrics = {name: values[:n_reports].copy() for name, values in (curve.metrics | averages).items()}
    for name, values in metrics.items():
        if _is_training(name):
            values[0] = np.nan
    return Curve(curve.trajectory, curve.measurement, curve.steps[:n_reports], metrics)


def _is_training(metric: str) -> bool:
    """Return whether a metric is measured during training, so that step 0 has none."""
    return metric.startswith("train/") or metric in ("lr", "grad_norm", "images_per_s")


def _is_of_features(metric: str) -> bool:
    """Return whether a metric is measured on frozen features, which not every report does."""
    return metric.startswith(("health/", "probe/"))


def _is_change(metric: str) -> bool:
    """Return whether a metric compares a report with an earlier one, so that step 0 has none."""
    return metric.endswith(("_gain_se", "_recent_se"))


def _check(trajectory: Trajectory, measurement: Measurement) -> None:
    if trajectory.flat_loss and not measurement.n_queries:
        raise ConfigError("flat_loss: without a probe (n_queries = 0) the curve would look converged")
    if not 0 <= measurement.correlation <= 1:
        raise ConfigError(f"correlation = {measurement.correlation}: must be in [0, 1]")
    if measurement.stuck_head not in ("", "position", "class"):
        raise ConfigError(f"stuck_head = {measurement.stuck_head!r}: must be 'position' or 'class'")
