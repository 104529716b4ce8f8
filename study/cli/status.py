"""Status of a study, read from its journal alone: phases, trials by state, best results, verdicts, time left."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from analysis import records
from analysis.convergence import verdicts
from analysis.data.frames import RUNNING, frames
from analysis.data.plugins import load_plugins
from analysis.records import FAILED, FINISHED, KILLED, PhaseStarted, StudyEnded, StudyStarted
from study.cli.words import best_table, duration, time_left
from study.plan.best import Best, best_so_far
from study.plan.history import History, TrialRecord
from study.timing.pace import Pace

WAITING, RUNS, UNFINISHED, DONE = "waiting", "running", "unfinished", "done"
ENDS = {  # by how the last driver ended
    FINISHED: "the study has ended",
    KILLED: "interrupted, or its time was over; the same command resumes it",
    FAILED: "its driver failed; the same command resumes it",
}


@dataclass(frozen=True)
class PhaseStatus:
    """State of one phase.

    Attributes:
        phase: Name of the phase.
        state: WAITING, RUNS, DONE, or UNFINISHED if the driver ended before the phase did.
        trials: Number of trials per status.
        planned: Upper bound of the number of trials; None if the journal has no plan.
    """

    phase: str
    state: str
    trials: Mapping[str, int]
    planned: int | None


@dataclass(frozen=True)
class Status:
    """A study at its last event.

    Attributes:
        study: Name of the study.
        end: How the last driver ended: FINISHED, KILLED or FAILED; empty if it has not said.
        last_event: Time of the last event, in seconds since the epoch.
        phases: Phases in the order of the plan.
        best: Best result per task.
        verdicts: Number of ended trials per verdict.
        seconds_left: Estimate from the pace so far; None if it cannot be estimated yet.
    """

    study: str
    end: str
    last_event: float
    phases: list[PhaseStatus]
    best: Mapping[str, Best] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)
    seconds_left: float | None = None

    @property
    def ended(self) -> bool:
        """Whether the study has run to its end."""
        return self.end == FINISHED

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {**dataclasses.asdict(self), "ended": self.ended}


def read_status(folder: Path) -> Status:
    """Return the status of the study in `folder`. Nothing is written, so the study may be running."""
    events = list(records.read(folder))
    history, pace = History(), Pace()
    for event in events:
        history.observe(event)
        pace.observe(event)
    starts = [event for event in events if isinstance(event, StudyStarted)]
    started = starts[-1] if starts else StudyStarted(study=folder.resolve().name)
    end = events[-1].status if events and isinstance(events[-1], StudyEnded) else ""
    begun = UNFINISHED if end else RUNS
    running = {event.phase for event in events if isinstance(event, PhaseStarted)} - set(history.outcomes)
    by_phase: dict[str, list[TrialRecord]] = {name: [] for name in started.plan}
    for record in history.trials.values():
        by_phase.setdefault(record.trial.phase, []).append(record)
    phases = [
        PhaseStatus(
            name,
            DONE if name in history.outcomes else begun if name in running else WAITING,
            dict(Counter(record.status or (UNFINISHED if end else RUNNING) for record in in_phase)),
            started.plan.get(name, {}).get("trials"),
        )
        for name, in_phase in by_phase.items()
    ]
    runs, curves = frames(events)
    missing = load_plugins(started.config, started.study, folder)
    names = [each["name"] for each in started.config.get("plugins", []) if each["name"] not in missing]
    found = verdicts(runs[runs["status"] != RUNNING], curves, names)
    return Status(
        started.study,
        end,
        events[-1].time if events else time.time(),
        phases,
        best_so_far(history, started.objectives),
        found["verdict"].value_counts().to_dict(),
        0.0 if end == FINISHED else pace.seconds_left(history),
    )


def render(status: Status, now: float | None = None) -> Group:
    """Return the status as text and tables.

    Args:
        status: Status from `read_status`.
        now: Seconds since the epoch; the current time by default.
    """
    phases = Table("phase", "state", "trials", "planned (at most)", title=status.study, box=box.SIMPLE_HEAD)
    for phase in status.phases:
        counts = ", ".join(f"{count} {state.lower()}" for state, count in sorted(phase.trials.items()))
        phases.add_row(phase.phase, phase.state, counts or "0", "" if phase.planned is None else str(phase.planned))
    parts: list[Table | Text] = [phases]
    if status.best:
        parts.append(best_table(status.best, settings=True))
    if status.verdicts:
        parts.append(
            Text(
                "verdicts: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in status.verdicts.items())
            )
        )
    if status.end:
        return Group(*parts, Text(ENDS.get(status.end, status.end)))
    silent = duration((time.time() if now is None else now) - status.last_event)
    return Group(*parts, Text(f"{time_left(status.seconds_left)}; last event {silent} ago"))
