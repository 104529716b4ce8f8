"""The local cluster is unreachable from other machines, and on this one without the token."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
import ray
from ray._private import ray_constants

from study.execution import cluster
from tests.conftest import REPOSITORY

pytestmark = pytest.mark.usefixtures("local_ray")


def listening() -> dict[str, list[str]]:
    """Return the addresses on which this process and its descendants accept connections, by process name."""
    import psutil  # comes with Ray, which makes it importable

    mine = psutil.Process()
    found: dict[str, list[str]] = {}
    for process in [mine, *mine.children(recursive=True)]:
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.setdefault(process.name(), []).append(connection.laddr.ip)
    return found


def is_loopback(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback  # ::ffff:127.0.0.1 is 127.0.0.1


def test_every_socket_of_the_cluster_listens_on_this_machine_alone():
    addresses = listening()
    assert {"gcs_server", "raylet"} <= set(addresses)
    assert {(name, ip) for name, ips in addresses.items() for ip in ips if not is_loopback(ip)} == set()


@pytest.mark.skipif(sys.platform != "linux", reason="Ray itself needs them in the driver's group elsewhere")
def test_no_signal_to_the_drivers_process_group_reaches_the_servers_or_what_they_start():
    import psutil

    node = ray._private.worker._global_node
    servers = [psutil.Process(info.process.pid) for infos in node.all_processes.values() for info in infos]
    assert {"gcs_server", "raylet"} <= {server.name() for server in servers}
    started = [each for server in servers for each in [server, *server.children(recursive=True)]]
    assert [each.name() for each in started if os.getpgid(each.pid) == os.getpgrp()] == []


JOIN = """
import ray
from study.execution import cluster
cluster.connect()
print(ray.get_runtime_context().gcs_address)
"""


def test_another_program_joins_it_at_the_address_that_it_has_on_this_machine():
    address = ray.get_runtime_context().gcs_address
    environment = os.environ | {"RAY_ADDRESS": address}
    joined = subprocess.run(
        [sys.executable, "-c", JOIN], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120
    )
    assert joined.returncode == 0, joined.stderr
    assert joined.stdout.strip() == address


def test_a_local_cluster_leaves_nothing_behind_that_keeps_this_process_from_a_real_one():
    assert ray_constants.ENABLE_RAY_CLUSTER
    assert ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR not in os.environ  # `ray start` refuses to join one where it is 0


def ask_for_nodes(token: str | None) -> grpc.StatusCode:
    """Request the list of nodes from the cluster's head, as any program on this machine could; return the status."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(ray.get_runtime_context().gcs_address) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        try:
            ask(b"", timeout=20, metadata=metadata, wait_for_ready=True)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_only_requests_with_the_token_are_answered():
    token = os.environ.get("RAY_AUTH_TOKEN") or (Path.home() / ".ray" / "auth_token").read_text().strip()
    assert ask_for_nodes(token) == grpc.StatusCode.OK
    assert ask_for_nodes(None) == grpc.StatusCode.UNAUTHENTICATED
    assert ask_for_nodes("guessed") == grpc.StatusCode.UNAUTHENTICATED


def test_connecting_again_stays_with_the_cluster_that_there_is():
    address = ray.get_runtime_context().gcs_address
    cluster.connect()
    assert ray.get_runtime_context().gcs_address == address
    assert not cluster.is_multi_node()
    assert ray.cluster_resources()["CPU"] == 2


def test_the_driver_keeps_its_own_sigterm_handler():
    assert signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.default_int_handler)
