"""Names of the cells of an ablation: what each changes of the base."""

from __future__ import annotations

import dataclasses
from typing import Any

from trainables.tasks import TASKS, build_options
from trainables.trial import NON_TRAINING_FIELDS, TrialConfig

BASE, NO_AUGMENTATION = "base", "no augmentation"
FIXED = (*NON_TRAINING_FIELDS, "augmentation")
FACTORS = tuple(field.name for field in dataclasses.fields(TrialConfig) if field.name not in (*FIXED, "options"))
# Fields that an ablation may vary. All cells of a study have its data set, its weights and its workers.
VARIABLE = tuple(name for name in FACTORS if name not in ("dataset", "weights", "workers"))
DEFAULT_MAGNITUDE = 1.0  # magnitude of an op that is not in the base's policy


def cell_name(base: TrialConfig, trial: TrialConfig) -> str:
    """Return a cell's name: its differences from the base. Two names are equal if and only if the training is equal."""
    before, after = _levels_of(base), _levels_of(trial)
    changes = {name: after.get(name, 0.0) for name in before | after if after.get(name, 0.0) != before.get(name, 0.0)}
    policy = {name: changes.pop(name) for name in list(changes) if name.startswith("augmentation/")}
    words = [f"{name}={_text(value)}" for name, value in changes.items()]
    if policy:
        words += _policy_words(base, trial) or [f"{name}={_text(value)}" for name, value in policy.items()]
    return ", ".join(words) or BASE


def active_ops(trial: TrialConfig) -> list[str]:
    """Return the ops of a trial's policy that are not off."""
    return [op for op, magnitude in dict(trial.augmentation).items() if magnitude > 0]


def _policy_words(base: TrialConfig, trial: TrialConfig) -> list[str]:
    """Return words for a policy of at most two ops at their usual magnitudes, or an empty list for any other policy."""
    usual, left = dict(base.augmentation), active_ops(trial)
    if not left:
        return [NO_AUGMENTATION]
    if len(left) <= 2 and all(dict(trial.augmentation)[op] == (usual.get(op) or DEFAULT_MAGNITUDE) for op in left):
        return ["only " + " + ".join(left)]
    return []


def _levels_of(trial: TrialConfig) -> dict[str, Any]:
    """Return every factor's value by name, with the task's defaults for its options and without ops that are off."""
    policy = {f"augmentation/{op}": magnitude for op, magnitude in dict(trial.augmentation).items() if magnitude > 0}
    options = vars(build_options(TASKS[trial.task], dict(trial.options)))
    own = {name: getattr(trial, name) for name in FACTORS}
    return own | {f"option/{name}": value for name, value in options.items()} | policy


def _text(value: Any) -> str:
    """Return a level in words; None means all, as in `n_images`."""
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
