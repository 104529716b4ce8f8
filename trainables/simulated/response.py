"""Response model: how a trial's settings determine its accuracy and the probability of each outcome.

The accuracy of a linear probe on an encoder is

    random init + scale of the data set * (gain * progress + effects - data - memorization) + seed + trial

gain          of the task when everything is learned, at its optimal settings and without augmentation
progress      1 - exp(-(steps - takeoff) / pace), both in steps; a low lr slows both by sqrt(optimum / lr)
effects       a sum over lr, batch_size, weight_decay, encoder, width, task options and augmentation ops (each at
              magnitude times strength), and the declared interactions c * a * b of two ops
data          0.3 / sqrt(n_images)
memorization  0.12 m, where m = passes / (passes + 30) * exp(-1.2 A) * (width / 16)^0.25 is how far the training images
              are memorized; passes = steps * batch_size / n_images (over 8 or 16 with 8 or 40 pairs per image),
              A = the sum of all magnitudes times strength; 1.5 instead of the last factor for a ResNet
seed          normal, shared by all cells of a task and seed
trial         normal, specific to this configuration and seed

Training on few images without augmentation ends below the untrained encoder, and augmentation fixes that. Augmentation
does not help a trial that is at chance for lack of pairs or steps. A setting that is not listed has no effect, except
that every op counts in A. The numbers come from `truth.TRUTH`.

The outcome of a trial is drawn with declared probabilities (`outcome_rates`), which are 0 or 1 except near the borders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from trainables.simulated.trajectories import (
    AT_CHANCE,
    COLLAPSED,
    COLLAPSED_ACCURACY,
    CONVERGED,
    DIVERGED,
    OUTCOMES,
    OVERFIT,
    STILL_IMPROVING,
    Trajectory,
)
from trainables.simulated.truth import TRUTH, Truth
from trainables.tasks import TASKS, build_options
from trainables.trial import RANDOM_INIT, RAW_PIXELS, WEIGHTS, TrialConfig

_NAN_LR_RATIO = 16.0  # multiple of the optimal lr from which a diverging loss becomes NaN
_GROWTH = 1.7  # final loss over its chance level of trials that diverge below that


class Shifts(NamedTuple):
    """Deviation of one trial from the mean of its configuration; 0 on average.

    Attributes:
        validation: In validation progress.
        probe: In the trained encoder's accuracy, on a data set of scale 1.
        untrained: In the accuracy of the encoder before training, on a data set of scale 1.
    """

    validation: float = 0.0
    probe: float = 0.0
    untrained: float = 0.0


def trajectory_of(
    trial: TrialConfig, outcome: str, truth: Truth = TRUTH, *, labeled: bool, shifts: Shifts | None = None
) -> Trajectory:
    """Return the trajectory of a trial with a given outcome.

    Args:
        trial: A trial that trains.
        outcome: One of OUTCOMES.
        truth: Declared truth.
        labeled: Whether the data set has labels, and so online probes.
        shifts: Deviation of the trial from the mean over seeds; None for the mean.
    """
    shifts = shifts or Shifts()
    task, base = truth.task(trial.task), truth.dataset(trial.dataset)
    untrained = base.random_init + base.scale * (encoder_effect(trial, truth) + shifts.untrained)
    online = truth.online_probe_effect * base.scale
    return Trajectory(
        outcome,
        start=0.0 if outcome == AT_CHANCE else task.untrained,
        end=min(0.97, final_progress(trial, truth) + shifts.validation),
        takeoff=min(takeoff_share(trial, truth), 0.4 if outcome == STILL_IMPROVING else 0.2),
        pace=1.0 if outcome == STILL_IMPROVING else 0.07,
        turn=0.35,
        drop=0.35,
        growth=math.inf if lr_ratio(trial, truth) >= _NAN_LR_RATIO else _GROWTH,
        probe_start=untrained + online,
        probe_end=probe_accuracy(trial, outcome, trial.dataset, truth, shifts) + online,
        flat_loss=outcome == STILL_IMPROVING and labeled and saturates(trial, truth),
    )


def probe_accuracy(trial: TrialConfig, outcome: str, dataset: str, truth: Truth, shifts: Shifts) -> float:
    """Return the accuracy, on infinitely many images, of a linear probe trained on all annotated ones.

    Args:
        trial: A trial that trains, or a baseline.
        outcome: One of OUTCOMES; empty for a baseline.
        dataset: Name of the data set that is probed.
        truth: Declared truth.
        shifts: Deviation of the trial from the mean over seeds.
    """
    base = truth.dataset(dataset)
    if trial.task == RAW_PIXELS:
        return base.raw_pixels
    if trial.task.startswith(WEIGHTS):
        return base.random_init + base.scale * truth.weights_gain
    untrained = base.random_init + base.scale * (encoder_effect(trial, truth) + shifts.untrained)
    if trial.task == RANDOM_INIT:
        return untrained
    if outcome == DIVERGED and lr_ratio(trial, truth) >= _NAN_LR_RATIO:
        return math.nan
    if outcome in (DIVERGED, COLLAPSED):
        return COLLAPSED_ACCURACY
    if outcome == AT_CHANCE:
        return untrained + base.scale * truth.at_chance_effect
    assert outcome in (OVERFIT, STILL_IMPROVING, CONVERGED)
    return base.random_init + base.scale * (gain(trial, truth) + shifts.probe)


def outcome_rates(trial: TrialConfig, truth: Truth = TRUTH) -> dict[str, float]:
    """Return the probability over seeds of each of OUTCOMES, for a trial that does not fail; they sum to 1."""
    # A single patch (neighbor_only) says nothing about its position, and without a step nothing is learned.
    unlearnable = _options(trial).get("neighbor_only") or not trial.budget_steps
    at_chance = 1.0 if unlearnable else _ramp(takeoff_share(trial, truth), 0.6, 1.0)
    conditional = {  # probability of each outcome if no earlier one applies
        DIVERGED: _ramp(math.log(lr_ratio(trial, truth)), *map(math.log, truth.diverging_lr)),
        COLLAPSED: float(trial.weight_decay >= truth.collapsing_weight_decay),
        AT_CHANCE: at_chance,
        OVERFIT: _ramp(memorization(trial, truth), 0.25, 0.4),
        STILL_IMPROVING: 1 - _ramp(_progress(trial, truth), 0.75, 0.9),
        CONVERGED: 1.0,
    }
    assert tuple(conditional) == OUTCOMES
    rates, left = {}, 1.0
    for outcome, share in conditional.items():
        rates[outcome] = left * share
        left -= rates[outcome]
    return rates


def failure_rate(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return the probability that a trial fails midway, whatever its outcome would be."""
    by_size = _ramp(math.log(trial.batch_size), *map(math.log, truth.failing_batch_size))
    return 1 - (1 - truth.failure_rate) * (1 - by_size)


def gain(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return the probe accuracy that successful training adds, on a data set of scale 1."""
    task = truth.task(trial.task)
    return (
        task.gain * _progress(trial, truth)
        + math.fsum(effects(trial, truth).values())
        - truth.data_penalty / math.sqrt(_n_images(trial, truth))
        - truth.memorization_penalty * memorization(trial, truth)
    )


def effects(trial: TrialConfig, truth: Truth = TRUTH) -> dict[str, float]:
    """Return the probe accuracy that each setting adds, by name, on a data set of scale 1."""
    task, ops, options = truth.task(trial.task), magnitudes(trial), _options(trial)
    found = {
        "lr": truth.lr_effect(lr_ratio(trial, truth)),
        "batch_size": task.batch_size(trial.batch_size),
        "weight_decay": task.weight_decay(trial.weight_decay),
        "encoder": encoder_effect(trial, truth),
    }
    found |= {f"option/{name}": effect(options[name]) for name, effect in task.options.items()}
    found |= {f"augmentation/{op}": task.ops[op](magnitude) for op, magnitude in ops.items() if op in task.ops}
    for (first, second), size in task.interactions.items():
        found[f"{first} x {second}"] = size * ops.get(first, 0.0) * ops.get(second, 0.0)
    return found


def final_progress(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return validation progress (0 chance, 1 perfect) at the end of a trial that learns, at least 0.15."""
    task = truth.task(trial.task)
    progress = 1.0 if saturates(trial, truth) else _progress(trial, truth)
    by_lr = truth.progress_lr_effect(lr_ratio(trial, truth))
    by_memorization = truth.progress_memorization_penalty * memorization(trial, truth)
    return max(0.15, task.final_progress * progress * (1 + by_lr) * (1 - by_memorization))


def saturates(trial: TrialConfig, truth: Truth = TRUTH) -> bool:
    """Return whether the task's own metrics are flat from early on, even if the probe still improves."""
    return gain(trial, truth) >= truth.task(trial.task).saturating_gain


def memorization(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return how far the training images are memorized, from 0 to about 1."""
    views = _option_factor(trial, truth.task(trial.task).views)
    passes = trial.budget_steps * trial.batch_size / _n_images(trial, truth) / views
    total = math.fsum(magnitudes(trial).values())
    size = (trial.width / 16) ** 0.25 if trial.encoder == "conv4" else 1.5
    return passes / (passes + truth.memorization_passes) * math.exp(-truth.memorization_cure * total) * size


def encoder_effect(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return the probe accuracy that the encoder adds, trained or not."""
    if trial.encoder == "conv4":
        return truth.width_effect * math.log2(trial.width / 16)
    return truth.encoders.get(trial.encoder, 0.0)


def lr_ratio(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return the learning rate over its optimum."""
    return trial.lr / (truth.task(trial.task).lr * truth.optimizers[trial.optimizer])


def takeoff_share(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return the steps before anything is learned, as a share of the budget."""
    return _takeoff(trial, truth) / max(1, trial.budget_steps)


def magnitudes(trial: TrialConfig) -> dict[str, float]:
    """Return magnitude times strength, at most 1, of each active op."""
    scaled = {
        op: min(1.0, magnitude * trial.augmentation_strength) for op, magnitude in dict(trial.augmentation).items()
    }
    return {op: magnitude for op, magnitude in scaled.items() if magnitude > 0}


def _progress(trial: TrialConfig, truth: Truth) -> float:
    """Return the share of what can be learned that is learned at the end, at least a quarter."""
    steps = trial.budget_steps - _takeoff(trial, truth)
    return max(0.25, -math.expm1(-max(0.0, steps) / (truth.task(trial.task).pace * _slowdown(trial, truth))))


def _takeoff(trial: TrialConfig, truth: Truth) -> float:
    task = truth.task(trial.task)
    return task.takeoff * _option_factor(trial, task.takeoff_factors) * _slowdown(trial, truth)


def _option_factor(trial: TrialConfig, factors: Mapping[str, Mapping[Any, float]]) -> float:
    """Return the product of the factors of the trial's options."""
    options = _options(trial)
    return math.prod(by_value[options[name]] for name, by_value in factors.items())


def _slowdown(trial: TrialConfig, truth: Truth) -> float:
    return math.sqrt(max(1.0, 1 / lr_ratio(trial, truth)))


def _n_images(trial: TrialConfig, truth: Truth) -> int:
    return truth.all_images if trial.n_images is None else trial.n_images


def _options(trial: TrialConfig) -> dict[str, Any]:
    return vars(build_options(TASKS[trial.task], dict(trial.options)))


def _ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to `low`, 1 from `high`, and linear between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))
