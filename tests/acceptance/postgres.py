"""A throw-away PostgreSQL on 127.0.0.1, run as somebody who is not root, which it refuses."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.study.mlflow_stores import eventually, free_port

ACCOUNT = "postgres"  # that the package makes; whoever runs the tests, where that is not root
USER = DATABASE = "mlflow"
PASSWORD = "throw-away"
INSTALL_S = 300


@dataclass(frozen=True)
class Postgres:
    """A running server.

    password_file: in libpq's format; PGPASSFILE names it, as `~/.pgpass` is found without being named.
    """

    port: int
    password_file: Path

    @property
    def host(self) -> str:
        """Host and port, as a URI has them."""
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self) -> str:
        """Its database, password included."""
        return f"postgresql+psycopg2://{USER}:{PASSWORD}@{self.host}/{DATABASE}"


def programs() -> Path:
    """Return the folder of PostgreSQL's programs, installed where they are missing; skip the test where they cannot be.

    Debian does not put them on the path.
    """
    if not _found() and os.geteuid() == 0 and shutil.which("apt-get"):
        command = ["apt-get", "install", "--yes", "--no-install-recommends", "postgresql"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, env=environment, capture_output=True, timeout=INSTALL_S, check=False)
    found = _found()
    if not found:
        pytest.skip("PostgreSQL is not here and could not be installed: apt-get install postgresql")
    return found


@contextlib.contextmanager
def started_postgres(programs: Path) -> Iterator[Postgres]:
    """Run a server with one empty database, behind a password, for as long as the block runs."""
    account = pwd.getpwnam(ACCOUNT) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    # Not pytest's folder: that is closed to every other account.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        root, port = Path(name), free_port()
        os.chown(root, account.pw_uid, account.pw_gid)
        password, data = root / "password", root / "data"
        password.write_text(PASSWORD, encoding="utf-8")
        _own(password, account)
        as_account = {"cwd": root, "user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        if os.geteuid():
            as_account = {"cwd": root}
        make = [programs / "initdb", "--username", USER, "--pwfile", password, "--auth", "scram-sha-256", "--no-sync"]
        subprocess.run([*make, "-D", data], check=True, capture_output=True, **as_account)
        settings = ["listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories="]
        run = [programs / "postgres", "-D", data, *(word for setting in settings for word in ("-c", setting))]
        known = root / "pgpass"
        known.write_text(f"127.0.0.1:{port}:*:{USER}:{PASSWORD}\n", encoding="utf-8")
        known.chmod(0o600)
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(run, stdout=log, stderr=log, **as_account)
        try:
            ask = [programs / "createdb", "--host", "127.0.0.1", "--port", str(port), "--username", USER, DATABASE]
            eventually(lambda: _succeeds(ask, known), timeout_s=60)
            yield Postgres(port, known)
        finally:
            process.send_signal(signal.SIGINT)  # its "fast" shutdown, which waits for no client
            process.wait(60)


def _found() -> Path | None:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    elsewhere = shutil.which("initdb")
    found = places[-1] if places else Path(elsewhere) if elsewhere else None
    return found.parent if found else None


def _own(path: Path, account: pwd.struct_passwd) -> None:
    path.chmod(0o600)
    os.chown(path, account.pw_uid, account.pw_gid)


def _succeeds(command: list[object], password_file: Path) -> bool:
    environment = os.environ | {"PGPASSFILE": str(password_file)}
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0  # type: ignore[call-overload]
