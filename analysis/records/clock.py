"""Time on the clock that the phases of a study took."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.records.events import Event, PhaseEnded, PhaseStarted, StudyEnded, StudyStarted


class PhaseClock:
    """Seconds during which each phase of a study ran, kept up to date by `observe`.

    The pauses between drivers do not count. A driver that died without a last event counts up to the last event that it
    wrote.

    Attributes:
        seconds: Seconds by phase.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase, self._before = "", 0.0

    def observe(self, event: Event) -> None:
        """Add the time since the event before to the phase that runs."""
        if self._phase and not isinstance(event, StudyStarted):
            spent = max(0.0, event.time - self._before)
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + spent
        match event:
            case PhaseStarted():
                self._phase = event.phase
            case PhaseEnded() | StudyStarted() | StudyEnded():
                self._phase = ""
        self._before = event.time


def phase_seconds(events: Iterable[Event]) -> dict[str, float]:
    """Return the seconds during which each phase ran; see `PhaseClock`.

    Args:
        events: Events of a journal in the order in which they were written; kinds may be missing.
    """
    clock = PhaseClock()
    for event in events:
        clock.observe(event)
    return clock.seconds
