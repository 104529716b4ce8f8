"""Studies whose phases a test runs by hand, what their journal must say, and the trials of a Tune that does not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.trainable.metadata import _TrainingRunMetadata

from analysis.records import FINISHED, read
from study.config.schema import StudyConfig
from study.execution.executor import Executor
from study.execution.journal import Journal
from study.plan.history import History, TrialRecord
from tests.study.studies import plan_of

CLOCK = "images_per_s"  # the one metric that no two runs share


class Study:
    """One study folder and the driver that works on it; `again` is another driver on the same folder."""

    def __init__(self, folder: Path, config: StudyConfig) -> None:
        self.folder, self.config, self.plan = folder, config, plan_of(config)
        self.history, self.journal = History.read(folder), Journal(folder)
        self.journal.listeners.append(self.history.observe)
        self.journal.append("study_started", study=config.name, config_hash=config.config_hash)
        self.executor = Executor(self.plan, folder, self.journal, self.history)

    def again(self) -> Study:
        self.journal.close()
        return Study(self.folder, self.config)

    def kinds(self, trial_id: str) -> list[str]:
        return [event["event"] for event in self.events(trial_id)]

    def events(self, trial_id: str) -> list[dict[str, Any]]:
        return [event for event in read(self.folder) if event.get("trial_id") == trial_id]

    def curve(self, trial_id: str) -> list[tuple[int, dict[str, float]]]:
        """Return steps and metrics, without the one that depends on the clock."""
        reports = [event for event in self.events(trial_id) if event["event"] == "report"]
        return [
            (report["step"], {name: value for name, value in report["metrics"].items() if name != CLOCK})
            for report in reports
        ]

    def steps(self, trial_id: str) -> list[int]:
        return [step for step, _ in self.curve(trial_id)]

    def searched(self, task: str = "rotation") -> list[TrialRecord]:
        return self.history.of("search", task)

    def trial_events(self) -> list[dict[str, Any]]:
        return [event for event in read(self.folder) if "trial_id" in event]


def assert_recorded_once_and_in_order(study: Study, record: TrialRecord) -> None:
    """A trial starts, tells its facts, reports each step once and in order, and ends, all of it once."""
    events = study.events(record.trial.trial_id)
    kinds = [event["event"] for event in events]
    assert kinds == ["trial_started", "facts", *["report"] * (len(kinds) - 3), "trial_ended"]
    assert events[0]["config"] == record.trial.to_dict()
    assert events[1]["primary_metric"] in events[1]["chance"]
    end, steps = events[-1], study.steps(record.trial.trial_id)
    budget, every = record.trial.budget_steps, record.trial.report_every
    assert steps == list(range(0, end["steps"] + 1, every))
    assert (end["steps"] == budget) if end["status"] == FINISHED else (end["steps"] < budget)
    assert end["wall_s"] > 0
    assert Path(end["checkpoint"]).is_file()


class FakeTrial:
    """All that a scheduler or the recorder asks of a trial."""

    def __init__(self, trial_id: str, config: dict[str, Any] | None = None) -> None:
        self.trial_id, self.config, self.experiment_tag = trial_id, config or {"task": "rotation"}, ""
        self.pickled_error_file: str | None = None
        self.status, self.run_metadata = "PENDING", _TrainingRunMetadata()

    def is_finished(self) -> bool:
        return self.status in ("TERMINATED", "ERROR")
