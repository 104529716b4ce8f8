"""Signals to a real process: the first raises KeyboardInterrupt, the second ends it, an ignored one stays ignored."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

SCRIPT = """
import os, time
from study.cli import signals
from study.cli.signals import resume_command, stop_on_signals
signals.DUPLICATE_S = float(os.environ.get("DUPLICATE_S", signals.DUPLICATE_S))
stop_on_signals()
try:
    print("ready", flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print(resume_command(), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "my study.py"
    path.write_text(SCRIPT)
    return path


@pytest.fixture
def process(request: pytest.FixtureRequest, script: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that waits, also after an interrupt; the fixture's parameter is a prefix of its command line."""
    command = [*getattr(request, "param", []), sys.executable, str(script), "--fresh", "--set", "a=b c"]
    started = subprocess.Popen(command, cwd=REPOSITORY, env={"PYTHONPATH": "."}, text=True, stdout=subprocess.PIPE)
    assert line(started) == "ready"
    yield started
    started.kill()
    started.wait()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_an_interruption_and_the_second_the_end(
    process: subprocess.Popen[str], script: Path, first: signal.Signals, second: signal.Signals
):
    process.send_signal(first)
    assert line(process) == f"{sys.executable} '{script}' --set 'a=b c'"
    assert process.poll() is None
    process.send_signal(second)
    assert process.wait(30) == -second


@pytest.mark.parametrize("process", [["env", "DUPLICATE_S=5"]], ids=["a slow machine"], indirect=True)
def test_a_signal_that_comes_twice_at_once_is_one(process: subprocess.Popen[str]):
    """As `timeout` sends it: to its child, and then to the whole group."""
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)  # the first has been taken by now
    process.send_signal(signal.SIGTERM)
    assert line(process).endswith("--set 'a=b c'")
    time.sleep(0.5)
    assert process.poll() is None


@pytest.mark.parametrize("process", [["env", "--ignore-signal=INT"]], ids=["in the background"], indirect=True)
def test_a_signal_that_the_process_was_started_to_ignore_stays_ignored(process: subprocess.Popen[str]):
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert line(process).endswith("--set 'a=b c'")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
