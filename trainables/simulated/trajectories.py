"""Trajectories: noise-free learning progress of a simulated trial over its budget, for each possible outcome.

Progress is a share: 0 is chance, 1 is a perfect score. Time is a share of the budget.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trainables.errors import ConfigError, suggestion

DIVERGED, COLLAPSED, AT_CHANCE = "diverged", "collapsed", "at_chance"
OVERFIT, STILL_IMPROVING, CONVERGED = "overfit", "still_improving", "converged"
OUTCOMES = (DIVERGED, COLLAPSED, AT_CHANCE, OVERFIT, STILL_IMPROVING, CONVERGED)
N_CLASSES = 10  # every labeled simulated data set has ten classes
COLLAPSED_ACCURACY = 0.12  # linear probe on features that are nearly constant

_COLLAPSE_TIME = 0.03  # share of the budget in which a collapse decays to 1/e
_SATURATION_TIME = 0.06  # time constant of a loss that is flat long before the end
_GROWTH_RANGE = {"simclr": (1.6, 1.7)}  # NT-Xent of 256 views at temperature 0.5 cannot exceed ln 255 + 2 / 0.5
_DEFAULT_GROWTH_RANGE = (2.0, 4.0)
_MEMORIZED = 0.97  # progress on training images that are fully memorized


@dataclass(frozen=True)
class Trajectory:
    """Parameters of the noise-free trajectory of one trial.

    Attributes:
        outcome: One of OUTCOMES.
        start: Validation progress at step 0.
        end: Validation progress at the last report. It applies to overfit, still_improving and converged. The other
            outcomes end at chance; a trial that collapses or diverges was heading for `end`.
        takeoff: Share of the budget in which nothing is learned yet.
        pace: For still_improving, the exponent a of progress ~ time^a. Otherwise the time constant of learning as a
            share of the budget.
        turn: Share of the budget after which validation drops, features collapse or the loss grows.
        drop: For overfit, the share of the best validation progress that is lost at the end.
        growth: For diverged, the loss at the end over its chance level; inf for a loss that is not finite after
            `turn`, where the trial ends.
        probe_start: Accuracy of the linear probe at step 0.
        probe_end: Accuracy of the linear probe at the last report.
        flat_loss: For still_improving, whether the task's own metrics are flat at the end while the probe still
            improves: the SimCLR trap (SupContrast issue 45: the loss looks saturated, but linear evaluation rises).
        memorized: For at_chance, whether the training images are memorized.

    Raises:
        ConfigError: The outcome is unknown.
    """

    outcome: str
    start: float = 0.0
    end: float = 0.6
    takeoff: float = 0.05
    pace: float = 0.07
    turn: float = 0.4
    drop: float = 0.4
    growth: float = math.inf
    probe_start: float = 0.39
    probe_end: float = 0.46
    flat_loss: bool = False
    memorized: bool = False

    def __post_init__(self) -> None:
        if self.outcome not in OUTCOMES:
            raise ConfigError(f"unknown outcome {self.outcome!r}; {suggestion(self.outcome, OUTCOMES)}")


class Progress(NamedTuple):
    """A trajectory at R points in time, each field float64 [R].

    Attributes:
        validation: Validation accuracy as a share of the way from chance to perfect.
        validation_loss: The same for the validation loss. When a network overfits, it falls behind `validation` and
            can be negative, worse than chance.
        train: The same for all training metrics.
        probe: Accuracy of the linear probe, NaN where the features are not finite.
        health: From 1 (healthy) to 0 (collapsed), NaN where the features are not finite.
        inflation: Factor on every loss, NaN where the loss is not finite.
    """

    validation: np.ndarray
    validation_loss: np.ndarray
    train: np.ndarray
    probe: np.ndarray
    health: np.ndarray
    inflation: np.ndarray


def draw_trajectory(
    outcome: str, rng: np.random.Generator, *, task: str = "rotation", **fixed: float | bool
) -> Trajectory:
    """Draw a clear instance of an outcome: level, pace and turning point are random.

    Args:
        outcome: One of OUTCOMES.
        rng: Source of randomness.
        task: Name of the pretext task.
        **fixed: Fields of `Trajectory` to set instead of drawing them.

    Raises:
        ConfigError: The outcome is unknown.
    """
    learns = outcome in (OVERFIT, STILL_IMPROVING, CONVERGED)
    probe_start = rng.uniform(0.35, 0.4)
    gain = {OVERFIT: rng.uniform(-0.05, 0.02), STILL_IMPROVING: rng.uniform(0.08, 0.14)}.get(outcome, 0.0)
    drawn = {
        # An untrained network maps two views of an image to similar features, so SimCLR starts above chance.
        "start": rng.uniform(0.1, 0.25) if task == "simclr" and outcome != AT_CHANCE else 0.0,
        "end": rng.uniform(0.35, 0.5) if outcome == OVERFIT else rng.uniform(0.5, 0.85),
        "takeoff": rng.uniform(0.0, 0.35 if outcome == STILL_IMPROVING else 0.12),
        "pace": rng.uniform(0.7, 1.4) if outcome == STILL_IMPROVING else rng.uniform(0.04, 0.08),
        "turn": rng.uniform(0.25, 0.5),
        "drop": rng.uniform(0.3, 0.45),
        "growth": math.inf if rng.random() < 0.5 else rng.uniform(*_GROWTH_RANGE.get(task, _DEFAULT_GROWTH_RANGE)),
        "probe_start": probe_start,
        "probe_end": probe_start + (rng.uniform(0.04, 0.1) if outcome == CONVERGED else gain if learns else 0.0),
    }
    return Trajectory(outcome, **(drawn | fixed))  # type: ignore[arg-type]


def progress(trajectory: Trajectory, time: np.ndarray) -> Progress:
    """Evaluate a trajectory at `time`, float64 [R], shares of the budget in [0, 1]."""
    return _PROGRESS[trajectory.outcome](trajectory, time)


def _at_chance(trajectory: Trajectory, time: np.ndarray) -> Progress:
    zeros, ones = np.zeros_like(time), np.ones_like(time)
    # A network that memorizes is confidently wrong on other images: the validation loss rises above chance.
    train = _memorization(time) if trajectory.memorized else zeros
    probe = trajectory.probe_start + (trajectory.probe_end - trajectory.probe_start) * time
    return Progress(zeros, -0.3 * train, train, probe, ones, ones)


def _converged(trajectory: Trajectory, time: np.ndarray) -> Progress:
    return _learning(trajectory, _saturating(trajectory, time), _saturating(trajectory, time))


def _still_improving(trajectory: Trajectory, time: np.ndarray) -> Progress:
    rising = _since_takeoff(trajectory, time) ** trajectory.pace
    if not trajectory.flat_loss:
        return _learning(trajectory, rising, rising)
    return _learning(trajectory, -np.expm1(-time / _SATURATION_TIME), rising)


def _overfit(trajectory: Trajectory, time: np.ndarray) -> Progress:
    best = trajectory.end / (1 - trajectory.drop)
    rise = _saturating(trajectory, np.minimum(time, trajectory.turn))
    rise = rise / _saturating(trajectory, np.array([trajectory.turn]))
    late = np.clip((time - trajectory.turn) / (1 - trajectory.turn), 0, 1)
    validation = trajectory.start + (best - trajectory.start) * rise - (best - trajectory.end) * late
    best_probe = max(trajectory.probe_start, trajectory.probe_end) + 0.03
    probe = (
        trajectory.probe_start
        + (best_probe - trajectory.probe_start) * rise
        - (best_probe - trajectory.probe_end) * late
    )
    train = np.maximum(_memorization(time), validation * (1 - late))
    ones = np.ones_like(time)
    return Progress(validation, validation - 0.15 * late, train, probe, ones, ones)


def _collapsed(trajectory: Trajectory, time: np.ndarray) -> Progress:
    remaining = _decay(trajectory, time)
    learned = _learned_until_lost(trajectory, time, remaining)
    probe = COLLAPSED_ACCURACY + (trajectory.probe_start - COLLAPSED_ACCURACY) * remaining
    return Progress(learned, learned, learned, probe, remaining, np.ones_like(time))


def _diverged(trajectory: Trajectory, time: np.ndarray) -> Progress:
    late = np.clip((time - trajectory.turn) / (1 - trajectory.turn), 0, 1)
    remaining = _decay(trajectory, time)
    learned = _learned_until_lost(trajectory, time, remaining)
    finite = np.where(time > trajectory.turn, np.nan, 1.0) if math.isinf(trajectory.growth) else np.ones_like(time)
    inflation = finite if math.isinf(trajectory.growth) else 1 + (trajectory.growth - 1) * late
    probe = (COLLAPSED_ACCURACY + (trajectory.probe_start - COLLAPSED_ACCURACY) * remaining) * finite
    return Progress(learned, learned, learned, probe, finite, inflation)


def _decay(trajectory: Trajectory, time: np.ndarray) -> np.ndarray:
    """Return the share of what was learned that is left after the turning point."""
    return np.exp(-np.clip(time - trajectory.turn, 0, None) / _COLLAPSE_TIME)


def _learned_until_lost(trajectory: Trajectory, time: np.ndarray, remaining: np.ndarray) -> np.ndarray:
    return (trajectory.start + (trajectory.end - trajectory.start) * _saturating(trajectory, time)) * remaining


def _learning(trajectory: Trajectory, own: np.ndarray, probe: np.ndarray) -> Progress:
    validation = trajectory.start + (trajectory.end - trajectory.start) * own
    accuracy = trajectory.probe_start + (trajectory.probe_end - trajectory.probe_start) * probe
    ones = np.ones_like(validation)
    return Progress(validation, validation, validation, accuracy, ones, ones)


def _since_takeoff(trajectory: Trajectory, time: np.ndarray) -> np.ndarray:
    return np.clip((time - trajectory.takeoff) / (1 - trajectory.takeoff), 0, 1)


def _saturating(trajectory: Trajectory, time: np.ndarray) -> np.ndarray:
    """Return 0 until takeoff, then a saturating exponential, scaled to reach 1 at the end of the budget."""
    since = np.clip(time - trajectory.takeoff, 0, None)
    return -np.expm1(-since / trajectory.pace) / -math.expm1(-(1 - trajectory.takeoff) / trajectory.pace)


def _memorization(time: np.ndarray) -> np.ndarray:
    """Return progress on the training images, 1 - exp(-3 t), scaled: it rises until the end."""
    return _MEMORIZED * np.expm1(-3 * time) / math.expm1(-3)


_PROGRESS = {
    DIVERGED: _diverged,
    COLLAPSED: _collapsed,
    AT_CHANCE: _at_chance,
    OVERFIT: _overfit,
    STILL_IMPROVING: _still_improving,
    CONVERGED: _converged,
}
