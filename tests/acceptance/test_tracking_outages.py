"""A tracking server that is away, slow or broken: the study does not wait, and MLflow has everything afterward."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.records.layout import MLFLOW_FILE
from study.driver import TRACKING_PATIENCE_S
from study.plan.history import History
from study.tracking.sync import sync
from tests.acceptance.studies import DriverProcess, assert_mlflow_equals_journal, assert_whole, simulated
from tests.acceptance.tracking_trouble import Proxy, WatchedStudy, own_process
from tests.conftest import REPOSITORY
from tests.study.mlflow_stores import Server, empty_database, eventually, free_port, started_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MOST_DELAY = 0.01  # of the time of a study's trials
PATIENCE_S = 600.0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database."""
    return empty_database(tmp_path_factory.mktemp("template"))


@pytest.fixture
def server(tmp_path: Path, template: Path) -> Iterator[Server]:
    """A real `mlflow server`."""
    (tmp_path / "server").mkdir()
    with started_server(tmp_path / "server", template) as running:
        yield running


@pytest.fixture
def door() -> int:
    """The port where the study looks for its tracking server."""
    return free_port()


@pytest.fixture
def study(local_ray: None, tmp_path: Path, door: int, monkeypatch: pytest.MonkeyPatch) -> DriverProcess:
    """A study of some fifty trials with eleven reports each."""
    uri = f"http://127.0.0.1:{door}"
    made = DriverProcess(tmp_path / "study", simulated("outage", num_samples=40, report_every=10, tracking_uri=uri))
    monkeypatch.chdir(made.root)
    return made


def until_reported(watched: WatchedStudy, reports: int) -> None:
    """Wait until so many reports of trials are in the journal of a study that still runs."""
    eventually(lambda: watched.reports >= reports or not watched.running, timeout_s=PATIENCE_S)
    assert watched.running


def assert_undisturbed(watched: WatchedStudy) -> None:
    """Every trial finished, and the driver spent no time on MLflow while they ran."""
    assert watched.outcome().failed == []
    assert_whole(watched.study)
    assert watched.waited < MOST_DELAY


def assert_delivered(study: DriverProcess, server: Server) -> None:
    """The server's database holds the whole journal, once."""
    config = study.config.model_copy(update={"tracking_uri": f"sqlite:///{server.database}"})
    assert_mlflow_equals_journal(DriverProcess(study.root, config))


def test_a_server_that_comes_late_and_dies_midway_receives_everything(
    study: DriverProcess, server: Server, door: int, tmp_path: Path, template: Path
):
    with WatchedStudy(study) as watched:
        until_reported(watched, 50)
        with Proxy(door, server.port) as proxy:
            with watched.held():
                eventually((study.folder / MLFLOW_FILE).exists, timeout_s=PATIENCE_S)
                os.killpg(server.pid, signal.SIGKILL)
                assert watched.running
            with started_server(tmp_path / "server", template, server.port) as again:
                if not watched.outcome().tracked:  # it was back too late for `close`, which does not wait for ever
                    sync(study.folder, study.config.tracking_uri)
                assert_undisturbed(watched)
                assert_delivered(study, again)
            assert proxy.clients == own_process()


def test_a_server_that_takes_five_seconds_a_call_delays_no_trial(study: DriverProcess, server: Server, door: int):
    with Proxy(door, server.port, delay_s=5) as proxy, WatchedStudy(study) as watched:
        until_reported(watched, 300)
        assert proxy.calls > 1
        assert len(History.read(study.folder).trials) > 25
        proxy.delay_s = 0
        assert watched.outcome().tracked
        assert_undisturbed(watched)
        assert_delivered(study, server)
        assert proxy.clients == own_process()


def test_a_server_that_answers_500_for_a_while_receives_everything(study: DriverProcess, server: Server, door: int):
    with Proxy(door, server.port, broken=True) as proxy, WatchedStudy(study) as watched:
        until_reported(watched, 100)
        with watched.held():
            proxy.broken = False
            eventually((study.folder / MLFLOW_FILE).exists, timeout_s=PATIENCE_S)
            proxy.broken = True
        until_reported(watched, 350)
        proxy.broken = False
        assert watched.outcome().tracked
        assert_undisturbed(watched)
        assert_delivered(study, server)


def test_a_server_that_never_answers_costs_the_study_a_limited_wait_and_is_filled_by_hand(
    study: DriverProcess, server: Server, door: int, caplog: pytest.LogCaptureFixture
):
    with Proxy(door, server.port, delay_s=1000):
        with WatchedStudy(study) as watched:
            assert not watched.outcome().tracked
        assert watched.close_s < TRACKING_PATIENCE_S + 10
        assert_undisturbed(watched)
    by_hand = f"python -m study sync {study.folder}"
    assert f"to finish, run: {by_hand}" in caplog.text
    with Proxy(door, server.port):
        command = [sys.executable, *by_hand.split()[1:]]
        finished = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True, timeout=300, check=False)
        assert finished.returncode == 0, finished.stderr
        assert_delivered(study, server)
        again = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True, timeout=300, check=False)
        assert "0 events, 0 metric values" in again.stdout
    assert_delivered(study, server)
