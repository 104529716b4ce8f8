"""Connection to Ray: an existing cluster, or a local one that only this user can reach."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray._private.worker
from ray._common.network_utils import is_localhost, parse_address
from ray._private import ray_constants, services
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.exceptions import LocalRayletDiedError, RayError, RaySystemError, RpcError
from ray.tune.execution.tune_controller import TuneController

from study.execution.environment import check_environment, unreachable
from trainables.devices import FALLBACK, MPS_RESOURCE, has_mps
from trainables.errors import ClusterError, ConfigError, first_line, printable
from trainables.ray_adapter.cores import n_cores

LOSS_ERRORS = (ConnectionError, LocalRayletDiedError, RaySystemError, RpcError)  # raised when the cluster is lost
RESUME_HINT = "once it runs again, the same command resumes where this stopped"
SHUTDOWN_PATIENCE_S = 5.0  # seconds to wait for Ray to shut down
HEARTBEAT_S, MAX_MISSED = 5.0, 4  # their product is less than the minute after which Ray ends the process

logger = logging.getLogger(__name__)
logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # it warns that authentication is on


def connect(cpus: int | None = None, *, dashboard: bool = False) -> None:
    """Connect to the cluster named by RAY_ADDRESS or `ray start` (as under `ray submit`), or start a local one.

    A local cluster listens on 127.0.0.1 only and requires the token that Ray creates for local clusters. If Ray is
    already connected, nothing happens.

    Args:
        cpus: CPUs of a local cluster; None for all that this process may use.
        dashboard: Whether to start the dashboard. Ray Train asks it whether the driver of a worker group is alive;
            without it, the resources of a stopped or killed driver's group are never released.

    Raises:
        ConfigError: The named cluster does not answer, or Ray cannot start on this machine.
    """
    if ray.is_initialized():
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING, "configure_logging": True}
    address = check_environment()
    with _preserved_sigterm():
        if address is None:
            _start_local(num_cpus=cpus or n_cores(), include_dashboard=dashboard, **options)
            return
        if ray_constants.RAY_ADDRESS_ENVIRONMENT_VARIABLE not in os.environ:
            # A cluster of `ray start` may require a token, which Ray sends by itself only for the address "auto".
            maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
        try:
            with _on_loopback() if _is_loopback_only(address) else contextlib.nullcontext():
                ray.init(address=address, **options)
        except (ConnectionError, RuntimeError, RayError) as error:  # without a token it raises the last two
            raise unreachable(address) from error


def _start_local(**options: Any) -> None:
    if has_mps():  # Ray counts only GPUs of other makers
        os.environ.setdefault(*FALLBACK)  # for the workers, which inherit it
        options["resources"] = {MPS_RESOURCE: 1}
    try:
        with _on_loopback(), _separate_process_groups():
            ray.init(address="local", **options)
    except Exception as error:  # a node that takes too long to start, as on a busy machine, raises a bare Exception
        raise ConfigError(
            f"Ray cannot start on this machine: {printable(first_line(error))}; `ray start --head` may tell more"
        ) from error
    _hide_token()
    logger.info("started a local Ray cluster on 127.0.0.1")


def shutdown(timeout_s: float) -> bool:
    """Disconnect from Ray, and stop a local cluster; return whether Ray finished within the timeout.

    Slurm and systemd signal every process of a job, which also ends the servers of a local cluster. Ray then waits a
    minute for them; after the timeout, their processes are killed instead.
    """
    thread = threading.Thread(target=ray.shutdown, name="ray-shutdown", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive() and (node := ray._private.worker._global_node) is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)
    return not thread.is_alive()


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Stop Ray at the end of this block if it was not connected before; otherwise end the trials of an interrupt."""
    connected = ray.is_initialized()
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if connected:
            _end_trials(interrupt)
        raise
    finally:
        if not connected:
            shutdown(SHUTDOWN_PATIENCE_S)


def _end_trials(interrupt: KeyboardInterrupt) -> None:
    """Kill the trials of an interrupted experiment and free what they have reserved, as Tune does after an error.

    Only the frames that the interrupt has left refer to the experiment. Without this, its trials would continue in the
    cluster.
    """
    for frame, _ in traceback.walk_tb(interrupt.__traceback__):
        if isinstance(controller := frame.f_locals.get("runner"), TuneController):
            controller._actor_manager.cleanup()


def is_running() -> bool:
    """Return whether `connect` uses a cluster that runs already, instead of starting a local one.

    Raises:
        ConfigError: See `check_environment`.
    """
    return ray.is_initialized() or check_environment() is not None


def is_multi_node() -> bool:
    """Return whether more than one node is alive."""
    return sum(node["Alive"] for node in ray.nodes()) > 1


def is_private() -> bool:
    """Return whether this process has started the cluster, so that all its nodes are this machine."""
    node = ray._private.worker._global_node
    return node is not None and node.is_head()


@contextlib.contextmanager
def guard_cluster_loss() -> Iterator[None]:
    """Raise ClusterError if the cluster is lost inside this block, and log an error while Ray waits for its return.

    Ray waits a minute for a lost head node and then ends the whole process, without any Python exception.
    """
    done = threading.Event()
    if ray.is_initialized():
        address = ray.get_runtime_context().gcs_address
        threading.Thread(target=_watch, args=(address, done), daemon=True, name="cluster-watch").start()
    try:
        yield
    except LOSS_ERRORS as error:
        raise ClusterError(f"the Ray cluster was lost ({printable(first_line(error)[:200])}); {RESUME_HINT}") from error
    finally:
        done.set()


def _watch(address: str, done: threading.Event) -> None:
    """Log one error once the cluster's head has missed MAX_MISSED heartbeats in a row, unless `done` is set first."""
    host, _, port = address.rpartition(":")
    missed = 0
    while missed < MAX_MISSED and not done.wait(HEARTBEAT_S):
        missed = 0 if _accepts_connections(host, int(port)) else missed + 1
    if not done.is_set():
        logger.error("the Ray cluster at %s no longer answers, and Ray will soon give up; %s", address, RESUME_HINT)


def _accepts_connections(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=HEARTBEAT_S).close()
    except OSError:
        return False
    return True


def _is_loopback_only(address: str) -> bool:
    """Return whether a named cluster is reachable from this machine only, like a local cluster of `connect`."""
    host, port = parse_address(address) or ("", "")
    if not (is_localhost(host) and port.isdecimal() and _accepts_connections(host, int(port))):
        return False
    return not _accepts_connections(services.get_node_ip_address(), int(port))


@contextlib.contextmanager
def _separate_process_groups() -> Iterator[None]:
    """Start Ray's servers in separate process groups, so that signals to the driver's group do not reach them.

    `timeout`, for example, sends SIGTERM to its whole group. Ray ends a driver that has lost its servers, with exit
    code 1 and before any cleanup. On Linux the kernel still ends the servers with the driver; elsewhere Ray does so
    through the driver's process group, which they therefore must not leave.
    """
    start = services.ConsolePopen
    if sys.platform == "linux":
        services.ConsolePopen = functools.partial(start, process_group=0)  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        services.ConsolePopen = start  # type: ignore[misc]


@contextlib.contextmanager
def _preserved_sigterm() -> Iterator[None]:
    """Restore the SIGTERM handler that `ray.init` replaces; Ray's handler would abort the driver before its cleanup."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _hide_token() -> None:
    """Make the token that Ray created readable by this user only: with it, anybody could run code as this user."""
    with contextlib.suppress(OSError, RuntimeError):  # the token may come from the environment, without a home folder
        (Path.home() / ".ray" / "auth_token").chmod(0o600)


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Make Ray use 127.0.0.1 as this machine's address, for the node that it starts or looks for inside this block.

    Otherwise Ray replaces 127.0.0.1 with the outward address. The setting is meant for systems on which Ray does not
    support clusters, but suits a local cluster on any system. Ray reads the variable at import, so the module's
    constant is changed, too. The node's processes inherit the variable; a later `ray start` from the same notebook must
    not.
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
