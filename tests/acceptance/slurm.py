"""A Slurm cluster of two nodes, both of them this machine.

Its daemons run in a process namespace of their own, so that what a job leaves behind ends with them. They listen on
127.0.0.1 alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY
from tests.study.mlflow_stores import eventually, free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "unshare")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
NODES = ("n1", "n2")
PACKAGE = ("study", "trainables", "search_spaces", "analysis", "clusters")

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={control_port}
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
ReturnToService=2
KillWait=5
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

# The environment that a job activates: the tests' own, but that `ray` would turn 127.0.0.1, by which these nodes reach
# each other, into this machine's outward address.
RAY = """#!{python}
from ray._private import services
services.resolve_ip_for_localhost = str
from ray.scripts.scripts import main
main()
"""


@dataclass(frozen=True)
class Slurm:
    """The cluster. repository: what a user has cloned, and works in. environment: of the user's commands."""

    repository: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """Run a command of Slurm in the repository and return what it prints."""
        ended = subprocess.run(
            command, cwd=self.repository, env=self.environment, text=True, capture_output=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    def submit(self, *arguments: str) -> str:
        """Submit a job and return its id."""
        return self.run("sbatch", "--parsable", "--cpus-per-task=1", *arguments)

    def state(self, job: str) -> str:
        """Return the job's state, for example RUNNING."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job)
        return shown.split("JobState=")[1].split()[0]

    def log(self, job: str) -> str:
        """Return what the job has written so far, and its Ray."""
        return "\n".join(path.read_text() for path in sorted(self.repository.glob(f"*-{job}.*log")))


def obstacle() -> str | None:
    """Return why there can be no Slurm here, None where there can."""
    if os.geteuid() != 0:
        return "needs root, as Slurm's daemons do"
    if missing := [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]:
        return f"needs {', '.join(missing)}; apt-get install slurmctld slurmd slurm-client munge"
    if subprocess.run(
        ["unshare", "--fork", "--pid", "--mount-proc", "true"], capture_output=True, check=False
    ).returncode:
        return "needs the right to make namespaces"
    return None


@contextlib.contextmanager
def slurm_cluster(root: Path) -> Iterator[Slurm]:
    """Run the cluster for as long as the block runs, with everything it writes under `root`."""
    repository, environment = _repository(root), os.environ | {"PATH": PATH, "SLURM_CONF": f"{root}/slurm.conf"}
    _configure(root)
    daemons = [f"munged --foreground --force {_munge(root)}", "sleep 1; exec slurmctld -D"]
    daemons += [f"sleep 2; exec slurmd -D -N {node}" for node in NODES]
    script = "\n".join(f"({daemon}) &" for daemon in daemons) + "\nwait"
    namespace = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "sh", "-c", script]
    with (root / "daemons.log").open("wb") as log:
        running = subprocess.Popen(namespace, env=environment, stdout=log, stderr=log, start_new_session=True)
    used = {"VENV": str(root / "venv"), "PYTHONPATH": str(repository), "USER": "root", "RAY_AUTH_MODE": "token"}
    slurm = Slurm(repository, environment | used)
    try:
        eventually(lambda: _idle(slurm) == len(NODES))
        yield slurm
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def _idle(slurm: Slurm) -> int:
    with contextlib.suppress(AssertionError):  # the controller does not answer yet
        return slurm.run("sinfo", "--Node", "--noheader", "--format=%T").split().count("idle")
    return 0


def _munge(root: Path) -> str:
    folder = root / "munge"
    folder.mkdir(mode=0o700)
    key = folder / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    files = {"key-file": key, "socket": folder / "socket", "pid-file": folder / "pid", "seed-file": folder / "seed"}
    return " ".join(f"--{name}={path}" for name, path in files.items())


def _configure(root: Path) -> None:
    host = socket.gethostname().partition(".")[0]
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=2 Gres=gpu:1" for node in NODES
    )
    text = CONFIGURATION.format(root=root, host=host, control_port=free_port(), nodes=nodes)
    (root / "slurm.conf").write_text(text)
    (root / "gres.conf").write_text("Name=gpu File=/dev/null\n")  # counted and assigned, but not used
    (root / "state").mkdir()


def _repository(root: Path) -> Path:
    """Return a repository with the package and an environment as `make install` leaves them."""
    folder, programs = root / "repository", root / "venv" / "bin"
    for made in (folder, programs):
        made.mkdir(parents=True)
    for name in PACKAGE:
        (folder / name).symlink_to(REPOSITORY / name)
    (programs / "activate").write_text(f"PATH={programs}:{Path(sys.executable).parent}:$PATH\n")
    (programs / "ray").write_text(RAY.format(python=sys.executable))
    (programs / "ray").chmod(0o755)
    return folder
