"""SIGKILL of the driver, at random moments of every phase: the same command finishes the study, as if undisturbed."""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from analysis.records import Event, PhaseEnded, PhaseStarted, StudyEnded, StudyStarted, TrialEnded, TrialEvent, read
from study.driver import load_datasets
from study.plan.history import History
from tests.acceptance.studies import (
    CLOCK,
    PATIENCE_S,
    DriverProcess,
    assert_mlflow_equals_journal,
    assert_whole,
    crowding,
    curves_of,
    kill,
    reported,
)
from tests.study.mlflow_stores import eventually
from tests.study.studies import tiny
from trainables import simulated
from trainables.data import Splits
from trainables.training.loop import Report
from trainables.trial import TrialConfig

SEARCH = {"algorithm": "random", "num_samples": 3, "scheduler": "none"}
ABLATE = {"designs": ["strength"], "strengths": [0.0, 1.0], "seeds": 2}
# Trials of a second or two that train nothing, and so many reports that most kills hit one under way.
SIMULATED = {"simulate": True, "budget_steps": 1000, "report_every": 10, "search": SEARCH, "ablate": ABLATE}
ONE_BY_ONE = {"resources": {"cpu": 2}}  # of two; a phase starts as many actors as it runs trials at once
REPORT = "report"  # what comes after the last phase
LAST_PHASE = "evaluate"
MOST_EVENTS = 8  # of trials, that a driver lives to see


def killed_in(study: DriverProcess, phase: str, rng: random.Random, report_s: float) -> None:
    """Start a driver and kill it at a random moment of a phase, or of the making of the report."""
    before, events = len(study.events()), rng.randint(1, MOST_EVENTS)

    def far_enough(known: list[Event]) -> bool:
        kinds = [(type(event), event.phase) for event in known if isinstance(event, PhaseStarted | PhaseEnded)]
        if phase == REPORT:
            return len(known) > before and (PhaseEnded, LAST_PHASE) in kinds
        began = len(known) >= before + events and (PhaseStarted, phase) in kinds
        return began or (len(known) > before and (PhaseEnded, phase) in kinds)

    process = study.start()
    study.wait_for(process, far_enough)
    time.sleep(rng.uniform(0, report_s if phase == REPORT else 0.2))
    kill(process)
    assert process.returncode == -signal.SIGKILL or phase == REPORT, study.log()


@contextlib.contextmanager
def watched(checkpoints: Path) -> Iterator[Counter[tuple[str, int]]]:
    """Count how often the checkpoint of each trial and step was written meanwhile: how often it was trained up to."""
    times: dict[tuple[str, int], set[int]] = {}
    written: Counter[tuple[str, int]] = Counter()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            for path in checkpoints.glob("*/step-*.pt"):
                with contextlib.suppress(FileNotFoundError):
                    key = path.parent.name, int(path.stem.removeprefix("step-"))
                    times.setdefault(key, set()).add(path.stat().st_mtime_ns)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield written
    finally:
        over.set()
        thread.join()
        written.update({key: len(found) for key, found in times.items()})


def assert_nothing_ran_twice(study: DriverProcess, written: Counter[tuple[str, int]]) -> None:
    """No ended trial was started again, and no step was trained again that a report had told of."""
    ended = set()
    for event in read(study.folder, TrialEvent):
        assert event.trial_id not in ended, f"{event} after its trial's end"
        if isinstance(event, TrialEnded):
            ended.add(event.trial_id)
    unseen = {
        0,
        study.config.budget_steps,
    }  # an untrained network, and a trained one whose end was not written down
    assert {key: count for key, count in written.items() if count > 1 and key[1] not in unseen} == {}
    assert len(written) > len(study.config.tasks)


def endings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what every trial came to, and what every phase decided."""
    history = History.read(folder)
    return {key: (record.status, record.results) for key, record in history.trials.items()}, history.outcomes


def report_s(study: DriverProcess) -> float:
    """Return how long the making of the report took."""
    ended = {getattr(event, "phase", None): event.time for event in read(study.folder, PhaseEnded, StudyEnded)}
    return ended[None] - ended[LAST_PHASE]


def finish_after_kills(study: DriverProcess, phases: list[str], rng: random.Random, report_s: float = 0) -> None:
    """Kill one driver in each of `phases`, let another finish the study, and judge what there is then."""
    with watched(study.folder / "checkpoints") as written:
        for phase in phases:
            killed_in(study, phase, rng, report_s)
        assert study.run() == 0, study.log()
    assert sum(isinstance(event, StudyStarted) for event in study.events()) == len(phases) + 1
    assert_whole(study)
    assert_nothing_ran_twice(study, written)
    assert_mlflow_equals_journal(study)
    # What a killed writer leaves half written is under another name, and swept away by the next.
    partial = [*study.folder.glob(".*"), *study.folder.glob("figures/.*"), *study.folder.glob("checkpoints/*/.*")]
    assert partial == []
    assert "Traceback" not in study.log()


def undisturbed_curve(trial: TrialConfig, splits: Splits) -> dict[int, dict[str, float]]:
    """Return the curve of a simulated trial that runs from beginning to end, here and now."""
    curve: dict[int, dict[str, float]] = {}

    def take(report: Report) -> None:
        curve[report.step] = {name: value for name, value in report.metrics.items() if name != CLOCK}

    simulated.fit(trial, splits, take)
    return curve


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_killed_driver_of_simulated_trials_is_continued_as_if_nothing_had_happened(ray_address: str, tmp_path: Path):
    config = tiny(**SIMULATED, **ONE_BY_ONE)
    study = DriverProcess(tmp_path, config, {"RAY_ADDRESS": ray_address})
    finish_after_kills(study, ["search", "ablate"], random.Random(1))
    (splits,) = load_datasets(config).values()
    trials = {key: record.trial for key, record in History.read(study.folder).trials.items()}
    curves = curves_of(study.folder)
    assert {key for key, trial in trials.items() if trial.budget_steps and not trial.init_from} == set(curves)
    for key, curve in curves.items():
        assert curve == undisturbed_curve(trials[key], splits)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_driver_killed_ten_times_in_a_row_leaves_curves_equal_to_the_bit(tmp_path: Path):
    config = tiny(budget_steps=60, report_every=10, search=SEARCH, ablate=ABLATE)
    undisturbed = DriverProcess(tmp_path / "undisturbed", config)
    assert undisturbed.run() == 0, undisturbed.log()
    study = DriverProcess(tmp_path / "killed", config)
    phases = ["search"] * 3 + ["confirm"] * 2 + ["ablate"] * 3 + [REPORT] * 2
    finish_after_kills(study, phases, random.Random(2), report_s(undisturbed))
    assert curves_of(study.folder) == curves_of(undisturbed.folder)
    assert endings(study.folder) == endings(undisturbed.folder)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_search_by_optuna_whose_driver_is_killed_runs_as_many_trials_as_it_was_asked_for(
    ray_address: str, tmp_path: Path
):
    search = {"algorithm": "optuna", "num_samples": 8, "scheduler": "asha", "chance_patience": 500}
    config = tiny(**SIMULATED | {"search": search, "ablate": {}})
    study = DriverProcess(tmp_path, config, {"RAY_ADDRESS": ray_address})
    finish_after_kills(study, ["search"] * 4, random.Random(3))
    assert len(History.read(study.folder).of("search")) == 8


@pytest.mark.slow
def test_no_trial_outlives_a_killed_driver_on_a_running_cluster(ray_address: str, tmp_path: Path):
    """Where the next driver starts such a trial again, nobody else writes its checkpoints."""
    study = DriverProcess(tmp_path, tiny(**SIMULATED), {"RAY_ADDRESS": ray_address})
    process = study.start()
    study.wait_for(process, lambda events: reported(events, "search") >= 5)
    assert trials_running()
    kill(process)
    eventually(lambda: not trials_running(), timeout_s=PATIENCE_S * crowding())


def trials_running() -> list[int]:
    """Return the processes of the trials on the Ray that this process has started.

    In a container without an init, those that died with the driver of another test stay as zombies of this process.
    """
    running = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            if each.status() != psutil.STATUS_ZOMBIE and each.name().startswith("ray::Impl"):
                running.append(each.pid)
    return running
