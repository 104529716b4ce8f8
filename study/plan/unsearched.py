"""Hyperparameters that a study does not search although its task would, or searches although it sets their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces import SPECS
from study.config import strict_yaml
from study.config.names import TaskName
from study.config.spaces import EXTEND, configured_space
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


def set_but_searched(plan: Plan) -> dict[TaskName, dict[str, Any]]:
    """Return, per task that has some, the values in `defaults` and `task_options` that its search replaces."""
    config, found = plan.config, {}
    for task in config.tasks:
        fields = dict(config.defaults.get(task, {}))
        policy: Any = fields.pop("augmentation", {})
        values = fields | {f"augmentation/{op}": magnitude for op, magnitude in policy.items()}
        values |= {f"option/{name}": value for name, value in config.task_options.get(task, {}).items()}
        space = plan.space(task)
        if replaced := {
            name: value for name, value in values.items() if name in space and space[name].grid(2) != [value]
        }:
            found[task] = replaced
    return found


def set_but_searched_lines(plan: Plan) -> list[str]:
    """Return the result of `set_but_searched` in words, one line per task, each with the setting that fixes values."""
    return [
        f"{task}: the search varies "
        + ", ".join(f"{name} ({value} {_use(plan, task, name, value)})" for name, value in values.items())
        + f"; for a fixed value, set search.space.{task} to {_fixing(plan, task, values)}"
        for task, values in set_but_searched(plan).items()
    ]


def _use(plan: Plan, task: TaskName, name: str, value: Any) -> str:
    """Return in words what a search does with a value that is set."""
    search = plan.config.search
    begins = search.algorithm == "optuna" and search.scheduler != "pbt" and value in plan.space(task)[name]
    return "is only its first value" if begins else "has no effect"


def _fixing(plan: Plan, task: TaskName, values: Mapping[str, Any]) -> str:
    """Return the `search.space` of a task in YAML that fixes these values and leaves the rest of its search alone."""
    given = plan.config.search.space
    own: Any = given.get(task, {})
    extend = {} if configured_space(given, task) else {EXTEND: True}
    return strict_yaml.inline({**own, **extend, **{name: [value] for name, value in values.items()}})


def _value(trial: TrialConfig, name: str) -> Any:
    """Return the value of a hyperparameter in a trial."""
    kind, _, inner = name.partition("/")
    if kind == "option":
        return getattr(build_options(TASKS[trial.task], dict(trial.options)), inner)
    return dict(trial.augmentation).get(inner, 0.0) if kind == "augmentation" else getattr(trial, name)
