"""History: the state of a study as its journal records it, every trial's state and every phase's outcome."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis import records
from analysis.records import (
    Event,
    Facts,
    PhaseEnded,
    Report,
    StudyStarted,
    TrialChanged,
    TrialEnded,
    TrialEvent,
    TrialStarted,
)
from trainables.trial import TrialConfig


@dataclass
class TrialRecord:
    """State of one trial according to the journal.

    Attributes:
        trial: The trial's configuration.
        status: How the trial ended; None while it runs, or after its driver has died.
        reason: Why it was stopped, or the traceback of its failure.
        step: Optimizer steps at its last report.
        metrics: Last value of each metric, since not every report has the online probes.
        untrained: Metrics of its report at step 0, of the untrained network.
        facts: Facts known before its first step; None until the trial has reported them.
        results: Results of the final probes.
        changed: Configuration that population-based training has given it last; None if it trains with its own.
    """

    trial: TrialConfig
    status: str | None = None
    reason: str = ""
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    untrained: Mapping[str, float] = field(default_factory=dict)
    facts: Facts | None = None
    results: Mapping[str, float] = field(default_factory=dict)
    changed: TrialConfig | None = None

    @property
    def ended(self) -> bool:
        """Whether the trial will not run again."""
        return self.status is not None

    def value(self, metric: str) -> float:
        """Return the last value of a metric or a final result; NaN if the trial has neither."""
        return self.metrics.get(metric, self.results.get(metric, math.nan))


@dataclass
class History:
    """The state of a study, kept up to date by listening to its journal.

    Attributes:
        trials: Records by trial id, in the order in which the trials first started.
        outcomes: Outcome of each phase that has ended.
        drivers: How many times the study was started.
        objectives: Per task, the metric that the first driver chose by, and its direction.
        began: When the study was first started, in seconds since the epoch; no two studies share it.
    """

    trials: dict[str, TrialRecord] = field(default_factory=dict)
    outcomes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    drivers: int = 0
    objectives: Mapping[str, Sequence[str]] = field(default_factory=dict)
    began: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> History:
        """Return the state that the journal in `folder` records."""
        history = cls()
        for event in records.read(folder):
            history.observe(event)
        return history

    def observe(self, event: Event) -> None:
        """Update the state with one event of the journal.

        Raises:
            JournalError: The event belongs to a trial that never started.
        """
        match event:
            case StudyStarted():
                self.began = self.began or event.time
                self.drivers += 1
                self.objectives = self.objectives or event.objectives
            case PhaseEnded():
                self.outcomes[event.phase] = event.outcome
            case TrialStarted():
                record = self.trials.setdefault(event.trial_id, TrialRecord(event.config))
                record.status = record.changed = None
            case TrialEvent():
                if event.trial_id not in self.trials:
                    kind = type(event).__name__
                    raise records.damaged(
                        f"{records.JOURNAL_FILE}: {kind} of trial {event.trial_id}, which never started"
                    )
                _update(self.trials[event.trial_id], event)

    def has_ended(self, trial_id: str) -> bool:
        """Return whether a trial has started and will not run again."""
        return trial_id in self.trials and self.trials[trial_id].ended

    def of(self, phase: str, task: str | None = None) -> list[TrialRecord]:
        """Return the trials of a phase, of one task or all, in the order in which they started."""
        return [
            record
            for record in self.trials.values()
            if record.trial.phase == phase and task in (None, record.trial.task)
        ]

    def failed(self) -> list[TrialRecord]:
        """Return the trials that failed."""
        return [record for record in self.trials.values() if record.status == records.FAILED]


def finished(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the records of trials that ran to their end."""
    return [record for record in trials if record.status == records.FINISHED]


def _update(record: TrialRecord, event: TrialEvent) -> None:
    match event:
        case TrialChanged():
            record.changed = event.config
        case Facts():
            record.facts = event
        case Report():
            record.step, record.metrics = event.step, {**record.metrics, **event.metrics}
            if not event.step:
                record.untrained = event.metrics
        case TrialEnded():
            record.status, record.reason, record.results = event.status, event.reason, event.results
