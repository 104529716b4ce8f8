"""Journal -> MLflow on a real tracking server that is away, comes late or hangs."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import pytest

from study.tracking.sync import MlflowTracker, TrackingError, sync
from tests.acceptance.studies import crowding
from tests.study.mlflow_stores import (
    Server,
    all_runs,
    answers,
    eventually,
    forwarded,
    free_port,
    settled,
    stored_points,
)
from tests.study.tracked_journals import START, STUDY_POINTS, study_events, write


def test_a_server_that_is_away_costs_close_its_timeout_and_one_warning_that_says_how_to_finish(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, study_events())
    tracker = MlflowTracker(folder, f"http://user:secret@127.0.0.1:{free_port()}", poll_s=0.02)
    with caplog.at_level(logging.WARNING, logger="study"):
        tracker.start()
        eventually(lambda: "The study continues" in caplog.text)
        begun = time.monotonic()
        assert not tracker.close(timeout_s=1.0)
    assert time.monotonic() - begun < 5 * crowding()
    assert sum(f"python -m study sync {folder}" in record.message for record in caplog.records) == 1
    assert len(caplog.records) == 2
    assert "secret" not in caplog.text


@pytest.mark.core
@pytest.mark.slow
def test_a_server_that_comes_up_late_receives_everything(
    folder: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    port, events = free_port(), study_events("late")
    tracker = MlflowTracker(folder, f"http://127.0.0.1:{port}", poll_s=0.05)
    with caplog.at_level(logging.WARNING, logger="study"):
        write(folder, events[:9])
        tracker.start()
        eventually(lambda: "The study continues" in caplog.text)
        write(folder, events[9:], start=START + 9)
        with forwarded(port, server.port):
            assert tracker.close(timeout_s=60)
    assert stored_points(server.database, "late").total() == STUDY_POINTS
    assert len(all_runs(server.url, "late")) == 7


@pytest.mark.core
@pytest.mark.slow
def test_a_server_that_hangs_never_blocks_and_nothing_is_lost_or_stored_twice(
    folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    url, events = server.url, study_events("hanging")
    write(folder, events[:9])
    tracker = MlflowTracker(folder, url, poll_s=0.05)
    tracker.start()
    eventually(lambda: (folder / "mlflow.json").exists())  # in the midst of the first delivery
    os.killpg(server.pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        write(folder, events[9:], start=START + 9)
        assert time.monotonic() - begun < 5  # a blocked call would wait for the server, which answers no more
        assert not tracker.close(timeout_s=0.5)
        with pytest.raises(TrackingError, match="cannot be written"):
            sync(folder, url)
    finally:
        os.killpg(server.pid, signal.SIGCONT)
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT")  # it answers again, if slowly on a busy machine
    # A run whose creation the server had accepted before it hung is created now, and must be found, not doubled.
    eventually(lambda: answers(f"{url}/health"))
    settled(lambda: len(all_runs(url, "hanging")))
    sync(folder, url)
    assert set(stored_points(server.database, "hanging").values()) == {1}
    assert stored_points(server.database, "hanging").total() == STUDY_POINTS
    assert len(all_runs(url, "hanging")) == 7


@pytest.mark.core
@pytest.mark.slow
def test_the_tests_server_listens_on_this_machine_only(server: Server) -> None:
    port = server.port
    listening = {
        line.split()[1]
        for path in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(path).exists()
        for line in Path(path).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    }
    assert listening == {f"0100007F:{port:04X}"}
