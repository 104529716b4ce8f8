"""State of a running study, from the events of its journal, as the displays of its progress show it."""

from __future__ import annotations

from pathlib import Path

from analysis import records
from analysis.records import JOURNAL_FILE, Event, PhaseStarted, StudyStarted
from study.cli.words import time_left
from study.plan.history import History
from study.timing.pace import Pace

WRITING = "writing the report"


class StudyState:
    """How far a study is, kept up to date by `observe`.

    Args:
        name: Name of the study.
        folder: The study's folder; what its journal already holds counts as done when a study is resumed.

    Attributes:
        name: Name of the study.
        phase: Name of the phase that runs; empty before the first.
        history: State of its trials.
        pace: Time spent, and the plan.
    """

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.name, self.folder, self.phase = name, folder, ""
        self.history, self.pace = History(), Pace()

    def observe(self, event: Event) -> list[Event]:
        """Update the state with one event; return what was observed, which includes the events of earlier drivers."""
        events = [*self._earlier(event), event]
        for each in events:
            self.history.observe(each)
            self.pace.observe(each)
        if isinstance(event, PhaseStarted):
            self.phase = event.phase
        return events

    def bars(self) -> list[tuple[str, int, int]]:
        """Return name, ended trials and planned trials, at most, of the phase and of the study."""
        sizes = {name: size["trials"] for name, size in self.pace.plan.items()}
        sizes |= {name: len(self.history.of(name)) for name in self.history.outcomes}  # ended phases are known exactly
        of_phase, trials = self.history.of(self.phase), self.history.trials.values()
        return [
            (self.phase or "starting", sum(record.ended for record in of_phase), sizes.get(self.phase, 0)),
            (self.name, sum(record.ended for record in trials), sum(sizes.values())),
        ]

    def left(self) -> str:
        """Return the time left in words."""
        seconds = self.pace.seconds_left(self.history)
        return WRITING if seconds == 0 else time_left(seconds)

    def _earlier(self, event: Event) -> list[Event]:
        """Return what earlier drivers of the study have written, before the first event of this one."""
        if not (isinstance(event, StudyStarted) and self.folder and (self.folder / JOURNAL_FILE).exists()):
            return []
        self.history, self.pace = History(), Pace()
        return [earlier for earlier in records.read(self.folder) if earlier != event]  # it is already written
