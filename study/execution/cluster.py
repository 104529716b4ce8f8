"""The one way into Ray: the cluster that is there, or a local one that nobody else can reach."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray._private.worker
from ray._common.network_utils import is_localhost, parse_address
from ray._private import ray_constants, services
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.exceptions import LocalRayletDiedError, RaySystemError, RpcError

from trainables.errors import ClusterError, ConfigError, printable

LOST = (ConnectionError, LocalRayletDiedError, RaySystemError, RpcError)  # what Ray raises on a driver that is alone
GO_ON = "once it runs again, the same command goes on where this stopped"
PULSE_S, MISSED = 5.0, 4  # within the minute that Ray waits

logger = logging.getLogger(__name__)
logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # its warning: authentication is on


def connect(cpus: int | None = None, *, dashboard: bool = False) -> None:
    """Connect to the cluster that RAY_ADDRESS or `ray start` names (`ray submit` runs there), else start a local one.

    The local one listens on 127.0.0.1 alone, with the token authentication that Ray switches on for local clusters.
    Does nothing where Ray is already connected.

    cpus: CPUs of a local cluster; None for all of this machine's.
    dashboard: start it too. Ray Train asks it whether the driver of a worker group lives: without it, what a stopped
        or killed one had reserved is never given back.
    Raises ConfigError where the named cluster does not answer.
    """
    if ray.is_initialized():
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING, "configure_logging": True}
    # `ray.init("auto")` would also join the private cluster of any other program on this machine, and end with it.
    address = services.get_ray_address_from_environment(None, None)  # type: ignore[arg-type]  # None is what it documents
    with _own_sigterm():
        if address in (None, "local"):
            with _on_loopback(), _in_groups_of_their_own():
                ray.init(address="local", num_cpus=cpus, include_dashboard=dashboard, **options)
            _hide_token()
            logger.info("started a local Ray cluster on 127.0.0.1")
            return
        if ray_constants.RAY_ADDRESS_ENVIRONMENT_VARIABLE not in os.environ:
            # `ray start` has asked for a token where there is one; Ray itself offers it to the address "auto" alone.
            maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        try:
            with _on_loopback() if _answers_on_loopback_alone(address) else contextlib.nullcontext():
                ray.init(address=address, **options)
        except ConnectionError as error:
            raise ConfigError(
                f"no Ray cluster answers at {address}; start it (with RAY_AUTH_MODE=token here too, where it asks for "
                "a token), or unset RAY_ADDRESS and type `ray stop` to run on this machine alone"
            ) from error


def shutdown(within_s: float) -> bool:
    """Disconnect, and stop a local Ray; return whether that was done within so many seconds.

    A signal to every process of a job, as Slurm and systemd send it, ends the servers of a local Ray too, for which Ray
    itself then waits a minute.
    """
    leaving = threading.Thread(target=ray.shutdown, name="leaving Ray", daemon=True)
    leaving.start()
    leaving.join(within_s)
    if leaving.is_alive() and (node := ray._private.worker._global_node) is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    return not leaving.is_alive()


def is_multi_node() -> bool:
    """Return whether more than one node is alive."""
    return sum(node["Alive"] for node in ray.nodes()) > 1


@contextlib.contextmanager
def guard_cluster_loss() -> Iterator[None]:
    """Turn the loss of the cluster meanwhile into a ClusterError, and say so where Ray only waits for it to come back.

    A minute after it has lost its head, Ray ends the whole process from within, and Python never hears of it.
    """
    over = threading.Event()
    if ray.is_initialized():
        address = ray.get_runtime_context().gcs_address
        threading.Thread(target=_watch, args=(address, over), daemon=True, name="cluster-watch").start()
    try:
        yield
    except LOST as error:
        raise ClusterError(
            f"the Ray cluster was lost ({printable(str(error).split(chr(10))[0][:200])}); {GO_ON}"
        ) from error
    finally:
        over.set()


def _watch(address: str, over: threading.Event) -> None:
    """Say once when the cluster's head has not answered several times, until `over`."""
    host, _, port = address.rpartition(":")
    missed = 0
    while missed < MISSED and not over.wait(PULSE_S):
        missed = 0 if _answers(host, int(port)) else missed + 1
    if not over.is_set():
        logger.error("the Ray cluster at %s does not answer any more, and Ray gives up soon; %s", address, GO_ON)


def _answers(host: str, port: int) -> bool:
    """Return whether something accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=PULSE_S).close()
    except OSError:
        return False
    return True


def _answers_on_loopback_alone(address: str) -> bool:
    """Return whether a named cluster is one that only this machine can reach, as a local one of `connect` is."""
    host, port = parse_address(address) or ("", "")
    if not (is_localhost(host) and port.isdecimal() and _answers(host, int(port))):
        return False
    return not _answers(services.get_node_ip_address(), int(port))


@contextlib.contextmanager
def _in_groups_of_their_own() -> Iterator[None]:
    """Let the servers that Ray starts meanwhile lead process groups of their own: signals to the driver's miss them.

    `timeout`, for one, sends SIGTERM to its whole group. A driver that finds itself without its servers is ended by Ray
    from within, with exit code 1, before it has tidied up. The servers die with the driver all the same: Linux sees to
    that. Elsewhere Ray does so by the driver's group, which they must not leave.
    """
    start = services.ConsolePopen
    if sys.platform == "linux":
        services.ConsolePopen = functools.partial(start, process_group=0)  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        services.ConsolePopen = start  # type: ignore[misc]


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Give SIGTERM back to who had it: connecting to Ray takes it, and a driver would abort where it is to tidy up."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _hide_token() -> None:
    """Let nobody else on this machine read the token that Ray has made, with which they could run code as this user."""
    with contextlib.suppress(FileNotFoundError, PermissionError):  # the token may come from elsewhere
        (Path.home() / ".ray" / "auth_token").chmod(0o600)


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Make Ray take 127.0.0.1 for the address of this machine meanwhile, for the node that it starts or looks for.

    Otherwise it turns that, wherever it stands, into the outward address. What Ray does on systems where it supports no
    clusters is just what a local one needs everywhere; it reads the variable when it is imported. The processes of a
    node inherit that; `ray start`, typed later from the same notebook, must not.
    """
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before = os.environ.get(name), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        del os.environ[name]
        if before[0] is not None:
            os.environ[name] = before[0]
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
