"""Codec between events and the lines of a journal: one JSON object per line, `event` and `time` first.

JSON has no NaN and no infinities; they are written as `{"$float": "nan"}`. A key that itself ends with `$float` is
written with one more `$` before it.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from analysis.records.events import (
    ADDED,
    Event,
    Facts,
    PhaseEnded,
    PhaseStarted,
    Report,
    StudyEnded,
    StudyStarted,
    TrialChanged,
    TrialEnded,
    TrialStarted,
)
from trainables.errors import ConfigError, UserError
from trainables.spelling import with_current_names
from trainables.trial import TrialConfig

KINDS: dict[str, type[Event]] = {
    "study_started": StudyStarted,
    "phase_started": PhaseStarted,
    "trial_started": TrialStarted,
    "trial_changed": TrialChanged,
    "facts": Facts,
    "report": Report,
    "trial_ended": TrialEnded,
    "phase_ended": PhaseEnded,
    "study_ended": StudyEnded,
}
NON_FINITE = "$float"

_KIND_OF = {kind: name for name, kind in KINDS.items()}
_FIELDS = {kind: {field.name: field for field in dataclasses.fields(kind)} for kind in _KIND_OF}
_ADDED = {kind: [name for name, field in fields.items() if field.metadata == ADDED] for kind, fields in _FIELDS.items()}


class JournalError(UserError):
    """A journal that something other than its writer has changed."""


def to_line(event: Event) -> bytes:
    """Return the line of the journal that records an event, with its line break."""
    values = {name: getattr(event, name) for name in _FIELDS[type(event)]}
    left_out = {name for name in _ADDED[type(event)] if not values[name] and values[name] != 0}
    content = {"event": _KIND_OF[type(event)]} | {name: values[name] for name in values if name not in left_out}
    return (json.dumps(_to_json(content), separators=(",", ":")) + "\n").encode()


def from_line(line: bytes, where: str) -> Event | None:
    """Return the event in one line of a journal, or None for a kind that only later versions know.

    Fields that only later versions know are ignored, and names that earlier versions spelled differently become the
    current ones.

    Args:
        line: The line, with or without its line break.
        where: File and line, for the error message.

    Raises:
        JournalError: If the line is not an event.
        ConfigError: If a trial has fields that this version does not know.
    """
    try:
        content = json.loads(line.decode(), object_hook=_from_json if NON_FINITE.encode() in line else None)
        if not isinstance(content, dict) or not isinstance(name := content.pop("event", None), str):
            raise ValueError("not an event")
        if (kind := KINDS.get(name)) is None:
            return None
        if content.keys() != _FIELDS[kind].keys():
            content = _known_fields(kind, content)
        return kind(**_converted(kind, content))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except ValueError as error:
        raise damaged(f"{where}: broken line ({error})") from error


def prefix(kind: type[Event]) -> bytes:
    """Return the beginning of every line of this kind, so that readers can skip such lines without decoding them."""
    return f'{{"event":"{_KIND_OF[kind]}",'.encode()


def damaged(problem: str) -> JournalError:
    """Return the error for a journal that cannot be read; nothing can rebuild it."""
    return JournalError(f"{problem}; restore the file from a copy, or start over with --fresh, which moves it aside")


def _known_fields(kind: type[Event], content: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an event that this version knows. Raises ValueError if a required one is missing."""
    for name, field in _FIELDS[kind].items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if name not in content and (required or name == "time"):
            raise ValueError(f"{_KIND_OF[kind]} without {name}")
    return {name: value for name, value in content.items() if name in _FIELDS[kind]}


def _converted(kind: type[Event], values: dict[str, Any]) -> dict[str, Any]:
    if kind in (TrialStarted, TrialChanged):
        values["config"] = TrialConfig.from_dict(values["config"])
    elif kind is StudyStarted and "config" in values:
        values["config"] = with_current_names(values["config"])
    elif kind is PhaseEnded and "outcome" in values:
        values["outcome"] = with_current_names(values["outcome"])
    return values


def _to_json(value: Any) -> Any:
    """Return `value` in strict JSON types."""
    if isinstance(value, Mapping):
        return {f"${key}" if str(key).endswith(NON_FINITE) else key: _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, TrialConfig):
        return value.to_dict()
    if isinstance(value, float) and not math.isfinite(value):
        return {NON_FINITE: repr(float(value))}  # float(), since numpy's own repr is not a number
    return value


def _from_json(value: dict[str, Any]) -> Any:
    if NON_FINITE in value:
        return float(str(value[NON_FINITE]))
    return {key[1:] if key.endswith(NON_FINITE) else key: item for key, item in value.items()}
