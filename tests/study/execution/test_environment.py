"""A machine on which Ray cannot start, or a cluster that does not answer, is one line with exit code 2 at once."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.execution.environment import check_environment
from tests.conftest import REPOSITORY
from trainables.errors import ConfigError

LONG = "/tmp/" + "x" * 100
STRANGER = 12345  # no user of this machine
CASES = [
    ({"TMPDIR": LONG}, f"TMPDIR={LONG}: "),
    ({"RAY_TMPDIR": "/dev/null/t"}, "RAY_TMPDIR=/dev/null/t: Ray cannot write temporary files there (not a directory)"),
    ({"TMPDIR": "/proc"}, "TMPDIR=/proc: Ray cannot write temporary files there ("),
    ({"HOME": "/dev/null"}, "HOME=/dev/null: Ray cannot keep the token of its local clusters there (not a directory)"),
    ({"RAY_ADDRESS": "127.0.0.1"}, "RAY_ADDRESS=127.0.0.1: must be HOST:PORT"),
    ({"RAY_ADDRESS": "here:soon"}, "RAY_ADDRESS=here:soon: must be HOST:PORT"),
    ({"RAY_ADDRESS": "127.0.0.1:1"}, "no Ray cluster answers at 127.0.0.1:1; start it"),
    ({"RAY_ADDRESS": "no.such.host.invalid:6379"}, "no Ray cluster answers at no.such.host.invalid:6379; start it"),
]
IDS = [f"{name}={value[:16]}" for environment, _ in CASES for name, value in environment.items()]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)


def message_of(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        check_environment()
    return str(caught.value)


@pytest.mark.parametrize(("environment", "complaint"), CASES, ids=IDS)
def test_what_ray_cannot_use_is_named_with_a_remedy(
    environment: dict[str, str], complaint: str, monkeypatch: pytest.MonkeyPatch
):
    message = message_of(environment, monkeypatch)
    assert message.startswith(complaint)
    assert "set " in message or "unset " in message
    assert "\n" not in message


@pytest.fixture
def web_server() -> Iterator[str]:
    """HOST:PORT at which something answers that is not Ray."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_another_server_at_the_address_is_not_taken_for_a_cluster(web_server: str, monkeypatch: pytest.MonkeyPatch):
    assert message_of({"RAY_ADDRESS": web_server}, monkeypatch).startswith(f"no Ray cluster answers at {web_server};")


def test_a_folder_of_temporary_files_that_does_not_exist_yet_is_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with tempfile.TemporaryDirectory(dir="/tmp") as root:  # pytest's own folders are too deep for Ray's sockets
        monkeypatch.setenv("RAY_TMPDIR", f"{root}/new")
        assert check_environment() is None
        assert Path(f"{root}/new/ray").is_dir()


def test_a_token_in_the_environment_needs_no_home_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 32)
    assert check_environment() is None


def run_study(environment: dict[str, str], folder: Path, *before: str) -> tuple[int, list[str], float]:
    """Run the command in an environment; return its exit code, what it printed and the seconds that it took."""
    command = [*before, sys.executable, str(REPOSITORY / "study" / "run.py"), "quick", "--simulate", "--output", "out"]
    began = time.monotonic()
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    return ended.returncode, (ended.stdout + ended.stderr).splitlines(), time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize(("environment", "complaint"), CASES, ids=IDS)
def test_the_command_ends_with_that_line_within_30_seconds(environment: dict[str, str], complaint: str, tmp_path: Path):
    code, lines, seconds = run_study(os.environ | environment, tmp_path)
    assert code == 2
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {complaint}")
    assert seconds < 30
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.core
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root to become another user")
def test_a_user_whom_the_system_does_not_know_is_told_to_set_home(tmp_path: Path):
    rights = "+dac_override,+dac_read_search"  # this checkout may be readable by its owner only
    become = ("setpriv", "--reuid", str(STRANGER), "--regid", str(STRANGER), "--clear-groups")
    become = (*become, f"--inh-caps={rights}", f"--ambient-caps={rights}")
    homeless = {name: value for name, value in os.environ.items() if name != "HOME"}
    code, lines, _ = run_study(homeless, tmp_path, *become)
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"error: user {STRANGER} has no home folder, which Ray needs; set HOME to a folder")
