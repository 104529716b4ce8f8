"""Studies in processes of their own, to be killed, and what must hold of them afterward."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.records import KILLED, Event, Report, StudyEnded, TrialEnded, TrialStarted, read
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.plan.history import History
from tests.conftest import REPOSITORY
from tests.study.mlflow_stores import all_runs, eventually, stored_points
from trainables.trial import BASELINES

CLOCK = "images_per_s"  # the one metric that no two runs of a trial share
PATIENCE_S = 180  # for what takes seconds on a quiet machine


@dataclass
class DriverProcess:
    """A study that can be started again and again under one folder, as its user does it.

    root: working directory of the driver; the study lies in `root/out/NAME`, MLflow's store in `root/mlflow.db` unless
        the configuration names another.
    environment: over this process's own. `RAY_ADDRESS` there joins a running cluster; without it each driver starts a
        local one.
    """

    root: Path
    config: StudyConfig
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "study.yaml").write_text(self.config.to_yaml(), encoding="utf-8")

    @property
    def folder(self) -> Path:
        """Where the study lies."""
        return self.root / "out" / self.config.name

    @property
    def tracking_uri(self) -> str:
        """The store that the driver logs to."""
        return self.config.tracking_uri or f"sqlite:///{self.root / 'mlflow.db'}"

    @property
    def command(self) -> list[str]:
        """What starts, and continues, the study."""
        script = str(REPOSITORY / "study" / "run.py")
        return [sys.executable, script, "study.yaml", "--output", "out", "--json", *self.arguments]

    def start(self, *, new_session: bool = False) -> subprocess.Popen[str]:
        """Start a driver; its output goes to `root/driver.log`, its JSON outcome to `root/outcome.json`.

        new_session: make it lead a process group, as the foreground job of a terminal does.
        """
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
        with (self.root / "driver.log").open("ab") as log, (self.root / "outcome.json").open("wb") as out:
            return subprocess.Popen(
                self.command,
                cwd=self.root,
                text=True,
                stdout=out,
                stderr=log,
                env=environment | self.environment,
                start_new_session=new_session,
                # A shell starts what it puts in the background deaf to Ctrl-C, and its children inherit that.
                preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            )

    def run(self, timeout_s: float = 2 * PATIENCE_S) -> int:
        """Run a driver to its end and return its exit code. timeout_s: on a quiet machine."""
        with self.running() as process:
            return process.wait(timeout_s * crowding())

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """Run a driver for as long as the block runs, at most."""
        process = self.start()
        try:
            yield process
        finally:
            if process.poll() is None:
                kill(process)

    def outcome(self) -> dict[str, Any]:
        """Return what the last driver that came to its end printed."""
        return json.loads((self.root / "outcome.json").read_text(encoding="utf-8"))

    def log(self) -> str:
        """Return all that drivers have said so far."""
        return (self.root / "driver.log").read_text(encoding="utf-8")

    def events(self) -> list[Event]:
        """Return the journal's events so far."""
        return list(read(self.folder))

    def wait_for(self, process: subprocess.Popen[str], condition: Callable[[list[Event]], bool]) -> None:
        """Wait until the journal's events satisfy `condition`; fail, with the log, where that never comes true."""

        def holds() -> bool:
            if condition(self.events()):
                return True
            assert process.poll() is None, "the driver has ended"
            return False

        try:
            eventually(holds, timeout_s=PATIENCE_S * crowding())
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.log()}") from None


def simulated(name: str, *, num_samples: int, report_every: int, **changes: Any) -> StudyConfig:
    """Return a study of `num_samples` simulated trials of a random search, and some more of the other phases."""
    content: dict[str, Any] = {
        "name": name,
        "simulate": True,
        "tasks": ["rotation"],
        "budget_steps": 100,
        "report_every": report_every,
        "search": {
            "num_samples": num_samples,
            "algorithm": "random",
            "scheduler": "none",
            "chance_patience": 0,
        },
        "confirm": {"top_k": 2, "seeds": 2},
        "resources": {"cpu": 2},  # one actor a phase: they take longer to start than such a phase to run
    }
    return check_config(content | changes)


def crowding() -> float:
    """Return how many times longer than on a quiet machine things take here and now; 1 on a quiet one."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def kill(process: subprocess.Popen[str]) -> None:
    """End a driver as the out-of-memory killer does; what it started locally dies with it."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)


def reported(events: list[Event], phase: str | None = None) -> int:
    """Return the number of reports after step 0, of one phase or all."""
    phases = {event.trial_id: event.phase for event in events if isinstance(event, TrialStarted)}
    reports = [event for event in events if isinstance(event, Report) and event.step > 0]
    return sum(phase in (None, phases[event.trial_id]) for event in reports)


def curves_of(folder: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Return {trial_id: {step: metrics}} of a journal, without the metric that depends on the clock."""
    curves: dict[str, dict[int, dict[str, float]]] = {}
    for report in read(folder, Report):
        metrics = {name: value for name, value in report.metrics.items() if name != CLOCK}
        curves.setdefault(report.trial_id, {})[report.step] = metrics
    return curves


def assert_whole(study: DriverProcess) -> None:
    """A finished study: every trial started and ended, once; every point of every curve is there, once; frames too."""
    events = study.events()
    assert isinstance(events[-1], StudyEnded), study.log()
    ends = Counter(event.trial_id for event in events if isinstance(event, TrialEnded))
    points = Counter((event.trial_id, event.step) for event in events if isinstance(event, Report))
    assert set(ends.values()) == set(points.values()) == {1}
    history = History.read(study.folder)
    assert set(ends) == set(history.trials)
    for key, record in history.trials.items():
        if record.status == "FINISHED" and record.trial.task not in BASELINES and not record.trial.init_from:
            every, budget = record.trial.report_every, record.trial.budget_steps
            assert sorted(step for trial, step in points if trial == key) == sorted({*range(0, budget, every), budget})
    runs, curves = (pd.read_parquet(study.folder / f"{name}.parquet") for name in ("runs", "curves"))
    assert sorted(runs["trial_id"]) == sorted(ends)
    assert not curves.duplicated(["trial_id", "step", "metric"]).any()
    assert set(zip(curves["trial_id"], curves["step"], strict=True)) == set(points)
    assert (study.folder / "report.html").stat().st_size > 0


def assert_mlflow_equals_journal(study: DriverProcess) -> None:
    """Every run is there once and ended, every metric value once, and nothing else."""
    runs = all_runs(study.tracking_uri, study.config.name)
    assert {run.info.status for run in runs} <= {"FINISHED", "FAILED", KILLED}
    keys = Counter(run.data.tags.get("pretext.trial_id") for run in runs)
    del keys[None]  # study and phases
    history = History.read(study.folder)
    assert keys == Counter(dict.fromkeys(history.trials, 1))
    if not study.tracking_uri.startswith("sqlite"):
        return
    stored = stored_points(study.tracking_uri, study.config.name)
    assert set(stored.values()) == {1}
    by_run = {run.info.run_id: run.data.tags.get("pretext.trial_id") for run in runs}
    found = Counter((by_run[str(run)], step) for run, _, step in stored if by_run[str(run)])
    told: Counter[tuple[Any, Any]] = Counter()
    for report in read(study.folder, Report):
        told[report.trial_id, report.step] += len(report.metrics)
    for key, count in told.items():
        assert found[key] >= count, f"MLflow has {found[key]} of {count} metrics of trial and step {key}"
