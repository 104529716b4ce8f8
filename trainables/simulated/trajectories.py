"""Courses: how far a trial of each kind has come at every moment, before anybody looks at it.

Progress is a share: 0 is chance, 1 a perfect score. Time is a share of the budget. Every kind has a few parameters, and
`draw_course` draws an instance in which the kind's defining property is plain.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from trainables.errors import ConfigError, suggestion

DIVERGED, COLLAPSED, AT_CHANCE = "diverged", "collapsed", "at_chance"
OVERFIT, STILL_IMPROVING, CONVERGED = "overfit", "still_improving", "converged"
KINDS = (DIVERGED, COLLAPSED, AT_CHANCE, OVERFIT, STILL_IMPROVING, CONVERGED)
N_CLASSES = 10  # of every labeled simulated data set
LOST_PROBE = 0.12  # accuracy of a linear probe on features that are nearly constant

_FALL = 0.03  # share of the budget in which a collapse is complete to 1/e
_FLAT_PACE = 0.06  # time constant of a loss that is flat long before the end
_GROWTH = {"simclr": (1.6, 1.7)}  # NT-Xent of 256 views at temperature 0.5 cannot exceed ln 255 + 2 / 0.5
_MEMORISED = 0.97  # progress on the training images of a network that knows them by heart


@dataclass(frozen=True)
class Course:
    """The noise-free course of one trial.

    kind: one of KINDS.
    start, end: validation progress at step 0 and at the last report. `end` counts for the kinds that learn: overfit,
        still_improving and converged; the others end at chance, and a trial that collapses or diverges was on its
        way to `end`.
    takeoff: share of the budget in which nothing is learned yet.
    pace: of converged, overfit, collapsed and diverged, the time constant of learning as a share of the budget; of
        still_improving the exponent a of progress ~ time^a.
    turn: share of the budget after which things go wrong: validation falls, features collapse, the loss grows.
    drop: of overfit, the share of its best validation progress that is lost at the end.
    growth: of diverged, the loss at the end over its level at chance; inf for a loss that is not finite after `turn`,
        where the trial ends.
    probe_start, probe_end: accuracy of the linear probe at step 0 and at the last report.
    flat_loss: of still_improving, whether the task's own metrics are flat at the end while the probe still rises,
        SimCLR's trap (SupContrast issue 45: the loss looks saturated, but linear evaluation keeps rising).
    memorized: of at_chance, whether the training images are learned by heart meanwhile.
    """

    kind: str
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
        if self.kind not in KINDS:
            raise ConfigError(f"no kind of curve {self.kind!r}; {suggestion(self.kind, KINDS)}")


class Progress(NamedTuple):
    """A course at R moments, each float64 [R].

    validation, validation_loss, train: shares of the way from chance to perfect; an overfitting network's loss falls
        behind its accuracy, and may lie below 0, beyond chance.
    probe: accuracy of the linear probe, NaN where the features are not finite.
    health: 1 healthy to 0 collapsed, NaN where the features are not finite.
    inflation: factor on every loss, NaN where it is not finite.
    """

    validation: np.ndarray
    validation_loss: np.ndarray
    train: np.ndarray
    probe: np.ndarray
    health: np.ndarray
    inflation: np.ndarray


def draw_course(kind: str, rng: np.random.Generator, *, task: str = "rotation", **fixed: float | bool) -> Course:
    """Return a plain instance of `kind`, with level, pace and turning point drawn at random.

    fixed: fields of Course that are not drawn. Raises ConfigError for an unknown kind.
    """
    learns = kind in (OVERFIT, STILL_IMPROVING, CONVERGED)
    probe_start = rng.uniform(0.35, 0.4)
    gain = {OVERFIT: rng.uniform(-0.05, 0.02), STILL_IMPROVING: rng.uniform(0.08, 0.14)}.get(kind, 0.0)
    drawn = {
        # Two views of an image are alike to an untrained network, so SimCLR does not begin at chance.
        "start": rng.uniform(0.1, 0.25) if task == "simclr" and kind != AT_CHANCE else 0.0,
        "end": rng.uniform(0.35, 0.5) if kind == OVERFIT else rng.uniform(0.5, 0.85),
        "takeoff": rng.uniform(0.0, 0.35 if kind == STILL_IMPROVING else 0.12),
        "pace": rng.uniform(0.7, 1.4) if kind == STILL_IMPROVING else rng.uniform(0.04, 0.08),
        "turn": rng.uniform(0.25, 0.5),
        "drop": rng.uniform(0.3, 0.45),
        "growth": math.inf if rng.random() < 0.5 else rng.uniform(*_GROWTH.get(task, (2.0, 4.0))),
        "probe_start": probe_start,
        "probe_end": probe_start + (rng.uniform(0.04, 0.1) if kind == CONVERGED else gain if learns else 0.0),
    }
    return Course(kind, **(drawn | fixed))  # type: ignore[arg-type]


def progress(course: Course, time: np.ndarray) -> Progress:
    """Return where the course stands at `time`, float64 [R], shares of the budget in [0, 1]."""
    return _COURSES[course.kind](course, time)


def _at_chance(course: Course, time: np.ndarray) -> Progress:
    nothing, ones = np.zeros_like(time), np.ones_like(time)
    # By heart means confidently wrong on everything else: the validation loss rises above chance.
    by_heart = _by_heart(time) if course.memorized else nothing
    probe = course.probe_start + (course.probe_end - course.probe_start) * time
    return Progress(nothing, -0.3 * by_heart, by_heart, probe, ones, ones)


def _converged(course: Course, time: np.ndarray) -> Progress:
    return _learning(course, _saturating(course, time), _saturating(course, time))


def _still_improving(course: Course, time: np.ndarray) -> Progress:
    rising = _since_takeoff(course, time) ** course.pace
    if not course.flat_loss:
        return _learning(course, rising, rising)
    return _learning(course, -np.expm1(-time / _FLAT_PACE), rising)


def _overfit(course: Course, time: np.ndarray) -> Progress:
    best = course.end / (1 - course.drop)
    rise = _saturating(course, np.minimum(time, course.turn))
    rise = rise / _saturating(course, np.array([course.turn]))
    late = np.clip((time - course.turn) / (1 - course.turn), 0, 1)
    validation = course.start + (best - course.start) * rise - (best - course.end) * late
    best_probe = max(course.probe_start, course.probe_end) + 0.03
    probe = course.probe_start + (best_probe - course.probe_start) * rise - (best_probe - course.probe_end) * late
    train = np.maximum(_by_heart(time), validation * (1 - late))
    ones = np.ones_like(time)
    return Progress(validation, validation - 0.15 * late, train, probe, ones, ones)


def _collapsed(course: Course, time: np.ndarray) -> Progress:
    left = np.exp(-np.clip(time - course.turn, 0, None) / _FALL)
    learned = (course.start + (course.end - course.start) * _saturating(course, time)) * left
    probe = LOST_PROBE + (course.probe_start - LOST_PROBE) * left
    return Progress(learned, learned, learned, probe, left, np.ones_like(time))


def _diverged(course: Course, time: np.ndarray) -> Progress:
    late = np.clip((time - course.turn) / (1 - course.turn), 0, 1)
    left = np.exp(-np.clip(time - course.turn, 0, None) / _FALL)
    learned = (course.start + (course.end - course.start) * _saturating(course, time)) * left
    gone = np.where(time > course.turn, np.nan, 1.0) if math.isinf(course.growth) else np.ones_like(time)
    inflation = gone if math.isinf(course.growth) else 1 + (course.growth - 1) * late
    probe = (LOST_PROBE + (course.probe_start - LOST_PROBE) * left) * gone
    return Progress(learned, learned, learned, probe, gone, inflation)


def _learning(course: Course, own: np.ndarray, probe: np.ndarray) -> Progress:
    validation = course.start + (course.end - course.start) * own
    accuracy = course.probe_start + (course.probe_end - course.probe_start) * probe
    ones = np.ones_like(validation)
    return Progress(validation, validation, validation, accuracy, ones, ones)


def _since_takeoff(course: Course, time: np.ndarray) -> np.ndarray:
    return np.clip((time - course.takeoff) / (1 - course.takeoff), 0, 1)


def _saturating(course: Course, time: np.ndarray) -> np.ndarray:
    """Return 0 until take-off, then 1 - exp, scaled to reach 1 at the end of the budget."""
    since = np.clip(time - course.takeoff, 0, None)
    return -np.expm1(-since / course.pace) / -math.expm1(-(1 - course.takeoff) / course.pace)


def _by_heart(time: np.ndarray) -> np.ndarray:
    """Return progress on the training images that never stops before all are known: 1 - exp(-3 t), scaled."""
    return _MEMORISED * np.expm1(-3 * time) / math.expm1(-3)


_COURSES = {
    DIVERGED: _diverged,
    COLLAPSED: _collapsed,
    AT_CHANCE: _at_chance,
    OVERFIT: _overfit,
    STILL_IMPROVING: _still_improving,
    CONVERGED: _converged,
}
