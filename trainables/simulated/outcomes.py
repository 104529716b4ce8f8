"""Outcomes: what happens to one trial under the declared truth.

Every random number is a function of configuration and seed, by hashing, so nothing depends on the order of trials, the
process or the clock. The numbers ignore phase, cell, `init_from` and the requested probes, and every difference that
does not affect training: an op at magnitude 0, an option at its default, the interval between reports.
"""

from __future__ import annotations

import functools
import json
import math

import numpy as np

from trainables import spelling
from trainables.data.table import Splits
from trainables.rng import stream_seed
from trainables.simulated import response
from trainables.simulated.curves import Curve, measure
from trainables.simulated.measurement import monitor_measurement
from trainables.simulated.response import Shifts
from trainables.simulated.trajectories import CONVERGED
from trainables.simulated.truth import TRUTH, Truth
from trainables.tasks import TASKS, build_options
from trainables.trial import ID_NEUTRAL_DEFAULTS, NON_TRAINING_FIELDS, RANDOM_INIT, RAW_PIXELS, WEIGHTS, TrialConfig

FAILED = "failed"

_NOT_IN_IDENTITY = {*NON_TRAINING_FIELDS, "report_every"} - {"task", "data_seed"}


def true_outcome(trial: TrialConfig, truth: Truth = TRUTH) -> str:
    """Return the outcome of a trial that trains: one of `trajectories.OUTCOMES`, or `failed`."""
    return FAILED if fails(trial, truth) else draw_outcome(trial, truth)


def fails(trial: TrialConfig, truth: Truth = TRUTH) -> bool:
    """Return whether the trial raises an error midway."""
    draw = np.random.default_rng(stream_seed(trial.seed, f"simulated/failure/{identity(trial)}"))
    return bool(draw.random() < response.failure_rate(trial, truth))


def trial_curve(trial: TrialConfig, splits: Splits, truth: Truth = TRUTH) -> Curve:
    """Return all reports that the trial would make if nothing stopped it."""
    rng = np.random.default_rng(stream_seed(trial.seed, f"simulated/curve/{identity(trial)}"))
    outcome, shifts = draw_outcome(trial, truth), draw_shifts(trial, truth)
    trajectory = response.trajectory_of(trial, outcome, truth, labeled=splits.labeled, shifts=shifts)
    return measure(trajectory, monitor_measurement(trial, splits), rng)


def draw_outcome(trial: TrialConfig, truth: Truth) -> str:
    """Draw the outcome of a trial that does not fail, at its declared rate; cells of one seed have correlated draws."""
    normal = _normal(trial, "kind", truth)
    uniform = 0.5 * math.erfc(-normal / math.sqrt(2))
    for outcome, rate in response.outcome_rates(trial, truth).items():
        uniform -= rate
        if uniform < 0:
            return outcome
    return CONVERGED


def draw_shifts(trial: TrialConfig, truth: Truth) -> Shifts:
    """Draw how far a trial deviates from the mean over seeds."""
    if trial.task == RAW_PIXELS or trial.task.startswith(WEIGHTS):
        return Shifts()
    seed = stream_seed(trial.seed, f"simulated/untrained/{trial.encoder}/{trial.width}")
    untrained = truth.random_init_sd * np.random.default_rng(seed).standard_normal()
    if trial.task == RANDOM_INIT:
        return Shifts(untrained=untrained)
    validation = truth.validation_sd * _normal(trial, "validation", truth)
    return Shifts(validation, truth.probe_sd * _normal(trial, "probe", truth), untrained)


@functools.lru_cache(maxsize=256)
def identity(trial: TrialConfig) -> str:
    """Return everything that a trial's network depends on, except the seed, as canonical JSON."""
    if trial.task == RAW_PIXELS:
        return RAW_PIXELS
    if trial.task == RANDOM_INIT:
        return f"{RANDOM_INIT}/{trial.encoder}/{trial.width}"
    if trial.task.startswith(WEIGHTS):
        return f"{WEIGHTS}{trial.weights}"
    values = trial.to_dict() | {
        "augmentation": response.magnitudes(trial),
        "augmentation_strength": None,
        "options": vars(build_options(TASKS[trial.task], dict(trial.options))),
    }
    values = spelling.former(values)  # random streams of existing simulated studies are named by the former spelling
    known = [(name, value) for name, value in values.items() if name not in _NOT_IN_IDENTITY]
    return json.dumps(dict(each for each in known if each not in ID_NEUTRAL_DEFAULTS), sort_keys=True)


def _normal(trial: TrialConfig, stream: str, truth: Truth) -> float:
    """Return a standard normal that shares `seed_share` of its variance with all cells of a task and seed."""
    seeds = (stream_seed(trial.seed, f"simulated/{stream}/{key}") for key in (trial.task, identity(trial)))
    shared, own = (np.random.default_rng(seed).standard_normal() for seed in seeds)
    return math.sqrt(truth.seed_share) * shared + math.sqrt(1 - truth.seed_share) * own
