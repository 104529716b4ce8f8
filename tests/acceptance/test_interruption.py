"""Ctrl-C and SIGTERM: a study stops in good order, says how it goes on, and does so; a second one stops it at once."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from analysis.records import FINISHED, KILLED, StudyEnded
from study.plan.history import History
from study.tracking.sync import sync
from tests.acceptance.studies import (
    PATIENCE_S,
    DriverProcess,
    assert_mlflow_equals_journal,
    assert_whole,
    crowding,
    reported,
)
from tests.study.mlflow_stores import eventually, runs_by_key
from tests.study.studies import tiny

WITHIN_S = 15.0
ORPHANED_S = 60.0  # a worker that was just starting finds out within half a minute that its raylet is gone
# Trials of some seconds that train nothing, so that an interruption finds two of them under way.
SIMULATED = {
    "simulate": True,
    "budget_steps": 3000,
    "report_every": 10,
    "search": {"num_samples": 3, "scheduler": "none"},
}


def interrupt(process: subprocess.Popen[str], send: Callable[[], None]) -> list[psutil.Process]:
    """Interrupt a driver and wait for its end; return the processes that it had started."""
    started = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    send()
    process.wait(PATIENCE_S * crowding())
    took = time.monotonic() - began
    assert took < WITHIN_S * crowding(), f"it took {took:.1f} s"
    return started


def gone(processes: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def assert_interrupted_in_good_order(study: DriverProcess, process: subprocess.Popen[str], said_before: int) -> None:
    """Exit 130, the command to go on with, all that was reported in MLflow, and no run there that seems to run."""
    said = study.log()[said_before:]
    assert process.returncode == 130, said
    command = [argument for argument in study.command if argument != "--fresh"]
    assert f"interrupted; to resume, run: {shlex.join(command)}\n" in said
    assert "Traceback" not in said
    if "has not received everything" in said:
        assert crowding() > 1
        sync(study.folder, study.tracking_uri)
    last = study.events()[-1]
    assert isinstance(last, StudyEnded)
    assert last.status == KILLED
    runs, history = runs_by_key(study.tracking_uri, study.config.name), History.read(study.folder)
    running = {key for key, record in history.trials.items() if not record.ended}
    assert running
    assert {key for key, run in runs.items() if run.info.status == KILLED} == {"study", "search", *running}
    for key, record in history.trials.items():
        assert key in running or runs[key].info.status == FINISHED
        if record.metrics:
            assert runs[key].data.metrics["val/loss"] == record.metrics["val/loss"]


def assert_goes_on(study: DriverProcess) -> None:
    """The same command, without `--fresh`, finishes the study, in the same runs."""
    before = {key: run.info.run_id for key, run in runs_by_key(study.tracking_uri, study.config.name).items()}
    known = len(study.events())
    study = replace(study, arguments=())
    assert study.run() == 0, study.log()
    assert len(study.events()) > known
    assert_whole(study)
    assert_mlflow_equals_journal(study)
    after = runs_by_key(study.tracking_uri, study.config.name)
    assert {key: after[key].info.run_id for key in before} == before
    assert {run.info.status for run in after.values()} == {FINISHED}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sigterm_stops_a_study_on_a_running_cluster_in_good_order_and_it_goes_on(ray_address: str, tmp_path: Path):
    study = DriverProcess(tmp_path, tiny(**SIMULATED), {"RAY_ADDRESS": ray_address}, arguments=("--fresh",))
    process = study.start()
    study.wait_for(process, lambda events: reported(events, "search") >= 20)
    interrupt(process, process.terminate)
    assert_interrupted_in_good_order(study, process, 0)
    assert_goes_on(study)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_however_a_study_with_a_ray_of_its_own_is_interrupted_no_process_is_left_and_it_goes_on(tmp_path: Path):
    study = DriverProcess(tmp_path, tiny(**SIMULATED))

    def driver_alone(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGINT)

    def whole_group(process: subprocess.Popen[str]) -> None:  # as a terminal sends it
        os.killpg(process.pid, signal.SIGINT)

    def twice(process: subprocess.Popen[str]) -> None:  # as `timeout` does: to its child, and to the group
        process.terminate()
        os.killpg(process.pid, signal.SIGTERM)

    for send in (driver_alone, whole_group, twice):
        said, reports = len(study.log()) if (tmp_path / "driver.log").exists() else 0, reported(study.events())
        process = study.start(new_session=True)
        study.wait_for(process, lambda events, least=reports + 20: reported(events, "search") >= least)
        left = interrupt(process, lambda send=send, process=process: send(process))
        assert_interrupted_in_good_order(study, process, said)
        assert len(left) > 3  # Ray's servers, and the actors
        eventually(lambda left=left: gone(left), timeout_s=ORPHANED_S)
    assert_goes_on(study)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_second_ctrl_c_stops_at_once_a_study_that_waits_for_mlflow(ray_address: str, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        config = tiny(**SIMULATED, tracking_uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
        study = DriverProcess(tmp_path, config, {"RAY_ADDRESS": ray_address})
        process = study.start()
        study.wait_for(process, lambda events: reported(events, "search") >= 5)
        process.send_signal(signal.SIGINT)
        eventually(lambda: "stopping; a second signal stops at once" in study.log())
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S * crowding()) == -signal.SIGINT
        assert time.monotonic() - began < 2 * crowding()
    study = DriverProcess(tmp_path, tiny(**SIMULATED), {"RAY_ADDRESS": ray_address})
    assert study.run() == 0, study.log()
    assert_whole(study)
