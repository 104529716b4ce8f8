"""A machine that is reached by SSH, played by this one: a home, processes and a /tmp/ray of its own.

sshd listens on 127.0.0.1 with keys made for the occasion. It runs in namespaces of its own: what a session there does
with all processes that it sees (`ray stop` ends every Ray) reaches no other, and all of them end with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.study.mlflow_stores import eventually, free_port

PROGRAMS = ("sshd", "ssh", "ssh-keygen", "rsync", "unshare", "mount")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
NAMESPACES = ["unshare", "--fork", "--pid", "--mount-proc", "--mount", "--kill-child"]


@dataclass(frozen=True)
class Machine:
    """The machine, seen from a laptop with a home of its own.

    home: of the machine's user. laptop: home of the one who works with it. environment: of the laptop's commands, whose
    `ssh` finds the machine at 127.0.0.1. key: the laptop's private key.
    """

    home: Path
    laptop: Path
    environment: dict[str, str]
    key: Path


def obstacle() -> str | None:
    """Return why this machine cannot play another one, None where it can."""
    if os.geteuid() != 0:
        return "needs root, for an sshd and processes of their own"
    if missing := [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]:
        return f"needs {', '.join(missing)}; apt-get install openssh-server rsync"
    if subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode:
        return "needs the right to make namespaces"
    return None


@contextlib.contextmanager
def ssh_machine(root: Path) -> Iterator[Machine]:
    """Run the machine for as long as the block runs, with everything it writes under `root`."""
    keys, home, laptop, tools, ray = (root / name for name in ("keys", "home", "laptop", "bin", "ray"))
    for folder in (keys, home, laptop / "tmp", tools, ray):
        folder.mkdir(parents=True)
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", keys / key], check=True)
    provision(home)
    port = free_port()
    executable(keys / "login", f'export HOME={home}\ncd\nexec bash -c "$SSH_ORIGINAL_COMMAND"')
    settings = {
        "ListenAddress": "127.0.0.1",
        "Port": port,
        "HostKey": keys / "host",
        "AuthorizedKeysFile": keys / "user.pub",
        "StrictModes": "no",  # the keys lie under /tmp
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "ForceCommand": keys / "login",
        "PidFile": "none",
    }
    (keys / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    (keys / "ssh_config").write_text(f"Port {port}\n")
    executable(tools / "ssh", f'exec {shutil.which("ssh")} -F {keys / "ssh_config"} "$@"')
    Path("/tmp/ray").mkdir(exist_ok=True)
    boot = [
        f"mount --bind {ray} /tmp/ray",
        f"mount --bind {sys.prefix} {sys.prefix}",  # lent, not given
        f"mount -o remount,bind,ro {sys.prefix}",
        "mount -t tmpfs tmpfs /run",
        "mkdir -m 755 /run/sshd",
        f"exec {shutil.which('sshd', path=PATH)} -D -e -f {keys / 'sshd_config'}",
    ]
    with (root / "sshd.log").open("wb") as log:
        command = [*NAMESPACES, "bash", "-ec", "\n".join(boot)]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env={"PATH": PATH})
    own = {name: os.environ[name] for name in ("LANG", "TERM") if name in os.environ}
    path = f"{tools}:{Path(sys.executable).parent}:{PATH}"
    environment = {**own, "PATH": path, "HOME": str(laptop), "TMPDIR": str(laptop / "tmp")}
    try:
        eventually(lambda: process.poll() is not None or listens(port), timeout_s=60)
        assert process.poll() is None, (root / "sshd.log").read_text()
        yield Machine(home, laptop, environment, keys / "user")
    finally:
        os.kill(process.pid, signal.SIGKILL)  # `unshare` takes all that ran in there with it
        process.wait(20)


def provision(home: Path) -> None:
    """Give a home a virtual environment that borrows the packages of this one, since there is no network to get them.

    So `pip install` of the repository needs no download, and `python` there is another than that of the tests.
    """
    environment = home / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    own = sysconfig.get_path("purelib", scheme="venv", vars={"base": str(environment)})
    Path(own, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for name, module, function in (("ray", "ray.scripts.scripts", "main"), ("pip", "pip._internal.cli.main", "main")):
        script = environment / "bin" / name
        script.write_text(
            f"#!{environment}/bin/python\nimport sys\nfrom {module} import {function}\nsys.exit(main())\n"
        )
        script.chmod(0o755)
    settings = home / ".config" / "pip" / "pip.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text("[install]\nno-index = true\nno-build-isolation = false\n")  # which means: without isolation
    (home / ".bashrc").write_text("# of the machine's user\n")


def executable(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
