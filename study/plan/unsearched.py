"""Hyperparameters of a task's own search space that a study's `search.space` leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces import SPECS
from study.config.names import TaskName
from study.plan.phases import Plan
from trainables.tasks import TASKS, build_options
from trainables.trial import TrialConfig


def unsearched(plan: Plan) -> dict[TaskName, dict[str, Any]]:
    """Return, per task that lacks some, the value of each hyperparameter that is no longer searched."""
    found = {}
    for task in plan.config.tasks:
        base, searched = plan.search_base(task), plan.space(task)
        if left_out := [name for name in SPECS[task].space if name not in searched]:
            found[task] = {name: _value(base, name) for name in left_out}
    return found


def unsearched_lines(found: Mapping[TaskName, Mapping[str, Any]]) -> list[str]:
    """Return the result of `unsearched` in words, one line per task."""
    return [
        f"{task}: search.space leaves out "
        + ", ".join(f"{name} (always {value})" for name, value in values.items())
        + "; with `extend: true` in it, these are searched as well"
        for task, values in found.items()
    ]


def _value(trial: TrialConfig, name: str) -> Any:
    """Return the value of a hyperparameter in a trial."""
    kind, _, inner = name.partition("/")
    if kind == "option":
        return getattr(build_options(TASKS[trial.task], dict(trial.options)), inner)
    return dict(trial.augmentation).get(inner, 0.0) if kind == "augmentation" else getattr(trial, name)
