"""Two drivers on one study folder: the second is refused, on this host and others; a dead one's lock is taken over."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.cli.signals import SIGNALS, stop_on_signals
from study.execution import lock
from study.execution.lock import DriverLock, LockLostError, is_driven
from tests.acceptance.studies import crowding, kill
from tests.conftest import REPOSITORY
from trainables.errors import ConfigError

LEASE_S = 3.0  # short, so that a test sees one end
HOLDER = """
import sys, time
from pathlib import Path
from study.execution import lock
lock.LEASE_S = float(sys.argv[2])
with lock.DriverLock(Path(sys.argv[1]), "tiny"):
    print("holds", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LEASE_S", LEASE_S)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the study `tiny` in the test's folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path), str(LEASE_S)]
    process = subprocess.Popen(command, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    yield process
    if process.poll() is None:
        kill(process)


def refusal(output: Path) -> str:
    with pytest.raises(ConfigError) as refused, DriverLock(output, "tiny"):
        pass
    return str(refused.value)


def marker(output: Path) -> Path:
    return output / ".tiny.driver"


def seen_from_elsewhere(output: Path) -> None:
    """Make a driver's sign of life look as one from another host."""
    text = marker(output).read_text(encoding="utf-8")
    host = next(line for line in text.splitlines() if line.startswith("host="))
    partial = output / "partial"
    partial.write_text(text.replace(host, "host=elsewhere"), encoding="utf-8")
    partial.replace(marker(output))


def driver_elsewhere(output: Path) -> None:
    """Leave what a driver that was killed on another host leaves."""
    held = DriverLock(output, "tiny")
    with held:
        seen_from_elsewhere(output)


def living(output: Path) -> threading.Event:
    """Give the signs of life of a driver on another host until the event is set."""
    stop = threading.Event()

    def live() -> None:
        while not stop.wait(LEASE_S / 10):
            os.utime(marker(output))

    threading.Thread(target=live, daemon=True).start()
    return stop


def test_a_second_driver_of_this_host_is_refused_at_once_and_told_who_holds_the_study(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
):
    began = time.monotonic()
    said = refusal(tmp_path)
    assert time.monotonic() - began < LEASE_S * crowding()
    assert caplog.messages == [], "it did not wait for the holder's lease"
    assert f"{tmp_path / 'tiny'}: process {holder.pid} on {socket.gethostname()} is running this study" in said


@pytest.mark.parametrize(("start", "folder"), [(".", "tiny"), ("tiny", "."), ("tiny", "../tiny"), (".", "link")])
def test_a_study_that_runs_is_found_by_every_path_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, folder: str
):
    name = "link" if folder == "link" else "tiny"
    (tmp_path / "tiny").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path / start)
    assert not is_driven(Path(folder))
    with DriverLock(tmp_path, name):
        assert is_driven(Path(folder))


@pytest.mark.core
@pytest.mark.slow
def test_a_driver_that_is_asleep_still_holds_its_study(tmp_path: Path, holder: subprocess.Popen[str]):
    holder.send_signal(signal.SIGSTOP)
    time.sleep(2 * LEASE_S)
    assert f"process {holder.pid} on" in refusal(tmp_path)


def test_what_a_killed_driver_of_this_host_left_is_taken_over_at_once_and_that_is_said(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
):
    kill(holder)
    began = time.monotonic()
    with DriverLock(tmp_path, "tiny"):
        assert time.monotonic() - began < LEASE_S * crowding()
        assert str(os.getpid()) in marker(tmp_path).read_text()
    (line,) = caplog.messages  # and none that says that it waits
    assert line == f"{tmp_path / 'tiny'}: took over from process {holder.pid} on {socket.gethostname()}, which is dead"


def test_a_study_that_a_driver_on_another_host_runs_is_refused_as_soon_as_that_gives_a_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lock, "LEASE_S", 100.0)
    driver_elsewhere(tmp_path)
    stop = living(tmp_path)
    began = time.monotonic()
    said = refusal(tmp_path)
    stop.set()
    assert time.monotonic() - began < 50, "the first sign of life came after 0.3 s"
    assert f"process {os.getpid()} on elsewhere is running this study" in said
    assert "host=elsewhere" in marker(tmp_path).read_text()


def test_a_driver_on_another_host_that_gives_no_sign_of_life_is_waited_for_and_then_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    began = time.monotonic()
    driver_elsewhere(tmp_path)
    assert is_driven(tmp_path / "tiny")  # for all that is known
    with DriverLock(tmp_path, "tiny"):
        assert time.monotonic() - began >= LEASE_S
        assert "host=elsewhere" not in marker(tmp_path).read_text()
    who = f"process {os.getpid()} on elsewhere"
    assert caplog.messages == [
        f"{tmp_path / 'tiny'} was last run by {who}; waiting up to 3 s for a sign of life",
        f"{tmp_path / 'tiny'}: took over from {who}, which is dead",
    ]


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["in front", "in the background"])
def a_drivers_signals(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a driver does on signals; one that was started with `&` hears no SIGINT."""
    before = {each: signal.getsignal(each) for each in SIGNALS}
    signal.signal(signal.SIGINT, request.param)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    stop_on_signals()
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("a_drivers_signals")
def test_a_driver_whose_study_was_taken_over_meanwhile_is_interrupted_and_says_by_whom(tmp_path: Path):
    held = DriverLock(tmp_path, "tiny")

    def drive() -> None:
        with held:
            seen_from_elsewhere(tmp_path)
            time.sleep(20 * LEASE_S)

    with pytest.raises(LockLostError, match=r"on elsewhere has taken this study over"):
        drive()
    assert held.lost
    assert "host=elsewhere" in marker(tmp_path).read_text()


def test_a_study_left_in_good_order_leaves_no_sign_of_its_driver(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for _ in range(2):
        with DriverLock(tmp_path, "tiny"):
            pass
        assert not marker(tmp_path).exists()
        assert not is_driven(tmp_path / "tiny")
    assert caplog.messages == []
