"""Studies whose phases a test runs by hand, what their journal must say, and the trials of a Tune that does not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.trainable.metadata import _TrainingRunMetadata

from analysis.records import FINISHED, Event, Facts, Report, StudyStarted, TrialEnded, TrialEvent, TrialStarted, read
from study.config.schema import StudyConfig
from study.execution.executor import Executor
from study.execution.journal import Journal
from study.plan.history import History, TrialRecord
from tests.study.studies import plan_of

CLOCK = "images_per_s"  # the one metric that no two runs share
BEST_FIRST = {"lr": [1e-3, 1e-2, 0.1, 0.3]}  # after three steps; so that successive halving has something to stop


class Study:
    """One study folder and the driver that works on it; `again` is another driver on the same folder."""

    def __init__(self, folder: Path, config: StudyConfig) -> None:
        self.folder, self.config, self.plan = folder, config, plan_of(config)
        self.history, self.journal = History.read(folder), Journal(folder)
        self.journal.listeners.append(self.history.observe)
        self.journal.append(StudyStarted(study=config.name, config_hash=config.config_hash))
        self.executor = Executor(self.plan, folder, self.journal, self.history)

    def again(self) -> Study:
        self.journal.close()
        return Study(self.folder, self.config)

    def kinds(self, trial_id: str) -> list[type[Event]]:
        return [type(event) for event in self.events(trial_id)]

    def events(self, trial_id: str) -> list[TrialEvent]:
        return [event for event in self.trial_events() if event.trial_id == trial_id]

    def curve(self, trial_id: str) -> list[tuple[int, dict[str, float]]]:
        """Return steps and metrics, without the one that depends on the clock."""
        reports = [report for report in read(self.folder, Report) if report.trial_id == trial_id]
        return [
            (report.step, {name: value for name, value in report.metrics.items() if name != CLOCK})
            for report in reports
        ]

    def steps(self, trial_id: str) -> list[int]:
        return [step for step, _ in self.curve(trial_id)]

    def searched(self, task: str = "rotation") -> list[TrialRecord]:
        return self.history.of("search", task)

    def trial_events(self) -> list[TrialEvent]:
        return list(read(self.folder, TrialEvent))


def assert_recorded_once_and_in_order(study: Study, record: TrialRecord) -> None:
    """A trial starts, reports its facts and each step once and in order, and ends, all of it once."""
    start, facts, *reports, end = study.events(record.trial.trial_id)
    assert isinstance(start, TrialStarted)
    assert start.config == record.trial
    assert isinstance(facts, Facts)
    assert facts.primary_metric in facts.chance
    assert all(isinstance(report, Report) for report in reports)
    assert isinstance(end, TrialEnded)
    steps = study.steps(record.trial.trial_id)
    budget, every = record.trial.budget_steps, record.trial.report_every
    assert end.steps is not None
    assert end.wall_s is not None
    assert steps == list(range(0, end.steps + 1, every))
    assert (end.steps == budget) if end.status == FINISHED else (end.steps < budget)
    assert end.wall_s > 0
    assert Path(end.checkpoint).is_file()


class FakeTrial:
    """All that a scheduler or the recorder asks of a trial."""

    def __init__(self, trial_id: str, config: dict[str, Any] | None = None) -> None:
        self.trial_id, self.config, self.experiment_tag = trial_id, config or {"task": "rotation"}, ""
        self.pickled_error_file: str | None = None
        self.status, self.run_metadata = "PENDING", _TrainingRunMetadata()

    def is_finished(self) -> bool:
        return self.status in ("TERMINATED", "ERROR")
