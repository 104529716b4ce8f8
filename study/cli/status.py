"""Status of a study, read from its journal alone: phases, trials by state, best results, verdicts, time left."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from analysis import records
from analysis.convergence import verdicts
from analysis.data.frames import RUNNING, frames
from analysis.records import Event, PhaseEnded, PhaseStarted, StudyEnded, StudyStarted
from analysis.records.phases import CONFIRM
from study.plan.history import History, TrialRecord, finished
from study.plan.ranking import ranked

WAITING, RUNS, DONE = "waiting", "running", "done"
SHOWN_VALUES = ("lr", "batch_size", "augmentation_strength", "seed")


@dataclass(frozen=True)
class PhaseStatus:
    """State of one phase.

    Attributes:
        phase: Name of the phase.
        state: WAITING, RUNS or DONE.
        trials: Number of trials per status.
        planned: Upper bound of the number of trials; None if the journal has no plan.
    """

    phase: str
    state: str
    trials: Mapping[str, int]
    planned: int | None


@dataclass(frozen=True)
class Best:
    """A task's best value so far of the metric that its search optimizes.

    Attributes:
        metric: Name of the metric.
        mode: `max` or `min`.
        value: Mean over fresh seeds once configurations have been confirmed, otherwise the best single trial's value,
            which selection makes optimistic.
        seeds: Number of trials that `value` is the mean of.
        trial_id: Id of the trial, or of the first of them.
        values: The configuration's lr, batch_size and augmentation_strength, and a single trial's seed.
    """

    metric: str
    mode: str
    value: float
    seeds: int
    trial_id: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Status:
    """A study at its last event.

    Attributes:
        study: Name of the study.
        ended: Whether the study has ended.
        last_event: Time of the last event, in seconds since the epoch.
        phases: Phases in the order of the plan.
        best: Best result per task.
        verdicts: Number of ended trials per verdict.
        seconds_left: Upper bound at the pace so far; None if it cannot be estimated yet.
    """

    study: str
    ended: bool
    last_event: float
    phases: list[PhaseStatus]
    best: Mapping[str, Best] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)
    seconds_left: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return dataclasses.asdict(self)


def read_status(folder: Path) -> Status:
    """Return the status of the study in `folder`. Nothing is written, so the study may be running."""
    events = list(records.read(folder))
    history = History()
    for event in events:
        history.observe(event)
    starts = [event for event in events if isinstance(event, StudyStarted)]
    started = starts[-1] if starts else StudyStarted(study=folder.resolve().name)
    ended = bool(events) and isinstance(events[-1], StudyEnded)
    running = {event.phase for event in events if isinstance(event, PhaseStarted)} - set(history.outcomes)
    by_phase: dict[str, list[TrialRecord]] = {name: [] for name in started.plan}
    for record in history.trials.values():
        by_phase.setdefault(record.trial.phase, []).append(record)
    phases = [
        PhaseStatus(
            name,
            DONE if name in history.outcomes else RUNS if name in running else WAITING,
            dict(Counter(record.status or RUNNING for record in in_phase)),
            started.plan.get(name, {}).get("trials"),
        )
        for name, in_phase in by_phase.items()
    ]
    runs, curves = frames(events)
    found = verdicts(runs[runs["status"] != RUNNING], curves)
    return Status(
        started.study,
        ended,
        events[-1].time if events else time.time(),
        phases,
        _best(history, started.objectives),
        found["verdict"].value_counts().to_dict(),
        0.0 if ended else _seconds_left(events, history, started.plan, by_phase),
    )


def render(status: Status, now: float | None = None) -> Group:
    """Return the status as text and tables.

    Args:
        status: Status from `read_status`.
        now: Seconds since the epoch; the current time by default.
    """
    phases = Table("phase", "state", "trials", "planned (at most)", title=status.study)
    for phase in status.phases:
        counts = ", ".join(f"{count} {state.lower()}" for state, count in sorted(phase.trials.items()))
        phases.add_row(phase.phase, phase.state, counts or "0", "" if phase.planned is None else str(phase.planned))
    parts: list[Table | Text] = [phases]
    if status.best:
        best = Table("task", "best so far", "value", "mean of", "settings")
        for task, choice in status.best.items():
            values = ", ".join(
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in choice.values.items()
            )
            of = f"{choice.seeds} seeds" if choice.seeds > 1 else "one trial"
            best.add_row(task, choice.metric, f"{choice.value:.4f}", of, values)
        parts.append(best)
    if status.verdicts:
        parts.append(Text("verdicts: " + ", ".join(f"{count} {name}" for name, count in status.verdicts.items())))
    if status.ended:
        return Group(*parts, Text("the study has ended"))
    left = "not known yet" if status.seconds_left is None else f"at most {_duration(status.seconds_left)}"
    silent = _duration((time.time() if now is None else now) - status.last_event)
    return Group(*parts, Text(f"time left: {left}; last event {silent} ago"))


def _best(history: History, objectives: Mapping[str, Sequence[str]]) -> dict[str, Best]:
    """Return the best of each task: what the confirm phase chose, or before that the best single trial."""
    chosen = history.outcomes.get(CONFIRM, {}).get("chosen", {})
    found = {}
    for task, (metric, mode) in objectives.items():
        if task in chosen:
            choice = chosen[task]
            values = {name: choice["config"][name] for name in SHOWN_VALUES if name != "seed"}
            found[task] = Best(metric, mode, choice["mean"], len(choice["seeds"]), choice["trial_ids"][0], values)
            continue
        trials = [record for record in history.trials.values() if record.trial.task == task]
        # A trial that was stopped or is still running has had fewer steps: it counts only if none has finished.
        if best_first := ranked(finished(trials), metric, mode) or ranked(trials, metric, mode):
            best = best_first[0]
            values = {name: getattr(best.trial, name) for name in SHOWN_VALUES}
            found[task] = Best(metric, mode, best.value(metric), 1, best.trial.trial_id, values)
    return found


def _seconds_left(
    events: list[Event],
    history: History,
    plan: Mapping[str, Mapping[str, int]],
    by_phase: Mapping[str, list[TrialRecord]],
) -> float | None:
    """Return the time that the rest of the plan takes at the pace so far; None if that cannot be estimated yet.

    The pace is steps per second in phases that train and trials per second in phases that only probe. Steps saved by
    early stopping do not count as left.
    """
    spent = _seconds_by_phase(events)
    seconds = {True: 0.0, False: 0.0}  # keys: whether a phase trains
    done, left = {True: 0, False: 0}, {True: 0, False: 0}
    for name, size in plan.items():
        trains, records = size["steps"] > 0, by_phase[name]
        total = size["steps" if trains else "trials"]
        ended = [record for record in records if record.ended]
        seconds[trains] += spent.get(name, 0.0)
        done[trains] += sum(record.step for record in records) if trains else len(ended)
        if name not in history.outcomes:
            running_steps = sum(record.step for record in records if not record.ended)
            ended_steps = sum(record.trial.budget_steps for record in ended)
            settled = ended_steps + running_steps if trains else len(ended)
            left[trains] += max(0, total - settled)
    needed = [kind for kind in left if left[kind]]
    if not plan or any(not done[kind] for kind in needed):
        return None
    return sum(left[kind] * seconds[kind] / done[kind] for kind in needed)


def _seconds_by_phase(events: list[Event]) -> dict[str, float]:
    """Return the seconds that each phase has taken, excluding the time when no driver ran."""
    spent: dict[str, float] = {}
    phase, before = "", None
    for event in events:
        if before is not None and phase and not isinstance(event, StudyStarted):
            spent[phase] = spent.get(phase, 0.0) + event.time - before
        before = event.time
        match event:
            case PhaseStarted():
                phase = event.phase
            case PhaseEnded() | StudyStarted():
                phase = ""
    return spent


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(max(0.0, seconds))))
