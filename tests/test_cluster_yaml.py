"""The cluster files are such as Ray's own launcher accepts, and the commands in them and in their page exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli

from tests.conftest import REPOSITORY
from tests.documents import commands as documented_commands

FILES = {"aws": REPOSITORY / "cluster.yaml", "local": REPOSITORY / "clusters" / "local.yaml"}
PAGE = REPOSITORY / "docs" / "cluster.md"
COMMANDS = ("initialization_commands", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
UBUNTU = {"sudo"}  # what an Ubuntu machine has, and this one may lack
BUILT_IN = {"ulimit", "test"}
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # Ray's is beside our Python


@pytest.fixture(params=FILES)
def provider(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def config(provider: str) -> dict[str, Any]:
    return yaml.safe_load(FILES[provider].read_text())


def commands(config: dict[str, Any]) -> list[str]:
    return [command for kind in COMMANDS for command in config.get(kind, [])]


def simple_commands(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line of shell, each as its words without leading variables."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.wordchars += "$[]=!,:@"
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();&|"):
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            if words:
                yield words
            words = []
        else:
            words.append(word)


def check_ray(words: list[str]) -> None:
    """Parse a call of `ray` as its command line does, without running it. Raises click's UsageError."""
    _, name, *arguments = words
    assert name in cli.commands, name
    cli.commands[name].make_context(name, list(arguments))


def test_rays_schema_accepts_it(config: dict[str, Any], provider: str):
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["provider"]["type"] == provider


def test_every_command_is_one_that_bash_can_read_of_programs_that_there_are(config: dict[str, Any]):
    for command in commands(config):
        subprocess.run(["bash", "-n", "-c", command], check=True)
        for words in simple_commands(command):
            program = words[0].replace("~/venv/bin/", "")
            assert program in UBUNTU | BUILT_IN or shutil.which(program, path=PATH), command


def test_every_option_of_ray_is_one_that_this_ray_has(config: dict[str, Any]):
    calls = [words for command in commands(config) for words in simple_commands(command) if words[0] == "ray"]
    for words in calls:
        check_ray(words)
    assert [words[:2] for words in calls] == [["ray", "stop"], ["ray", "start"]] * 2
    with pytest.raises(click.UsageError):
        check_ray([*calls[1], "--no-such-option"])


def test_what_is_sent_is_all_that_the_package_is_built_of_and_no_more(config: dict[str, Any]):
    """Ray reads everything that it sends at each `ray up`: with an environment or results in it, gigabytes."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    sent = {there: here for there, here in config["file_mounts"].items() if not here.startswith("~")}
    assert set(sent.values()) == {"pyproject.toml", project["readme"], *project["license-files"], *packages}
    assert sent == {f"~/pretext-study/{here}": here for here in sent.values()}


def test_it_is_installed_from_there_with_extras_that_it_has(config: dict[str, Any], provider: str):
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    install = config["setup_commands"][-1]
    found = re.fullmatch(r"~/venv/bin/pip install --quiet --editable ~/pretext-study(?:\[(\w+)\])?", install)
    assert found, install
    assert found[1] in {"aws": {"aws"} & set(extras), "local": {None}}[provider]


def test_nothing_is_open_but_ssh_and_to_those_with_the_token(config: dict[str, Any]):
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    starts = [config[kind][-1] for kind in ("head_start_ray_commands", "worker_start_ray_commands")]
    assert all("RAY_AUTH_MODE=token ray start" in start for start in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    assert "security_group" not in config["provider"]  # Ray's own, which opens SSH alone
    assert not re.search("password|secret|AKIA", yaml.safe_dump(config), re.IGNORECASE)


def test_gpu_machines_are_spot_instances_that_come_from_nothing_and_go_when_idle():
    config = yaml.safe_load(FILES["aws"].read_text())
    workers, head = config["available_node_types"]["gpu_worker"], config["available_node_types"]["head"]
    assert (workers["min_workers"], workers["max_workers"]) == (0, config["max_workers"])
    assert workers["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in head["node_config"]
    assert config["idle_timeout_minutes"] > 0
    for key in ("ImageId", "IamInstanceProfile"):  # the same system, and the same bucket
        assert workers["node_config"][key] == head["node_config"][key]


@pytest.mark.parametrize(
    ("provider", "keys"),
    [
        ("aws", ["region"]),
        ("local", ["head_ip", "worker_ips", "ssh_user", "ssh_private_key"]),
    ],
)
def test_what_is_the_users_own_is_marked(provider: str, keys: list[str]):
    lines = FILES[provider].read_text().splitlines()
    marked = [line.split(":")[0].strip() for line in lines if "# CHANGE" in line]
    assert marked == keys


@pytest.mark.parametrize("page", [PAGE, FILES["local"]], ids=lambda path: path.name)
def test_a_study_on_machines_with_workers_is_submitted_with_shared_storage(page: Path):
    assert yaml.safe_load(FILES["local"].read_text())["provider"]["worker_ips"]
    lines = documented_commands(page) if page.suffix == ".md" else page.read_text().splitlines()
    submitted = [line for line in lines if "ray submit" in line and "clusters/local.yaml" in line]
    assert submitted
    assert [line for line in submitted if "--set storage=" not in line] == []


@pytest.mark.parametrize("page", [PAGE, *FILES.values()], ids=lambda path: path.name)
def test_every_call_of_ray_that_is_written_down_can_be_made_with_files_that_there_are(page: Path):
    lines = documented_commands(page) if page.suffix == ".md" else page.read_text().replace("#", "").splitlines()
    calls = [shlex.split(line, comments=True) for line in lines if re.match(r"\s*ray (up|submit|exec|down|\w)", line)]
    assert calls
    for words in calls:
        check_ray(words)
        for word in words:
            if word.endswith((".yaml", ".py")):
                assert (REPOSITORY / word).is_file(), words
