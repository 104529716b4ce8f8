"""Real MLflow stores for tests: a server of one's own, and questions to what is stored."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Run

from study.tracking.database import create_database


@dataclass(frozen=True)
class Server:
    """A running `mlflow server`; `pid` leads a process group of its own."""

    pid: int
    port: int
    database: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def empty_database(folder: Path) -> Path:
    """Return a new MLflow database with all its tables, which take seconds to make and a copy none."""
    create_database(f"sqlite:///{folder / 'mlflow.db'}")
    return folder / "mlflow.db"


@contextlib.contextmanager
def started_server(root: Path, empty_database: Path, port: int | None = None) -> Iterator[Server]:
    """Run `mlflow server` on 127.0.0.1 for as long as the block runs, with everything it stores under `root`.

    What an earlier server stored there is served again.
    """
    database, port = root / "server.db", port or free_port()
    if not database.exists():
        database.write_bytes(empty_database.read_bytes())
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(root / "artifacts")]
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, start_new_session=True)
    running = Server(process.pid, port, database)
    try:
        eventually(lambda: answers(f"{running.url}/health"), timeout_s=120)
        yield running
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the group that start_new_session made: server and worker
        process.wait(20)


def all_runs(uri: str, study: str = "small-data") -> list[Run]:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def runs_by_name(uri: str, study: str = "small-data") -> dict[str, Run]:
    return {run.info.run_name: run for run in all_runs(uri, study)}


def runs_by_key(uri: str, study: str = "small-data") -> dict[str, Run]:
    """Return runs by trial id, by phase, and `study`."""
    found = {}
    for run in all_runs(uri, study):
        tags = run.data.tags
        found[tags.get("pretext.trial_id") or tags.get("pretext.phase") or "study"] = run
    return found


def children(uri: str, run: Run) -> set[str]:
    found = [child for child in all_runs(uri) if child.data.tags.get("mlflow.parentRunId") == run.info.run_id]
    return {child.data.tags["pretext.trial_id"] for child in found}


def stored_points(database: str | Path, study: str = "small-data") -> Counter[tuple[object, ...]]:
    """Count the rows of each (run, metric, step) in a store's database, which is the whole truth and quick to ask."""
    query = """
        SELECT metrics.run_uuid, metrics.key, metrics.step FROM metrics JOIN runs USING (run_uuid)
        JOIN experiments USING (experiment_id) WHERE experiments.name = :study
    """
    uri = str(database) if "://" in str(database) else f"sqlite:///{database}"
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        return Counter(map(tuple, connection.execute(sqlalchemy.text(query), {"study": study})))


def eventually(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def settled(value: Callable[[], object], for_s: float = 2.0) -> None:
    """Wait until `value` has been the same for a while: a server works off what it accepted before it hung."""
    last, since = value(), time.monotonic()
    while time.monotonic() - since < for_s:
        time.sleep(0.1)
        now = value()
        if now != last:
            last, since = now, time.monotonic()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class forwarded:  # noqa: N801 - reads as a verb where it is used
    """Forward connections to 127.0.0.1:`port` to `server_port` for as long as the block runs."""

    def __init__(self, port: int, server_port: int) -> None:
        self._target = ("127.0.0.1", server_port)
        self._listener = socket.create_server(("127.0.0.1", port))

    def __enter__(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
