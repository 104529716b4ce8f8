"""What Ray needs from this machine and its environment variables, checked before Ray starts.

Ray itself fails late here: with a traceback, or after minutes of waiting.
"""

from __future__ import annotations

import os
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import grpc
from ray._common.network_utils import parse_address
from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants, services

from trainables.errors import ConfigError, first_line, printable

ANSWER_TIMEOUT_S = 5.0  # seconds a cluster has to answer
SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107  # the longest path of a Unix socket
_LIST_NODES = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
_NO_CLUSTER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNIMPLEMENTED)


def check_environment() -> str | None:
    """Check that Ray can start or be reached from here.

    Returns:
        Address HOST:PORT of the cluster that RAY_ADDRESS or `ray start` names; None if a local one is to be started.

    Raises:
        ConfigError: The named cluster does not answer, or a folder that a local one needs cannot be used.
    """
    address = _cluster_address()
    if address is None:
        _check_temporary_folder()
        _check_token_folder()
    elif "://" not in address:  # the addresses of Ray Client have their own protocol
        _check_answers(address)
    return address


def unreachable(address: str) -> ConfigError:
    """Return the error of a cluster that does not answer."""
    return ConfigError(
        f"no Ray cluster answers at {printable(address)}; start it (and set RAY_AUTH_MODE=token here too, if it "
        "requires a token), or unset RAY_ADDRESS and run `ray stop` to use this machine alone"
    )


def _cluster_address() -> str | None:
    """Return the address of the named cluster; None for a local one.

    `ray.init("auto")` would also join another program's private cluster on this machine, and end with it.
    """
    try:
        address = services.get_ray_address_from_environment(None, None)  # type: ignore[arg-type]  # None is documented
    except ConnectionError as error:
        raise ConfigError(
            "RAY_ADDRESS=auto: no Ray cluster runs on this machine; start one with `ray start --head`, or unset "
            "RAY_ADDRESS to let the study start its own"
        ) from error
    except OSError:  # its folder of temporary files cannot be read, so no cluster was started there
        return None
    return None if address == "local" else address


def _check_answers(address: str) -> None:
    """Raise ConfigError unless a Ray cluster answers at HOST:PORT, with or without accepting this driver's token."""
    port = (parse_address(address) or ("", ""))[1]
    if not (port.isdecimal() and 0 < int(port) < 1 << 16):
        name = ray_constants.RAY_ADDRESS_ENVIRONMENT_VARIABLE
        raise ConfigError(f"{name}={printable(address)}: must be HOST:PORT, for example 127.0.0.1:6379; or unset it")
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(_LIST_NODES)(b"", timeout=ANSWER_TIMEOUT_S)
        except grpc.RpcError as error:
            if error.code() in _NO_CLUSTER:
                raise unreachable(address) from error


def _check_temporary_folder() -> None:
    """Raise ConfigError unless Ray can write to its temporary folder and make sockets below it."""
    folder = Path(get_default_ray_temp_dir())
    source = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "")
    where = f"{source}={printable(os.environ[source])}" if source else str(folder.parent)
    advice = "set RAY_TMPDIR to a folder with a short path that you can write to, for example RAY_TMPDIR=/tmp"
    session = f"session_{datetime.now():%Y-%m-%d_%H-%M-%S_%f}_{os.getpid()}"
    length = len(os.fsencode(folder / session / "sockets" / "plasma_store"))
    if length > SOCKET_PATH_BYTES:
        raise ConfigError(
            f"{where}: {length - SOCKET_PATH_BYTES} bytes too long for Ray, whose sockets have paths of at most "
            f"{SOCKET_PATH_BYTES} bytes; {advice}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=folder).cleanup()
    except OSError as error:
        raise ConfigError(f"{where}: Ray cannot write temporary files there ({_problem(error)}); {advice}") from error
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise ConfigError(
            f"no folder for temporary files can be written to ({_problem(error)}); set TMPDIR to one that can"
        ) from error


def _check_token_folder() -> None:
    """Raise ConfigError unless Ray finds the token of local clusters, or can make one in the home folder."""
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    token = Path.home() / ".ray" / "auth_token"
    try:
        if token.exists():
            token.read_bytes()
        else:
            token.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryDirectory(dir=token.parent).cleanup()
    except OSError as error:
        raise ConfigError(
            f"HOME={printable(str(Path.home()))}: Ray cannot keep the token of its local clusters there "
            f"({_problem(error)}); set HOME to a folder that you can write to, for example HOME=/tmp/home"
        ) from error


def _problem(error: OSError) -> str:
    return (error.strerror or first_line(error)).lower()
