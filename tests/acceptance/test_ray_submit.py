"""`ray up`, `ray submit` and `ray down` as the documentation says them, on a machine that is reached by SSH."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from analysis.records import TrialEnded, TrialEvent
from study.config.loading import load_config
from tests.acceptance.ssh_machines import Machine, obstacle, ssh_machine
from tests.acceptance.studies import DriverProcess, assert_mlflow_equals_journal, assert_whole
from tests.conftest import REPOSITORY
from tests.study.mlflow_stores import free_port

COMMAND_S = 1500  # for what takes one or two minutes on a quiet machine
TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m|\r")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * COMMAND_S)]


class Submitted(DriverProcess):
    """A study that `ray submit` ran: everything in the home folder, under the default names."""

    @property
    def folder(self) -> Path:
        return self.root / "studies" / self.config.name


@dataclass
class Cluster:
    """The cluster of `clusters/local.yaml`, with the lines marked CHANGE filled in for one machine."""

    machine: Machine
    file: Path

    def ray(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Call Ray's command line on the laptop, in the repository."""
        command = ["ray", *arguments]
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.machine.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )

    def run(self, *arguments: str) -> str:
        """Call Ray's command line and return what it said."""
        ended = self.ray(*arguments)
        assert ended.returncode == 0, ended.stdout[-10_000:]
        return ended.stdout

    def remotely(self, command: str) -> str:
        """Return what a command on the head prints, as `ray exec` runs it, without Ray's own words."""
        said = self.run("exec", str(self.file), f"echo BEGIN; {command}; echo END")
        plain = TERMINAL_CODES.sub("", said)  # some library turns colors off at exit where it finds a terminal
        found = re.search(r"^BEGIN\n(.*?)^END$", plain, re.DOTALL | re.MULTILINE)
        assert found, said
        return found[1].strip()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster of one machine, up."""
    if reason := obstacle():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="ssh-") as root, ssh_machine(Path(root)) as machine:
        config = yaml.safe_load((REPOSITORY / "clusters" / "local.yaml").read_text())
        config["provider"] |= {"head_ip": "127.0.0.1", "worker_ips": []}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(machine.key)}
        # Beside other programs on this machine: on the loopback alone, at ports that are free, with one CPU.
        stop, start = config["head_start_ray_commands"]
        start = start.replace("--port=6379", f"--port={free_port()} --node-ip-address=127.0.0.1 --num-cpus=1")
        start = start.replace("--object-manager-port=8076", f"--ray-client-server-port={free_port()}")
        config["head_start_ray_commands"] = [stop, start]
        made = Cluster(machine, machine.laptop / "cluster.yaml")
        made.file.write_text(yaml.safe_dump(config))
        made.run("get-auth-token", "--generate")
        made.run("up", "--yes", str(made.file))
        yield made


@pytest.fixture(scope="module")
def submitted(cluster: Cluster) -> Submitted:
    """The study that `ray submit` runs without arguments, ended."""
    study = Submitted(cluster.machine.home, load_config("quick"))
    said = cluster.run("submit", str(cluster.file), "study/run.py")
    (study.root / "driver.log").write_text(TERMINAL_CODES.sub("", said))
    return study


def test_the_study_is_whole_in_the_home_folder_and_says_where(cluster: Cluster, submitted: Submitted):
    assert_whole(submitted)
    home = cluster.machine.home
    results, said = f"{home}/studies/quick", submitted.log()
    assert f"report  {results}/report.html" in said
    assert f"rsync-down CLUSTER.yaml {results}/ quick" in said
    assert re.search(r"^MLflow +\S*mlflow ui$", said, re.MULTILINE)  # in the home folder, it serves the store there


def test_its_mlflow_store_equals_its_journal(submitted: Submitted):
    assert_mlflow_equals_journal(submitted)


def test_the_script_ran_the_package_that_was_sent_in_the_cluster_that_is_up(cluster: Cluster, submitted: Submitted):
    home = cluster.machine.home
    assert (home / "run.py").read_text() == (REPOSITORY / "study" / "run.py").read_text()
    assert (
        cluster.remotely("python -c 'import study; print(study.__file__)'") == f"{home}/pretext-study/study/__init__.py"
    )
    # A local cluster of the driver's own would have left a second session.
    assert len(list((home.parent / "ray").glob("session_2*"))) == 1


def test_status_is_told_from_the_laptop(cluster: Cluster, submitted: Submitted):
    status = json.loads(cluster.remotely("python -m study status studies/quick --json"))
    assert status["ended"]
    counts = {phase["phase"]: sum(phase["trials"].values()) for phase in status["phases"]}
    assert list(counts) == ["baselines", "search", "confirm", "ablate", "evaluate"]
    assert sum(counts.values()) == len(
        {event.trial_id for event in submitted.events() if isinstance(event, TrialEnded)}
    )


def test_the_same_command_again_runs_nothing_again(cluster: Cluster, submitted: Submitted):
    before = [event for event in submitted.events() if isinstance(event, TrialEvent)]
    answer = json.loads(cluster.remotely("python ~/run.py --json 2>/dev/null"))
    assert answer["failed"] == []
    assert [event for event in submitted.events() if isinstance(event, TrialEvent)] == before


def test_results_come_to_the_laptop(cluster: Cluster, submitted: Submitted):
    here = cluster.machine.laptop / "results"
    here.mkdir()
    cluster.run("rsync-down", str(cluster.file), "~/studies/quick/", str(here))
    assert (here / "report.html").read_bytes() == (submitted.folder / "report.html").read_bytes()


def test_only_who_has_the_token_is_answered(cluster: Cluster):
    said = cluster.ray("exec", str(cluster.file), "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=guessed timeout 60 ray status")
    assert said.returncode != 0
    assert "Authentication token is missing or incorrect" in said.stdout or "InvalidAuthToken" in said.stdout


def test_a_mistake_is_told_on_the_laptop_in_one_line(cluster: Cluster):
    said = cluster.ray("submit", str(cluster.file), "study/run.py", "--", "quik")
    assert said.returncode != 0
    assert "error: 'quik' is neither a YAML file nor a preset; did you mean 'quick'?" in said.stdout
    assert "Traceback" not in said.stdout


def test_down_ends_every_ray_on_the_machine(cluster: Cluster):
    """The last one of this file."""
    assert "raylet" in cluster.remotely("ps -eo comm")
    cluster.run("down", "--yes", str(cluster.file))
    ssh = [
        "ssh",
        "-i",
        str(cluster.machine.key),
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]
    deadline = time.monotonic() + 60
    while True:
        command = [*ssh, "root@127.0.0.1", "ps -eo comm"]
        left = subprocess.run(
            command, env=cluster.machine.environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout
        if not {"raylet", "gcs_server"} & set(left.split()):
            return
        assert time.monotonic() < deadline, left
        time.sleep(1)
