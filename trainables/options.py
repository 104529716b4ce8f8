"""Dataclass fields that declare the values they allow.

Tasks run where neither Ray nor pydantic is installed, so ranges are checked in plain Python, with the messages that the
command line shows.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from trainables.errors import ConfigError

# Types of a field, with and without `from __future__ import annotations`.
_WHOLE = (int, int | None, "int", "int | None")
_NUMBERS = (tuple[float, ...], "tuple[float, ...]")


def in_range(default: Any, low: float, high: float, *, exclusive_low: bool = False, changes_sizes: bool = False) -> Any:
    """Return a dataclass field that allows numbers in [low, high], or in (low, high] with `exclusive_low`.

    Fields of type int accept whole numbers only. If `default` is None, None is allowed, too.

    Args:
        default: Default of the field.
        low: Lowest number.
        high: Highest number.
        exclusive_low: Whether `low` itself is not allowed.
        changes_sizes: Whether the number decides sizes of what is computed, and with them the time of a step.
    """
    limits = {"low": low, "high": high, "exclusive_low": exclusive_low, "changes_sizes": changes_sizes}
    return dataclasses.field(default=default, metadata=limits)


def one_of(default: Any, *choices: Any) -> Any:
    """Return a dataclass field that allows only `choices`."""
    return dataclasses.field(default=default, metadata={"choices": choices})


def check_fields(instance: Any, what: str) -> None:
    """Check that the value of every field of a dataclass is allowed.

    Args:
        instance: The dataclass.
        what: Name of the dataclass in messages, for example `task_options.rotation`.

    Raises:
        ConfigError: For the first field whose value is not allowed.
    """
    for field in dataclasses.fields(instance):
        problem = _problem(getattr(instance, field.name), field)
        if problem:
            raise ConfigError(f"{what}.{field.name} = {getattr(instance, field.name)!r}: {problem}")


def _problem(value: Any, field: dataclasses.Field[Any]) -> str | None:
    limits = field.metadata
    if "choices" in limits:
        # In Python True == 1 == 1.0, but these are different options.
        if not any(type(value) is type(choice) and value == choice for choice in limits["choices"]):
            return "must be one of " + ", ".join(map(repr, limits["choices"]))
        return None
    if field.type in (str, "str"):
        return None if isinstance(value, str) else "must be text"
    if field.type in _NUMBERS:
        listed = isinstance(value, list | tuple) and all(map(_is_number, value))
        return None if listed else "must be a list of finite numbers"
    if "low" not in limits or (value is None and field.default is None):
        return None
    if not _is_number(value):
        return "must be a finite number"
    if field.type in _WHOLE and not isinstance(value, int):
        return "must be a whole number"
    low, high = limits["low"], limits["high"]
    if not low <= value <= high or (limits["exclusive_low"] and value == low):
        left = "(" if limits["exclusive_low"] else "["
        return f"must be in {left}{low}, {high}]"
    return None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)  # isfinite raises for integers above the largest float
