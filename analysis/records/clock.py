"""Time on the clock that the phases of a study took."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.records.events import Event, PhaseEnded, PhaseStarted, StudyEnded, StudyStarted


def phase_seconds(events: Iterable[Event]) -> dict[str, float]:
    """Return the seconds during which each phase ran, without the pauses between drivers.

    A driver that died without a last event counts up to the last event that it wrote.

    Args:
        events: Events of a journal in the order in which they were written; kinds may be missing.
    """
    seconds: dict[str, float] = {}
    phase, before = "", 0.0
    for event in events:
        if phase and not isinstance(event, StudyStarted):
            seconds[phase] = seconds.get(phase, 0.0) + max(0.0, event.time - before)
        match event:
            case PhaseStarted():
                phase = event.phase
            case PhaseEnded() | StudyStarted() | StudyEnded():
                phase = ""
        before = event.time
    return seconds
