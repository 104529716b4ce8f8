"""MLflow for a cluster as docs/cluster.md has it: PostgreSQL behind one server, which many studies log to at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.artifacts import download_artifacts

from analysis.records import Report, TrialEnded, read
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.tracking.sync import sync
from tests.acceptance.postgres import Postgres, programs, started_postgres
from tests.acceptance.studies import DriverProcess, assert_mlflow_equals_journal, assert_whole, crowding
from tests.conftest import REPOSITORY
from tests.study.mlflow_stores import answers, eventually, free_port, runs_by_key, stored_points

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

NAME = "mlflow.example.org"  # by which the cluster's machines know the server


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    pytest.importorskip("psycopg2", reason="psycopg2-binary, by which MLflow talks to PostgreSQL, is not installed")
    with started_postgres(programs()) as running:
        yield running


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the server that the command of docs/cluster.md starts, here with the names of this machine."""
    root = tmp_path_factory.mktemp("server")
    port, shared = free_port(), root / "shared"
    command = _documented("mlflow server")
    for placeholder, value in {
        "--host 0.0.0.0": "--host 127.0.0.1",
        "--port 5000": f"--port {port} --workers 2",
        "HOST:5000": f"{NAME}:{port},127.0.0.1:{port}",
        "DATABASE_HOST": postgres.host,
        "/mnt/shared": str(shared),
    }.items():
        assert placeholder in command
        command = command.replace(placeholder, value)
    environment = os.environ | {"PGPASSFILE": str(postgres.password_file)}
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=root,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: answers(f"{url}/health") or process.poll() is not None, timeout_s=180 * crowding())
        assert process.poll() is None, (root / "log").read_text()
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the group that start_new_session made: server and workers
        process.wait(20)


def simulated(name: str, uri: str) -> StudyConfig:
    return check_config(
        {
            "name": name,
            "simulate": True,
            "tasks": ["rotation"],
            "budget_steps": 100,
            "report_every": 20,
            "search": {"num_samples": 60, "algorithm": "random", "scheduler": "none", "chance_patience": 0},
            "confirm": {"top_k": 2, "seeds": 2},
            "resources": {"cpu": 2},  # one actor, whatever the machine
            "tracking_uri": uri,
        }
    )


def test_two_studies_that_log_to_one_server_at_once_are_both_there_whole_and_nothing_of_them_twice(
    server: str, postgres: Postgres, tmp_path: Path
):
    # Each on a Ray of its own: of one, who comes first takes every CPU until its phase is over.
    studies = [DriverProcess(tmp_path / name, simulated(name, server)) for name in ("one", "two")]
    with studies[0].running() as first, studies[1].running() as second:
        assert {process.wait(600 * crowding()) for process in (first, second)} == {0}, "".join(s.log() for s in studies)
    assert_at_once(studies)
    for study in studies:
        assert_whole(study)
        sync(study.folder, server)  # where the machine was too busy for the study's own thread to come to its end
        assert_mlflow_equals_journal(study)
        assert_every_value_is_there_once(study, postgres)
        assert_artifacts_are_served(study, server)


def test_the_server_answers_to_the_name_that_it_was_given_and_to_no_other(server: str):
    port = server.rpartition(":")[2]
    assert status(server, f"{NAME}:{port}") == 200
    assert status(server, f"elsewhere.example.org:{port}") == 403


def assert_at_once(studies: list[DriverProcess]) -> None:
    """Trials of each study ran while those of the other did."""
    spans = []
    for study in studies:
        times = [report.time for report in read(study.folder, Report)]
        spans.append((min(times), max(times)))
    assert max(began for began, _ in spans) < min(ended for _, ended in spans), "they ran one after the other"


def assert_every_value_is_there_once(study: DriverProcess, postgres: Postgres) -> None:
    """The database has exactly the values that the journal's reports and ends of trials have."""
    of_trial = {run.info.run_id: key for key, run in runs_by_key(study.tracking_uri, study.config.name).items()}
    told: Counter[tuple[object, ...]] = Counter()
    for event in study.events():
        match event:
            case Report():
                told.update((event.trial_id, name, event.step) for name in event.metrics)
            case TrialEnded():
                told.update((event.trial_id, name, event.steps) for name in [*event.results, "steps", "wall_s"])
    stored = stored_points(postgres.uri, study.config.name)
    assert Counter({(of_trial[str(run)], *point): n for (run, *point), n in stored.items()}) == told


def assert_artifacts_are_served(study: DriverProcess, server: str) -> None:
    """Who only reaches the server gets the report as the study wrote it."""
    run = runs_by_key(server, study.config.name)["study"]
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    fetched = download_artifacts(run_id=run.info.run_id, artifact_path="report.html", tracking_uri=server)
    assert digest(Path(fetched)) == digest(study.folder / "report.html")


def status(server: str, host: str) -> int:
    """Return how the server answers who knows it by the name `host`."""
    request = urllib.request.Request(f"{server}/api/2.0/mlflow/experiments/search?max_results=1")
    request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _documented(program: str) -> str:
    """Return the one command of docs/cluster.md that starts so, its lines joined."""
    page = (REPOSITORY / "docs" / "cluster.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (command,) = re.findall(rf"^{program} .*$", page, re.MULTILINE)
    return command
