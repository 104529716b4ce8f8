"""Search spaces of a configuration: a task's own, replaced or extended by `search.space`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search_spaces import SPECS, Space, parse_domain
from trainables.errors import ConfigError
from trainables.tasks import TASKS

EXTEND = "extend"  # key of `search.space` that is not a hyperparameter


def search_space(values: Mapping[str, Any], task: str) -> Space:
    """Return a task's search space: its own, or if hyperparameters are configured, these in its place or in addition.

    Args:
        values: `search.space` of a configuration.
        task: Name of the task.

    Raises:
        ConfigError: A domain is not valid, or `extend` is not true or false.
    """
    own, configured, adds = SPECS[task].space, configured_space(values, task), extends(values, task)
    return {**own, **configured} if adds or not configured else configured


def configured_space(values: Mapping[str, Any], task: str) -> Space:
    """Return the hyperparameters that `search.space` has for a task; the arguments are those of `search_space`."""
    own = for_task(values, task, "search.space")
    return {str(name): parse_domain(str(name), value) for name, value in own.items() if name != EXTEND}


def extends(values: Mapping[str, Any], task: str) -> bool:
    """Return whether `search.space` adds to a task's own space; the arguments are those of `search_space`."""
    found = for_task(values, task, "search.space").get(EXTEND, False)
    if not isinstance(found, bool):
        raise ConfigError(
            f"search.space.{EXTEND} = {found!r}: must be true, to add to a task's own space, or false, to replace it"
        )
    return found


def for_task(values: Mapping[str, Any], task: str, key: str) -> dict[str, Any]:
    """Return the values that apply to one task: those for all tasks, overridden by those under the task's name.

    Args:
        values: A section of the configuration that may have `{TASK: {...}}` next to values for all tasks.
        task: Name of the task.
        key: Name of the section, for error messages.

    Raises:
        ConfigError: The entry under the task's name is not a mapping.
    """
    inner = values.get(task, {})
    if not isinstance(inner, Mapping):
        raise ConfigError(f"{key}.{task} = {inner!r}: must be a mapping of names to values")
    return {name: value for name, value in values.items() if name not in TASKS} | dict(inner)
