"""Curves: what a Monitor would have seen of a course, metric by metric, with the noise of finite validation data.

Every metric's mean is linear in the course's progress, so its expected value is known: `expected_curve`. The noise is
that of the real Monitor, which looks at the same images with the same draws at every report: a share `correlation` of
the predictions is decided by how hard the image is, so validation noise is partly the same from report to report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainables.errors import ConfigError
from trainables.simulated.measurement import CORRELATION, POSITIONS, Instrument
from trainables.simulated.trajectories import N_CLASSES, Course, Progress, draw_course, progress
from trainables.training.optimizers import lr_at
from trainables.trial import ONLINE_PROBES, TrialConfig

KNN_PER_LINEAR = 0.8  # what kNN has above 1 / N_CLASSES, as a share of what the linear probe has

# Each metric at progress 1, as a share of its chance level for losses; a contrastive loss cannot reach 0.
_LOSS_AT_BEST = {"simclr": 0.45, "context_encoder": 0.1}
_HEALTHY = {"feature_std": 0.45, "rankme": 40.0, "uniformity": -0.8, "alignment": 0.4}
_COLLAPSED = {"feature_std": 0.002, "rankme": 1.02, "uniformity": -1e-4, "alignment": 1e-4}
_HEALTH_NOISE = 0.02  # relative
_LOSS_SPREAD = 0.4  # standard deviation of one sample's loss, as a share of the mean loss


@dataclass(frozen=True)
class Curve:
    """All reports of one trial.

    steps: int64 [R]. metrics: float64 [R] each, named as in the `curves` frame; NaN at step 0 for what is only known
        after training (`train/*`, lr, grad_norm, images_per_s). facts: as in `trainables.training.loop.Report`.
    """

    course: Course
    instrument: Instrument
    steps: np.ndarray
    metrics: dict[str, np.ndarray] = field(repr=False)

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of the trial's reports."""
        return self.instrument.facts

    def report(self, index: int) -> dict[str, float]:
        """Return the metrics of one report, without those that are not reported at step 0."""
        return {
            name: float(values[index])
            for name, values in self.metrics.items()
            if self.steps[index] or not is_training(name)
        }


def curve(
    kind: str,
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
    **course: Any,
) -> Curve:
    """Return the reports of one trial whose true verdict is `kind`.

    task: a pretext task, or TWO_HEADS.
    n_validation, n_queries, noise, correlation, stuck_head: see Instrument.
    course: fields of Course to fix, for example `flat_loss=True` or `end=0.3`; the others are drawn from `rng`.
    Raises ConfigError for an unknown kind, and for a course that could not be told from another one.
    """
    trial = TrialConfig("simulated", task, budget_steps=budget_steps, report_every=report_every, batch_size=batch_size)
    instrument = Instrument(
        trial,
        n_validation=n_validation,
        n_queries=n_queries,
        noise=noise,
        correlation=correlation,
        stuck_head=stuck_head,
    )
    return measured(draw_course(kind, rng, task=task, **course), instrument, rng)


def measured(course: Course, instrument: Instrument, rng: np.random.Generator) -> Curve:
    """Return what the instrument sees of the course."""
    _check(course, instrument)
    seen = progress(course, instrument.time)
    fluctuation = instrument.noise * rng.standard_normal(len(instrument.time))
    fluctuating = seen._replace(
        validation=seen.validation * (1 + fluctuation), validation_loss=seen.validation_loss * (1 + fluctuation)
    )
    means = _means(fluctuating, instrument)
    metrics = {name: _observed(name, mean, instrument, rng) for name, mean in means.items()}
    return _as_reported(Curve(course, instrument, instrument.steps, metrics | _standard_errors(metrics, instrument)))


def expected_curve(course: Course, instrument: Instrument) -> Curve:
    """Return the mean of `measured` over all noise."""
    _check(course, instrument)
    means = _means(progress(course, instrument.time), instrument)
    return _as_reported(Curve(course, instrument, instrument.steps, means | _standard_errors(means, instrument)))


def is_training(metric: str) -> bool:
    """Whether a metric is measured while training, so that there is none at step 0."""
    return metric.startswith("train/") or metric in ("lr", "grad_norm", "images_per_s")


def _means(seen: Progress, instrument: Instrument) -> dict[str, np.ndarray]:
    """Return the mean of every metric but the standard error, float64 [R] each."""
    before = _between_reports(seen.train)
    means = {}
    for name, chance in instrument.facts["chance"].items():
        split, _, metric = name.partition("/")
        share = before if split == "train" else seen.validation_loss if _is_loss(name) else seen.validation
        best = _LOSS_AT_BEST.get(instrument.trial.task, 0.05) * chance if _is_loss(name) else 1.0
        mean = chance + (best - chance) * share * _weight(metric, instrument.stuck_head)
        means[name] = mean * seen.inflation if _is_loss(name) else np.clip(mean, 0, 1)
    for name, healthy in _HEALTHY.items():
        means[f"health/{name}"] = _COLLAPSED[name] + (healthy - _COLLAPSED[name]) * seen.health
    if instrument.n_queries:
        linear, knn = ONLINE_PROBES
        means[linear] = seen.probe
        means[knn] = knn_accuracy(seen.probe)
    trial = instrument.trial
    means["lr"] = np.array([lr_at(trial, max(0, step - 1)) for step in instrument.steps.tolist()])
    means["grad_norm"] = (1 + 0.5 * before) * seen.inflation**3
    means["images_per_s"] = np.full(len(instrument.steps), 10_000.0)
    return means


def knn_accuracy(linear: Any) -> Any:
    """Return the accuracy of the kNN probe where the linear one has `linear`, a float or an array of floats."""
    return 1 / N_CLASSES + KNN_PER_LINEAR * (linear - 1 / N_CLASSES)


def _between_reports(share: np.ndarray) -> np.ndarray:
    """Return the mean over the steps since the last report, which is what training metrics are."""
    return np.append(share[:1], (share[1:] + share[:-1]) / 2)


def _weight(metric: str, stuck_head: str) -> float:
    """Return the share of the course that a metric takes part in: 0 for a head that is stuck, its part for the sum."""
    if not stuck_head:
        return 1.0
    if metric == "loss":
        sizes = {"position": math.log(POSITIONS), "class": math.log(N_CLASSES)}
        return 1 - sizes[stuck_head] / sum(sizes.values())
    return float(metric != f"accuracy_{stuck_head}")


def _observed(name: str, mean: np.ndarray, instrument: Instrument, rng: np.random.Generator) -> np.ndarray:
    """Return one metric with its noise."""
    if name == "lr":
        return mean
    if name in ONLINE_PROBES:
        return shares(mean, instrument.n_queries, instrument.correlation, rng)
    if name.startswith("val/"):
        if _is_loss(name):
            noise = _standard_error(name, mean, instrument) * _shared_noise(len(mean), instrument.correlation, rng)
        else:
            noise = shares(mean, instrument.n_validation, instrument.correlation, rng) - mean
        if instrument.trial.task != "simclr":
            noise[0] = 0.0  # an untrained network gives all images the same answer
        return mean + noise
    if name.startswith("train/"):
        seen = instrument.trial.batch_size * instrument.trial.report_every
        noisy = mean + _spread(name, mean) / math.sqrt(seen) * rng.standard_normal(len(mean))
        return noisy if _is_loss(name) else np.clip(noisy, 0, 1)
    return mean * (1 + _HEALTH_NOISE * rng.uniform(-1, 1, len(mean)))


def _standard_errors(metrics: Mapping[str, np.ndarray], instrument: Instrument) -> dict[str, np.ndarray]:
    """Return NAME_se of every validation metric, from its values."""
    names = [name for name in metrics if name.startswith("val/")]
    return {f"{name}_se": _standard_error(name, metrics[name], instrument) for name in names}


def _standard_error(name: str, value: np.ndarray, instrument: Instrument) -> np.ndarray:
    return _spread(name, value) / math.sqrt(instrument.n_validation)


def _spread(name: str, value: np.ndarray) -> np.ndarray:
    """Return the standard deviation of a metric over samples where its mean is `value`."""
    return _LOSS_SPREAD * value if _is_loss(name) else np.sqrt(np.clip(value * (1 - value), 0, None))


def _shared_noise(count: int, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Return standard normals [count], each pair correlated by `correlation`."""
    fresh = rng.standard_normal(count)
    return math.sqrt(correlation) * rng.standard_normal() + math.sqrt(1 - correlation) * fresh


def shares(p: np.ndarray, n: int, correlation: float, rng: np.random.Generator) -> np.ndarray:
    """Return the share of `n` predictions that are right, where each is with probability `p`; float64, as `p`.

    Each is binomial; two reports of equal p correlate by `correlation`: so many of the predictions have a difficulty
    of their own, uniform in [0, 1], and are right as soon as p is above it. NaN where p is.
    """
    known = np.nan_to_num(np.clip(p, 0, 1))
    n_shared = round(correlation * n)
    difficulties = np.sort(rng.random(n_shared))
    right = np.searchsorted(difficulties, known) + rng.binomial(n - n_shared, known)
    return np.where(np.isnan(p), np.nan, right / n)


def _as_reported(found: Curve) -> Curve:
    """Cut a curve after the first training loss that is not finite, where the loop stops, and what step 0 lacks."""
    broken = np.append(~np.isfinite(found.metrics["train/loss"]), True)
    n_reports = min(int(np.argmax(broken)) + 1, len(found.steps))
    metrics = {name: values[:n_reports].copy() for name, values in found.metrics.items()}
    for name, values in metrics.items():
        if is_training(name):
            values[0] = np.nan
    return Curve(found.course, found.instrument, found.steps[:n_reports], metrics)


def _is_loss(metric: str) -> bool:
    return metric.rsplit("/", 1)[-1].startswith("loss")


def _check(course: Course, instrument: Instrument) -> None:
    if course.flat_loss and not instrument.n_queries:
        raise ConfigError("flat_loss: without a probe (n_queries = 0) such a curve is a converged one")
    if not 0 <= instrument.correlation <= 1:
        raise ConfigError(f"correlation = {instrument.correlation}: must lie in [0, 1]")
    if instrument.stuck_head not in ("", "position", "class"):
        raise ConfigError(f"stuck_head = {instrument.stuck_head!r}: must be 'position' or 'class'")
