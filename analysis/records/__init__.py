"""Records: the events of a study's journal, their format on disk, and the names of the files in a study's folder."""

from analysis.records.clock import PhaseClock, phase_seconds
from analysis.records.codec import JournalError, damaged, from_line, prefix, to_line
from analysis.records.events import (
    FAILED,
    FINISHED,
    KILLED,
    STOPPED,
    Event,
    Facts,
    PhaseEnded,
    PhaseStarted,
    Report,
    StudyEnded,
    StudyStarted,
    TrialChanged,
    TrialEnded,
    TrialEvent,
    TrialStarted,
)
from analysis.records.layout import CONFIG_FILE, ENCODERS, JOURNAL_FILE
from analysis.records.reading import read, started

__all__ = [
    "CONFIG_FILE",
    "ENCODERS",
    "FAILED",
    "FINISHED",
    "JOURNAL_FILE",
    "KILLED",
    "STOPPED",
    "Event",
    "Facts",
    "JournalError",
    "PhaseClock",
    "PhaseEnded",
    "PhaseStarted",
    "Report",
    "StudyEnded",
    "StudyStarted",
    "TrialChanged",
    "TrialEnded",
    "TrialEvent",
    "TrialStarted",
    "damaged",
    "from_line",
    "phase_seconds",
    "prefix",
    "read",
    "started",
    "to_line",
]
