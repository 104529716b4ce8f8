"""Delivery of the journal to MLflow: by a background thread while a study runs, or by `sync` at any time.

The journal is the source of truth and MLflow a projection of it. A slow, unreachable or emptied store does not affect
the study: delivery continues later, after the last byte of the journal that was delivered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import filelock

import analysis
from analysis import records
from analysis.records import StudyStarted
from analysis.records.layout import HEADLINE_FILE
from study.tracking.state import TrackingError, TrackingState, milliseconds
from trainables.errors import StorageError, UserError, first_line, without_secrets

__all__ = [
    "MlflowTracker",
    "SyncResult",
    "TrackingError",
    "catch_up_command",
    "configured_store",
    "default_tracking_uri",
    "mlflow_environment",
    "run_id_of",
    "sync",
]

logger = logging.getLogger(__name__)

POLL_S = 1.0  # seconds between two reads of the journal
LONGEST_PAUSE_S = 60.0  # seconds between two attempts to reach an unreachable store
LOCK_PATIENCE_S = 120.0  # seconds to wait for another process that delivers the same journal
CHUNK_BYTES = 1 << 18  # bytes of the journal that are delivered before the state is saved
# MLflow's own retries block a call for minutes; here the journal is the queue and one attempt is enough.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class SyncResult:
    """Result of one delivery.

    Attributes:
        events: Number of journal lines read.
        points: Number of metric values sent; MLflow drops those that it already has.
        artifacts: Number of files stored.
        refused: Number of calls that MLflow refused permanently, each logged as a warning.
    """

    events: int = 0
    points: int = 0
    artifacts: int = 0
    refused: int = 0


def default_tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or `mlflow.db` in the working directory, which `mlflow ui` shows by default."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(Path.cwd() / 'mlflow.db').as_posix()}"


def configured_store(folder: Path) -> str | None:
    """Return the MLflow store in the configuration that the study in `folder` was last run with, if any."""
    stores = [event.config.get("tracking_uri") for event in records.read(folder, StudyStarted)]
    return stores[-1] if stores else None


def catch_up_command(folder: Path, tracking_uri: str) -> str:
    """Return the shell command, for the current folder, that delivers the rest of a journal to a store.

    Args:
        folder: The study's folder.
        tracking_uri: The MLflow store. Its password, if it has one, is left out.
    """
    command = ["python", "-m", "study", "sync", str(folder)]
    known = [f"sqlite:///{(Path.cwd() / 'mlflow.db').as_posix()}"]  # where the command looks by itself
    with contextlib.suppress(UserError):  # a damaged journal
        known.append(configured_store(folder) or "")
    if tracking_uri not in known:
        command += ["--tracking-uri", without_secrets(tracking_uri)]
    return shlex.join(command)


def sync(
    folder: Path, tracking_uri: str | None = None, *, close_abandoned: bool = False, chunk_bytes: int = CHUNK_BYTES
) -> SyncResult:
    """Deliver the part of a study's journal that MLflow lacks; do nothing if there is no journal yet.

    Args:
        folder: The study's folder.
        tracking_uri: The MLflow store; `default_tracking_uri()` if it is None.
        close_abandoned: Whether to close runs without an end as KILLED; only if the driver is known to be dead.
        chunk_bytes: Bytes of the journal that are delivered before the state is saved.

    Raises:
        TrackingError: The store cannot be reached. The next delivery continues where this one stopped.
    """
    uri = tracking_uri or default_tracking_uri()
    if not (folder / records.JOURNAL_FILE).exists():
        return SyncResult()
    with mlflow_environment():
        # Imported here, because MLflow takes seconds to import and neither the command line nor a study should wait.
        from study.tracking.database import create_database
        from study.tracking.store import GONE, UNREACHABLE

        try:
            create_database(uri)
            with filelock.FileLock(folder / "mlflow.lock", timeout=LOCK_PATIENCE_S):
                try:
                    return _deliver(folder, uri, close_abandoned, chunk_bytes)
                except UNREACHABLE as error:
                    if getattr(error, "error_code", None) != GONE:
                        raise
                    # The store was emptied or replaced, so the saved state is invalid.
                    TrackingState.forget(folder)
                    return _deliver(folder, uri, close_abandoned, chunk_bytes)
        except filelock.Timeout as error:
            raise TrackingError(
                f"{folder}: another process has been writing to MLflow for minutes; try again later"
            ) from error
        except (*UNREACHABLE, StorageError) as error:
            raise TrackingError(f"MLflow at {uri} cannot be written: {first_line(error)}") from error
        except ImportError as error:  # SQLAlchemy imports the driver of a database when it connects
            missing = first_line(error)
            raise TrackingError(
                f"MLflow at {uri} needs a package: {missing}; install it where the study runs"
            ) from error


def run_id_of(folder: Path, tracking_uri: str | None, trial_id: str) -> tuple[str, str]:
    """Return the MLflow run id of a trial, and the URI of the store that has the run.

    Args:
        folder: The study's folder.
        tracking_uri: The MLflow store; `default_tracking_uri()` if it is None.
        trial_id: Id of the trial.

    Raises:
        TrackingError: The trial has not been delivered to the store.
    """
    uri = tracking_uri or default_tracking_uri()
    state = TrackingState.of(folder, uri)
    runs = state.runs if state else {}
    if f"trial/{trial_id}" not in runs:
        raise TrackingError(f"{folder}: no trial {trial_id} in MLflow at {uri}; sync it first")
    return runs[f"trial/{trial_id}"], uri


@contextlib.contextmanager
def mlflow_environment() -> Iterator[None]:
    """Set environment variables for short timeouts and quiet logging of MLflow, unless the user has set them."""
    added = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


class MlflowTracker:
    """Background thread that delivers a journal while the study writes it; the study itself never calls MLflow.

    Args:
        folder: The study's folder.
        tracking_uri: The MLflow store; `default_tracking_uri()` if it is None.
        poll_s: Seconds between two deliveries.
        prepare: Called first in that thread, for imports that take seconds.
        finish: Called in that thread once the whole journal has been delivered; called again if it raises UserError.
    """

    def __init__(
        self,
        folder: Path,
        tracking_uri: str | None = None,
        *,
        poll_s: float = POLL_S,
        prepare: Callable[[], object] = lambda: None,
        finish: Callable[[], object] = lambda: None,
    ) -> None:
        self.folder = folder
        self._prepare, self._finish = prepare, finish
        self.tracking_uri = tracking_uri or default_tracking_uri()
        self._poll_s = poll_s
        self._closing = threading.Event()
        self._given_up = threading.Event()
        self._delivered = False
        self._thread = threading.Thread(target=self._follow, name="mlflow", daemon=True)
        self._exit = contextlib.ExitStack()

    def start(self) -> None:
        """Start the thread."""
        self._exit.enter_context(mlflow_environment())
        self._thread.start()

    def close(self, timeout_s: float = 30.0) -> bool:
        """Deliver the rest within `timeout_s` seconds and return whether MLflow has everything; raise nothing."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._given_up.set()
        self._exit.close()
        if not self._delivered:
            logger.warning(
                "MLflow at %s has not received everything. Nothing is lost; to finish, run: %s",
                without_secrets(self.tracking_uri),
                catch_up_command(self.folder, self.tracking_uri),
            )
        return self._delivered

    def _follow(self) -> None:
        self._prepare()
        pause = self._poll_s
        while not self._given_up.is_set():
            closing = self._closing.is_set()  # read before the delivery, which then covers everything written
            try:
                sync(self.folder, self.tracking_uri)
                if closing:
                    self._finish()
            except UserError as error:
                if pause == self._poll_s:
                    logger.warning("%s. The study continues, and delivery is tried again.", error)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                pause = self._poll_s
                if closing:
                    self._delivered = True
                    return
            if closing:
                self._given_up.wait(min(pause, 1.0))
            else:
                self._closing.wait(pause)


def _deliver(folder: Path, uri: str, close_abandoned: bool, chunk_bytes: int) -> SyncResult:
    study = next(records.read(folder), None)
    if study is None:
        return SyncResult()
    if not isinstance(study, StudyStarted):
        kind = type(study).__name__
        raise TrackingError(f"{folder / records.JOURNAL_FILE}: must begin with StudyStarted, not {kind}")
    path, journal = folder / records.JOURNAL_FILE, milliseconds(study)
    state = TrackingState.load(folder, tracking_uri=uri, journal=journal)
    if not _is_end_of_line(path, state.offset):  # the journal was truncated and has since grown differently
        logger.warning("%s: not the file that was delivered to MLflow before, so it is delivered again", path)
        TrackingState.forget(folder)
        state = TrackingState.load(folder, tracking_uri=uri, journal=journal)
    if state.clean and state.offset >= path.stat().st_size and not (state.ended or close_abandoned):
        return SyncResult()
    return _Delivery(folder, uri, _driver(path, state.driver) or study, state).run(close_abandoned, chunk_bytes)


def _driver(path: Path, offset: int) -> StudyStarted | None:
    """Return the StudyStarted that begins at an offset of a journal; None if something else is there."""
    with path.open("rb") as file, contextlib.suppress(records.JournalError):
        file.seek(offset)
        event = records.from_line(file.readline(), f"{path}, after byte {offset}")
        return event if isinstance(event, StudyStarted) else None
    return None


class _Delivery:
    """One pass over the part of a journal that has not been delivered yet."""

    def __init__(self, folder: Path, uri: str, study: StudyStarted, state: TrackingState) -> None:
        from mlflow import MlflowClient

        from study.tracking.mlflow_runs import RunWriter

        self._folder = folder
        self._state = state
        self._interrupted = not state.clean and state.offset > 0  # the last delivery did not come to its end
        self._runs = RunWriter(MlflowClient(tracking_uri=uri), study, state)

    def run(self, close_abandoned: bool, chunk_bytes: int) -> SyncResult:
        from study.tracking.mlflow_runs import STUDY_FILES

        events = artifacts = 0
        with (self._folder / records.JOURNAL_FILE).open("rb") as file:
            while lines := _whole_lines(file, self._state.offset, chunk_bytes):
                with self._step():
                    where = f"{self._folder / records.JOURNAL_FILE}, after byte {self._state.offset}"
                    place, driver = self._state.offset, self._state.driver
                    for line in lines:
                        if (event := records.from_line(line, where)) is not None:
                            self._runs.apply(event)
                            driver = place if isinstance(event, StudyStarted) else driver
                        place += len(line)
                    self._runs.flush()
                    self._state.offset, self._state.driver = place, driver
                events += len(lines)
        if close_abandoned and self._state.open:
            with self._step():
                self._runs.close_abandoned(study_too=True)
        if (events or self._interrupted) and (self._runs.summarize or self._state.ended):
            with self._step():
                self._runs.add_summaries(analysis.load(self._folder), _headline(self._folder))
        if self._state.ended:
            with self._step():
                artifacts = self._runs.log_artifacts(self._folder, STUDY_FILES)
        return SyncResult(events, self._runs.points, artifacts, self._runs.refused)

    @contextlib.contextmanager
    def _step(self) -> Iterator[None]:
        """Mark the saved state as unclean while events are being delivered."""
        self._state.clean = False
        self._state.save(self._folder)
        yield
        self._state.clean = True
        self._state.save(self._folder)


def _headline(folder: Path) -> str:
    """Return the report's first sentences; empty before the report, and in studies of earlier versions."""
    path = folder / HEADLINE_FILE
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def _is_end_of_line(path: Path, offset: int) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, offset - 1))
        return offset == 0 or file.read(1) == b"\n"


def _whole_lines(file: BinaryIO, offset: int, chunk_bytes: int) -> list[bytes]:
    """Return about `chunk_bytes` of lines from `offset`, without a last one that is still being written."""
    file.seek(offset)
    return [line for line in file.readlines(chunk_bytes) if line.endswith(b"\n")]
