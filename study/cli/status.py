"""How a study stands, told from its journal alone: phases, trials by state, the best so far, verdicts, time left."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Mapping
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
from analysis.records.phases import CONFIRM
from study.plan.history import History, TrialRecord, finished

WAITING, RUNS, DONE = "waiting", "running", "done"
SHOWN_VALUES = ("lr", "batch_size", "augmentation_strength", "seed")


@dataclass(frozen=True)
class PhaseStatus:
    """One phase: waiting, running or done; its trials by state; how many there will be at most, if that is known."""

    phase: str
    state: str
    trials: Mapping[str, int]
    planned: int | None


@dataclass(frozen=True)
class Best:
    """A task's best value so far of what its search looks at.

    value: the mean over fresh seeds once configurations were confirmed, else that of the best single trial.
    seeds: how many it is the mean of; 1 is a single trial, whose value flatters it.
    values: the configuration's lr, batch_size, augmentation_strength and, of a single trial, seed.
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

    last_event: its time, in seconds since the epoch. ended: whether the study has come to its end.
    verdicts: how many ended trials got each. seconds_left: at most, at the pace so far; None where that is not known.
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
    """Return how the study in `folder` stands. Nothing is written, so that it may run meanwhile."""
    events = list(records.read(folder))
    history = History()
    for event in events:
        history.observe(event)
    started: dict[str, Any] = next((event for event in reversed(events) if event["event"] == "study_started"), {})
    plan: dict[str, dict[str, int]] = started.get("plan") or {}
    ended = bool(events) and events[-1]["event"] == "study_ended"
    running = {event["phase"] for event in events if event["event"] == "phase_started"} - set(history.outcomes)
    by_phase: dict[str, list[TrialRecord]] = {name: [] for name in plan}
    for record in history.trials.values():
        by_phase.setdefault(record.trial.phase, []).append(record)
    phases = [
        PhaseStatus(
            name,
            DONE if name in history.outcomes else RUNS if name in running else WAITING,
            dict(Counter(record.status or RUNNING for record in records)),
            plan.get(name, {}).get("trials"),
        )
        for name, records in by_phase.items()
    ]
    runs, curves = frames(events)
    found = verdicts(runs[runs["status"] != RUNNING], curves)
    return Status(
        started.get("study", folder.resolve().name),
        ended,
        events[-1]["time"] if events else time.time(),
        phases,
        _best(history, started.get("objectives") or {}),
        found["verdict"].value_counts().to_dict(),
        0.0 if ended else _seconds_left(events, history, plan, by_phase),
    )


def render(status: Status, now: float | None = None) -> Group:
    """Return the status as a person reads it.

    now: seconds since the epoch; None for this moment.
    """
    phases = Table("phase", "state", "trials", "of at most", title=status.study)
    for phase in status.phases:
        counts = ", ".join(f"{count} {state.lower()}" for state, count in sorted(phase.trials.items()))
        phases.add_row(phase.phase, phase.state, counts or "0", "" if phase.planned is None else str(phase.planned))
    parts: list[Table | Text] = [phases]
    if status.best:
        best = Table("task", "best so far", "value", "of", "with")
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


def _best(history: History, objectives: Mapping[str, Any]) -> dict[str, Best]:
    """Return the best of each task: what the confirm phase chose, or before that the best single trial."""
    chosen = history.outcomes.get(CONFIRM, {}).get("chosen", {})
    found = {}
    for task, (metric, mode) in objectives.items():
        if task in chosen:
            choice = chosen[task]
            values = {name: choice["config"][name] for name in SHOWN_VALUES if name != "seed"}
            found[task] = Best(metric, mode, choice["mean"], len(choice["seeds"]), choice["trial_ids"][0], values)
            continue
        records = [record for record in history.trials.values() if record.trial.task == task]
        usable = [record for record in records if math.isfinite(record.value(metric))]
        if usable:
            # A trial that was stopped or still runs had fewer steps: it counts only where none has finished.
            best = (max if mode == "max" else min)(finished(usable) or usable, key=lambda record: record.value(metric))
            values = {name: getattr(best.trial, name) for name in SHOWN_VALUES}
            found[task] = Best(metric, mode, best.value(metric), 1, best.trial.trial_id, values)
    return found


def _seconds_left(
    events: list[dict[str, Any]],
    history: History,
    plan: Mapping[str, Mapping[str, int]],
    by_phase: Mapping[str, list[TrialRecord]],
) -> float | None:
    """Return the time that what is left of the plan takes at the pace of the phases so far; None where that is open.

    Phases that train go by steps, those that only probe by trials. What a stopped trial did not train is not left.
    """
    spent = _spent(events)
    seconds = {True: 0.0, False: 0.0}  # of phases that train, and of those that do not
    done, left = {True: 0, False: 0}, {True: 0, False: 0}
    for name, size in plan.items():
        trains, records = size["steps"] > 0, by_phase[name]
        total = size["steps" if trains else "trials"]
        over = [record for record in records if record.ended]
        seconds[trains] += spent.get(name, 0.0)
        done[trains] += sum(record.step for record in records) if trains else len(over)
        if name not in history.outcomes:
            going = sum(record.step for record in records if not record.ended)
            settled = sum(record.trial.budget_steps for record in over) + going if trains else len(over)
            left[trains] += max(0, total - settled)
    needed = [kind for kind in left if left[kind]]
    if not plan or any(not done[kind] for kind in needed):
        return None
    return sum(left[kind] * seconds[kind] / done[kind] for kind in needed)


def _spent(events: list[dict[str, Any]]) -> dict[str, float]:
    """Return the seconds that each phase has taken; the time between two drivers is nobody's."""
    spent: dict[str, float] = {}
    phase, before = "", None
    for event in events:
        if before is not None and phase and event["event"] != "study_started":
            spent[phase] = spent.get(phase, 0.0) + event["time"] - before
        before = event["time"]
        if event["event"] == "phase_started":
            phase = event["phase"]
        elif event["event"] in ("phase_ended", "study_started"):
            phase = ""
    return spent


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(max(0.0, seconds))))
