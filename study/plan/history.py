"""What a journal says so far: every trial's state and every phase's outcome."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis import records
from trainables.trial import TrialConfig


@dataclass
class TrialRecord:
    """One trial as the journal knows it. `status` is None while it runs, or was left running by a dead driver."""

    trial: TrialConfig
    status: str | None = None
    reason: str = ""
    step: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    results: dict[str, float] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the trial will not run again."""
        return self.status is not None

    def value(self, metric: str) -> float:
        """Return a metric of the last report or a final result; NaN where the trial has none."""
        return self.metrics.get(metric, self.results.get(metric, math.nan))


@dataclass
class History:
    """The state of a study, kept up to date by listening to its journal."""

    trials: dict[str, TrialRecord] = field(default_factory=dict)
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)
    config_hash: str | None = None
    drivers: int = 0  # how many times the study was started, this time included
    began: float = 0.0  # when it was first started, in seconds since the epoch; no two studies share it

    @classmethod
    def read(cls, folder: Path) -> History:
        """Return the state that the journal in `folder` records."""
        history = cls()
        for event in records.read(folder):
            history.observe(event)
        return history

    def observe(self, event: dict[str, Any]) -> None:
        """Take in one event of the journal."""
        kind = event["event"]
        if kind == "study_started":
            self.config_hash = event["config_hash"]
            self.began = self.began or event["time"]
            self.drivers += 1
        elif kind == "phase_ended":
            self.outcomes[event["phase"]] = event["outcome"]
        elif kind == "trial_started":
            known = self.trials.get(event["trial_id"])
            if known is None:
                self.trials[event["trial_id"]] = TrialRecord(TrialConfig.from_dict(event["config"]))
            else:
                known.status = None
        elif kind in ("facts", "report", "trial_ended"):
            if event["trial_id"] not in self.trials:
                raise records.broken(
                    f"{records.JOURNAL_FILE}: {kind} of trial {event['trial_id']}, which never started"
                )
            self._update(self.trials[event["trial_id"]], event)

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

    @staticmethod
    def _update(record: TrialRecord, event: dict[str, Any]) -> None:
        if event["event"] == "facts":
            record.facts = {key: value for key, value in event.items() if key not in ("event", "time", "trial_id")}
        elif event["event"] == "report":
            record.step, record.metrics = event["step"], event["metrics"]
        else:
            record.status, record.reason = event["status"], event["reason"]
            record.results = event["results"]


def finished(trials: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the records of trials that ran to their end."""
    return [record for record in trials if record.status == records.FINISHED]
