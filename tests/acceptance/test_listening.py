"""A study lets nobody in: what it starts listens on 127.0.0.1 alone and answers nobody without Ray's token."""

from __future__ import annotations

import http.client
import ipaddress
import os
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import psutil
import pytest

from analysis.records import TrialStarted
from tests.acceptance.studies import DriverProcess, kill
from tests.study.studies import tiny

pytestmark = [pytest.mark.core, pytest.mark.slow, pytest.mark.timeout(600)]  # a study with its own Ray

# A question to each kind of server that Ray starts, harmless where it is answered.
QUESTIONS = {
    "gcs_server": "/ray.rpc.NodeInfoGcsService/GetClusterId",
    "raylet": "/ray.rpc.NodeManagerService/GetNodeStats",
    "worker": "/ray.rpc.CoreWorkerService/GetCoreWorkerStats",
}


class Listener(NamedTuple):
    """A socket that waits for others, and whose it is."""

    process: str
    address: str
    port: int


class Running(NamedTuple):
    """A study's driver with a Ray of its own, while it trains."""

    listeners: list[Listener]
    token_file: Path


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("listening")
    config = tiny(budget_steps=100_000, report_every=5, search={"num_samples": 2})
    environment = {"RAY_ADDRESS": "local", "HOME": str(root)}  # where Ray keeps the token that it makes
    study = DriverProcess(root, config, environment)
    process = study.start()
    try:
        study.wait_for(process, lambda events: any(isinstance(event, TrialStarted) for event in events))
        processes = [psutil.Process(process.pid)]
        processes += processes[0].children(recursive=True)
        yield Running([each for one in processes for each in listeners_of(one)], root / ".ray" / "auth_token")
    finally:
        kill(process)


def listeners_of(process: psutil.Process) -> list[Listener]:
    try:
        found = process.net_connections("inet")
        return [
            Listener(process.name(), each.laddr.ip, each.laddr.port)
            for each in found
            if each.laddr and (each.status == psutil.CONN_LISTEN or (not each.raddr and each.status == "NONE"))
        ]
    except psutil.NoSuchProcess:  # a worker that has just ended
        return []


def grpc_status(port: int, question: str, token: str | None = None) -> str:
    """Ask a server of Ray and return the name of the status it answers with."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(question, request_serializer=bytes, response_deserializer=bytes)
        try:
            ask(b"", metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def http_status(port: int, path: str) -> int | None:
    """Return the status that a server answers a GET with; None where it does not speak HTTP."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return None


def is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


@pytest.mark.timeout(600)
def test_everything_listens_on_the_loopback_address_alone(running: Running):
    kinds = {listener.process for listener in running.listeners}
    assert {"gcs_server", "raylet"} <= kinds, "Ray's own servers were not found"
    assert [listener for listener in running.listeners if not is_loopback(listener.address)] == []


@pytest.mark.timeout(600)
def test_no_server_of_ray_answers_without_the_token(running: Running):
    token = running.token_file.read_text()
    known = dict.fromkeys(QUESTIONS, 0)
    for listener in running.listeners:
        for kind, question in QUESTIONS.items():
            if grpc_status(listener.port, question, token) != "OK":
                continue  # no server of this kind
            known[kind] += 1
            assert grpc_status(listener.port, question) == "UNAUTHENTICATED", listener
            assert grpc_status(listener.port, question, "0" * len(token)) == "UNAUTHENTICATED", listener
    assert min(known.values()) >= 1, known


@pytest.mark.timeout(600)
def test_over_http_nothing_but_metrics_is_told_without_the_token(running: Running):
    """Jobs, logs and runtime environments are ways to run code or read what others wrote."""
    answered = {listener: http_status(listener.port, "/api/jobs/") for listener in running.listeners}
    assert 401 in answered.values()
    for listener, status in answered.items():
        if status == 200:  # a Prometheus exporter answers every path with numbers
            with urllib.request.urlopen(f"http://127.0.0.1:{listener.port}/api/jobs/", timeout=30) as response:
                assert response.read(7) == b"# HELP ", listener


@pytest.mark.timeout(600)
def test_the_token_is_the_users_alone(running: Running):
    mode = running.token_file.stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    assert running.token_file.stat().st_uid == os.getuid()
