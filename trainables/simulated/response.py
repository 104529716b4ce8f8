"""How a trial's settings work together: from a TrialConfig to what is learned, and of which kind the trial is.

The accuracy of a linear probe on an encoder is

    random init + scale of the data set * (gain * progress + effects - data - memory) + seed + trial

gain       of the task, once it has learned all it can, at its optimal settings and without augmentation
progress   1 - exp(-(steps - take-off) / pace), both in steps; a low lr slows both by sqrt(optimum / lr)
effects    a sum over lr, batch_size, weight_decay, encoder, width, task options and augmentation ops (each at its
           magnitude times strength), and the declared interactions c * a * b of two ops
data       0.3 / sqrt(n_images)
memory     0.12 m, where m = passes / (passes + 30) * exp(-1.2 A) * (width / 16)^0.25 is how far the training images
           are known by heart; passes = steps * batch_size / n_images (over 8 or 16 with 8 or 40 pairs an image),
           A = the sum of all magnitudes times strength; 1.5 in place of the last factor for a ResNet
seed       normal, shared by all cells of a task and seed; trial: normal, of this configuration and seed alone

Few images without augmentation end below the untrained encoder, and augmentation cures that; a trial at chance for
want of pairs or steps is not cured by augmentation. What is not named has no effect, save that every op counts in A.
The numbers are those of `truth.TRUTH`.

A trial's kind is drawn with declared probabilities (`kind_rates`), which are 0 or 1 but for narrow borders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainables.simulated.trajectories import AT_CHANCE, COLLAPSED, CONVERGED, DIVERGED, KINDS, OVERFIT, STILL_IMPROVING
from trainables.simulated.truth import TRUTH, Truth
from trainables.tasks import TASKS, build_options
from trainables.trial import TrialConfig


def gain(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return what training adds to the accuracy of the linear probe on a data set of scale 1, where it learns."""
    task = truth.tasks[trial.task]
    return (
        task.gain * _progress(trial, truth)
        + math.fsum(effects(trial, truth).values())
        - truth.by_images / math.sqrt(_n_images(trial, truth))
        - truth.memory * memory(trial, truth)
    )


def effects(trial: TrialConfig, truth: Truth = TRUTH) -> dict[str, float]:
    """Return what each setting adds to the accuracy of the linear probe on a data set of scale 1, by name."""
    task, ops, options = truth.tasks[trial.task], magnitudes(trial), _options(trial)
    found = {
        "lr": truth.by_lr(lr_ratio(trial, truth)),
        "batch_size": task.batch_size(trial.batch_size),
        "weight_decay": task.weight_decay(trial.weight_decay),
        "encoder": by_encoder(trial, truth),
    }
    found |= {f"option/{name}": effect(options[name]) for name, effect in task.options.items()}
    found |= {f"augmentation/{op}": task.ops[op](magnitude) for op, magnitude in ops.items() if op in task.ops}
    for (first, second), size in task.interactions.items():
        found[f"{first} x {second}"] = size * ops.get(first, 0.0) * ops.get(second, 0.0)
    return found


def solved(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return validation progress, from 0 at chance to 1, at the end of a trial that learns; plainly above chance."""
    task = truth.tasks[trial.task]
    progress = 1.0 if trapped(trial, truth) else _progress(trial, truth)
    by_lr, by_memory = truth.solved_by_lr(lr_ratio(trial, truth)), truth.solved_by_memory * memory(trial, truth)
    return max(0.15, task.solved * progress * (1 + by_lr) * (1 - by_memory))


def trapped(trial: TrialConfig, truth: Truth = TRUTH) -> bool:
    """Return whether the task's own metrics are flat from early on, however much the probe still improves."""
    return gain(trial, truth) >= truth.tasks[trial.task].trap


def memory(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return how far the training images are known by heart, 0 .. about 1."""
    views = _factor(trial, truth.tasks[trial.task].views)
    passes = trial.budget_steps * trial.batch_size / _n_images(trial, truth) / views
    total = math.fsum(magnitudes(trial).values())
    size = (trial.width / 16) ** 0.25 if trial.encoder == "conv4" else 1.5
    return passes / (passes + truth.memory_passes) * math.exp(-truth.memory_cure * total) * size


def kind_rates(trial: TrialConfig, truth: Truth = TRUTH) -> dict[str, float]:
    """Return the probability of each of KINDS over seeds, for a trial that does not fail; they sum to 1."""
    # One patch alone (neighbor_only) tells nothing of its position, and no step teaches nothing.
    hopeless = _options(trial).get("neighbor_only") or not trial.budget_steps
    at_chance = 1.0 if hopeless else _ramp(takeoff_share(trial, truth), 0.6, 1.0)
    borders = {  # of each kind, the probability where none of those above it holds
        DIVERGED: _ramp(math.log(lr_ratio(trial, truth)), *map(math.log, truth.diverges)),
        COLLAPSED: float(trial.weight_decay >= truth.collapses),
        AT_CHANCE: at_chance,
        OVERFIT: _ramp(memory(trial, truth), 0.25, 0.4),
        STILL_IMPROVING: 1 - _ramp(_progress(trial, truth), 0.75, 0.9),
        CONVERGED: 1.0,
    }
    assert tuple(borders) == KINDS
    rates, left = {}, 1.0
    for kind, share in borders.items():
        rates[kind] = left * share
        left -= rates[kind]
    return rates


def failure_rate(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return the probability that a trial fails midway, whatever its kind."""
    by_size = _ramp(math.log(trial.batch_size), *map(math.log, truth.too_big))
    return 1 - (1 - truth.failure_rate) * (1 - by_size)


def by_encoder(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return what the encoder adds to the accuracy of the linear probe, trained or not."""
    if trial.encoder == "conv4":
        return truth.by_width * math.log2(trial.width / 16)
    return truth.encoders[trial.encoder]


def lr_ratio(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return the learning rate over its optimum."""
    return trial.lr / (truth.tasks[trial.task].lr * truth.optimizers[trial.optimizer])


def takeoff_share(trial: TrialConfig, truth: Truth = TRUTH) -> float:
    """Return the steps before anything is learned over the budget."""
    return _takeoff(trial, truth) / max(1, trial.budget_steps)


def magnitudes(trial: TrialConfig) -> dict[str, float]:
    """Return each op's magnitude times strength, without those that are off."""
    scaled = {
        op: min(1.0, magnitude * trial.augmentation_strength) for op, magnitude in dict(trial.augmentation).items()
    }
    return {op: magnitude for op, magnitude in scaled.items() if magnitude > 0}


def _progress(trial: TrialConfig, truth: Truth) -> float:
    """Return how much of what can be learned is learned at the end; a quarter at least, where anything is."""
    steps = trial.budget_steps - _takeoff(trial, truth)
    return max(0.25, -math.expm1(-max(0.0, steps) / (truth.tasks[trial.task].pace * _slowness(trial, truth))))


def _takeoff(trial: TrialConfig, truth: Truth) -> float:
    task = truth.tasks[trial.task]
    return task.takeoff * _factor(trial, task.takeoff_factors) * _slowness(trial, truth)


def _factor(trial: TrialConfig, factors: Mapping[str, Mapping[Any, float]]) -> float:
    """Return the product of the factors of the trial's options."""
    options = _options(trial)
    return math.prod(by_value[options[name]] for name, by_value in factors.items())


def _slowness(trial: TrialConfig, truth: Truth) -> float:
    return math.sqrt(max(1.0, 1 / lr_ratio(trial, truth)))


def _n_images(trial: TrialConfig, truth: Truth) -> int:
    return truth.all_images if trial.n_images is None else trial.n_images


def _options(trial: TrialConfig) -> dict[str, Any]:
    return vars(build_options(TASKS[trial.task], dict(trial.options)))


def _ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to `low`, 1 from `high` on, and a straight line between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))
