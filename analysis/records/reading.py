"""Reading a study's journal: an append-only record of everything that the study did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, overload

from analysis.records.codec import KINDS, from_line, prefix
from analysis.records.events import Event, StudyStarted
from analysis.records.layout import JOURNAL_FILE

SomeEvent = TypeVar("SomeEvent", bound=Event)


@overload
def read(folder: Path) -> Iterator[Event]: ...


@overload
def read(folder: Path, *kinds: type[SomeEvent]) -> Iterator[SomeEvent]: ...


def read(folder: Path, *kinds: Any) -> Iterator[Any]:
    """Yield the events of the journal in `folder` in the order in which they were written.

    A half-written last line, left by a driver that died, is skipped. So are kinds of events that only later versions
    know.

    Args:
        folder: A study's folder. Nothing is yielded if it has no journal.
        *kinds: Classes of the events to yield; all by default. Lines of other kinds are not decoded.

    Raises:
        JournalError: If any other line is not an event.
        ConfigError: If a trial has fields that this version does not know.
    """
    path = folder / JOURNAL_FILE
    if not path.exists():
        return
    skipped = tuple(prefix(kind) for kind in KINDS.values() if kinds and not issubclass(kind, kinds))
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n") or line.startswith(skipped):
                continue
            event = from_line(line, f"{path}, line {number}")
            if isinstance(event, kinds or Event):
                yield event


def started(folder: Path) -> StudyStarted | None:
    """Return the event by which the study in `folder` began; None if it has not begun."""
    return next(read(folder, StudyStarted), None)
