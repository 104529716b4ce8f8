"""`--help` of every command line: examples that are accepted, in 80 columns, without waiting for what trains."""

from __future__ import annotations

import importlib.metadata
import os
import pty
import re
import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import analysis.__main__
from study.cli import commands
from tests.conftest import REPOSITORY

APPS = {"study": commands, "analysis": analysis.__main__}
COLOR = re.compile(r"\x1b\[[0-9;]*m")


def _help(name: str, *command: str) -> str:
    answer = CliRunner().invoke(APPS[name].app, [*command, "--help"], env={"COLUMNS": "80"})
    assert answer.exit_code == 0, answer.output
    assert max(map(len, answer.output.splitlines())) <= 80
    return answer.output


@pytest.mark.parametrize("name", APPS)
def test_each_command_shows_its_examples_and_the_program_shows_all(name: str):
    module = APPS[name]
    whole = _help(name)
    for command, examples in module.EXAMPLES.items():
        own = _help(name, command)
        for example in examples:
            assert example in whole
            assert example in own


@pytest.mark.parametrize("name", APPS)
def test_the_examples_are_accepted(name: str):
    module = APPS[name]
    group = typer.main.get_command(module.app)
    for command, examples in module.EXAMPLES.items():
        for example in examples:
            words = shlex.split(example[example.index(module.PROGRAM) + len(module.PROGRAM) :])
            assert words[0] == command
            group.commands[command].make_context(command, words[1:])  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", APPS)
def test_help_and_version_start_without_what_takes_seconds_to_import(name: str):
    code = f"""
import sys
from {APPS[name].__name__ if name == "study" else "analysis.__main__"} import main
try:
    main()
finally:
    heavy = {{"torch", "ray", "mlflow", "scipy", "pandas"}} & set(sys.modules)
    assert not heavy, heavy
"""
    for option in ("--help", "--version"):
        ended = subprocess.run(
            [sys.executable, "-c", code, option], capture_output=True, text=True, check=False, cwd=REPOSITORY
        )
        assert ended.returncode == 0, ended.stderr
        assert not COLOR.search(ended.stdout)
    assert ended.stdout == f"pretext-study {importlib.metadata.version('pretext-study')}\n"


def _in_terminal(environment: dict[str, str], *command: str) -> str:
    """Return what a command writes to a terminal."""
    shown, end = pty.openpty()
    with os.fdopen(end, "wb") as terminal:
        running = subprocess.Popen(command, stdout=terminal, stderr=terminal, cwd=REPOSITORY, env=environment)
    read = b""
    while chunk := _read(shown):
        read += chunk
    os.close(shown)
    assert running.wait() == 0
    return read.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the other end is closed
        return b""


def test_a_terminal_gets_colors_unless_no_color_is_set():
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    environment = kept | {"TERM": "xterm-256color", "COLUMNS": "80"}
    color = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    command = sys.executable, "study/run.py", "--help"
    assert color.search(_in_terminal(environment, *command))
    assert not color.search(_in_terminal(environment | {"NO_COLOR": "1"}, *command))
