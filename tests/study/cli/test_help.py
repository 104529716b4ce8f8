"""`--help` of every command line: examples that are accepted, in 80 columns, without waiting for what trains."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import analysis.__main__
from study.cli import commands, launch, reference
from study.cli import run as run_command
from study.config.presets import preset_summaries
from study.series import Series
from tests.conftest import REPOSITORY
from tests.study.cli.conftest import Command
from tests.study.cli.light_starts import light_start
from tests.study.cli.terminal import COLOR, ESCAPE, in_terminal
from tests.study.studies import tiny

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")  # all but line ends
APPS = {"study": commands, "analysis": analysis.__main__}


@pytest.fixture
def run(call_main: Command) -> Command:
    """Call `python study/run.py ...`."""
    return functools.partial(call_main, run_command.main)


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
    module = APPS[name].__name__ if name == "study" else "analysis.__main__"
    for option in ("--help", "--version"):
        ended = light_start(module, {"torch", "ray", "mlflow", "scipy", "pandas"}, name, option)
        assert ended.returncode == 0, ended.stderr
        assert not ESCAPE.search(ended.stdout)
    assert ended.stdout == f"pretext-study {importlib.metadata.version('pretext-study')}\n"


def test_a_terminal_gets_colors_unless_no_color_is_set():
    command = sys.executable, "study/run.py", "--help"
    assert COLOR.search(in_terminal(*command, cwd=REPOSITORY))
    assert not COLOR.search(in_terminal(*command, cwd=REPOSITORY, NO_COLOR="1"))


def test_help_has_the_presets_and_examples_and_starts_without_what_trains():
    heavy = {"torch", "ray", "mlflow", "optuna", "scipy", "pandas"}
    ended = light_start("study.cli.run", heavy, "study/run.py", "--help", COLUMNS="80")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert max(map(len, ended.stdout.splitlines())) <= 80
    assert not CONTROL.search(ended.stdout)
    for name, summary in preset_summaries().items():
        assert re.search(rf"^ {name} +{re.escape(summary[:40])}", ended.stdout, re.M), name
    for command in run_command.EXAMPLES:
        assert command in ended.stdout


def test_the_examples_of_help_are_accepted(run: Command, monkeypatch: pytest.MonkeyPatch):
    (Path.cwd() / "my_study.yaml").write_text(tiny().to_yaml())
    ran: list[Series | None] = []
    monkeypatch.setattr(reference, "run_reference", lambda *_, **__: ran.append(None))
    monkeypatch.setattr(launch, "run_parts", lambda series, *_, **__: ran.append(series) or {})
    monkeypatch.setattr(launch, "show_plans", lambda series, *_, **__: ran.append(series))
    for command in run_command.EXAMPLES:
        assert run(*shlex.split(command.removeprefix(run_command.PROGRAM))).code == 0, command
    assert len(ran) == len(run_command.EXAMPLES)


def test_version_is_that_of_the_package(run: Command):
    assert run("--version").out == f"pretext-study {importlib.metadata.version('pretext-study')}\n"


def test_the_shell_completes_files_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my [studies]" / "deep").mkdir(parents=True)
    for name in ("few.yaml", "my [studies]/first.yml", "my [studies]/notes.txt"):
        (tmp_path / name).touch()
    for folder in ("", f"{tmp_path}/"):
        found = [value for value, _ in run_command._complete_study(f"{folder}my [studies]/")]
        assert found == [f"{folder}my [studies]/deep/", f"{folder}my [studies]/first.yml"]
    assert [value for value, _ in run_command._complete_study("few")] == ["few_labels", "few.yaml"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("pretext-study few", ["few_labels"]),
        ("pretext-study quick --tasks rot", ["rotation"]),
        ("pretext-study quick --tasks rotation,context_", ["rotation,context_encoder", "rotation,context_prediction"]),
    ],
)
def test_the_shell_completes_presets_and_tasks(typed: str, offered: list[str]):
    program = shutil.which("pretext-study", path=Path(sys.executable).parent)
    if program is None:
        pytest.skip("needs the installed command pretext-study")
    variables = {"_PRETEXT_STUDY_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": typed}
    ended = subprocess.run(
        [program], capture_output=True, text=True, check=False, cwd=REPOSITORY, env={**os.environ, **variables}
    )
    assert ended.returncode == 0, ended.stderr
    assert re.findall(r'^"([^"]+)"', ended.stdout.replace("_arguments '*: :((", ""), re.M) == offered, ended.stdout
