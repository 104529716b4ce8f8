"""`--help` of every command line: examples that are accepted, in 80 columns, without waiting for what trains."""

from __future__ import annotations

import importlib.metadata
import shlex
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import analysis.__main__
from study.cli import commands
from tests.conftest import REPOSITORY
from tests.study.cli.terminal import COLOR, ESCAPE, in_terminal

APPS = {"study": commands, "analysis": analysis.__main__}


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
        assert not ESCAPE.search(ended.stdout)
    assert ended.stdout == f"pretext-study {importlib.metadata.version('pretext-study')}\n"


def test_a_terminal_gets_colors_unless_no_color_is_set():
    command = sys.executable, "study/run.py", "--help"
    assert COLOR.search(in_terminal(*command, cwd=REPOSITORY))
    assert not COLOR.search(in_terminal(*command, cwd=REPOSITORY, NO_COLOR="1"))
