"""A study on several nodes: data reach each once, trials land where they should, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray
from ray._private.internal_api import node_stats
from ray._private.node import Node
from ray.cluster_utils import Cluster

from analysis.records import FINISHED, STOPPED, Report, TrialEnded
from study.execution import cluster
from tests.acceptance.nodes import LOOPBACK, hosts, worker_node
from tests.acceptance.studies import PATIENCE_S, DriverProcess, crowding
from tests.study.executed_studies import BEST_FIRST, Study, assert_recorded_once_and_in_order
from tests.study.studies import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TRIAL = "ray::ImplicitFunc"  # the name of the process of a trial


@contextmanager
def connected(head: Cluster) -> Iterator[None]:
    """Be a driver on the cluster for as long as the block runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", head.address)
        cluster.connect()
    try:
        yield
    finally:
        ray.shutdown()


def test_data_reach_every_node_once_and_every_node_works(head: Cluster, tmp_path: Path):
    nodes = [head.add_node(num_cpus=cpus, **LOOPBACK) for cpus in (2, 1, 1)]  # two trials share one copy
    search = {"algorithm": "random", "scheduler": "none", "num_samples": 8}
    with connected(head):
        ran = Study(tmp_path / "study", tiny(max_train=4000, search=search, storage=str(tmp_path / "shared")))
        worked = working(ran, nodes)
        ran.executor.search("rotation")
        data = ran.executor.shared.datasets["shapes"]
        (found,) = ray.experimental.get_object_locations([data]).values()
        held = {node["NodeID"]: bytes_held(node) for node in ray.nodes()}
    assert [record.status for record in ran.searched()] == [FINISHED] * 8
    for record in ran.searched():
        assert_recorded_once_and_in_order(ran, record)
    assert worked == {node.unique_id for node in nodes}
    assert sorted(found["node_ids"]) == sorted(held)
    size = found["object_size"]
    assert size > 2**20
    assert {key: round(amount / size, 1) for key, amount in held.items()} == dict.fromkeys(held, 1.0)


def working(ran: Study, nodes: list[Node]) -> set[str]:
    """Return the ids of the nodes on which trials run, to which every event of the study adds."""
    found: set[str] = set()
    ran.journal.listeners.append(lambda event: found.update(node.unique_id for node in hosts(TRIAL, nodes)))
    return found


def bytes_held(node: dict) -> int:
    """Return the bytes in a node's object store."""
    stats = node_stats(node["NodeManagerAddress"], node["NodeManagerPort"], include_memory_info=False)
    return stats.store_stats.object_store_bytes_used


def test_trials_go_to_the_nodes_that_their_resources_and_labels_name(head: Cluster, tmp_path: Path):
    plain = head.add_node(num_cpus=4, resources={"fast": 1}, labels={"zone": "a"}, **LOOPBACK)
    wanted = head.add_node(num_cpus=2, resources={"fast": 1}, labels={"zone": "b"}, **LOOPBACK)
    search = {"algorithm": "random", "scheduler": "none", "num_samples": 3}
    resources = {"custom": {"fast": 0.5}, "labels": {"zone": "!a"}}
    with connected(head):
        ran = Study(tmp_path / "study", tiny(search=search, resources=resources, storage=str(tmp_path / "shared")))
        worked = working(ran, [plain, wanted])
        ran.executor.search("rotation")
    assert [record.status for record in ran.searched()] == [FINISHED] * 3
    assert worked == {wanted.unique_id}


def test_a_node_that_comes_and_does_not_reach_the_storage_ends_the_study_in_one_line(head: Cluster, tmp_path: Path):
    worker_node(head)
    search = {"algorithm": "random", "scheduler": "none", "num_samples": 40}  # more than it takes the node to come
    config = tiny(budget_steps=600, search=search, storage=str(tmp_path / "shared"), max_failures=2)
    study = DriverProcess(tmp_path, config, {"RAY_ADDRESS": head.address})
    (tmp_path / "shared").mkdir()
    with study.running() as process:
        study.wait_for(process, lambda events: any(isinstance(event, Report) for event in events))
        with node_with_a_disk_of_its_own(head, tmp_path / "shared"):
            assert process.wait(PATIENCE_S * crowding()) == 2, study.log()
    (line,) = [line for line in study.log().splitlines() if line.startswith("error:")]
    assert f"storage: {tmp_path}/shared/" in line
    assert "on node 127.0.0.1 is not the folder that the study writes to; name one that all nodes reach" in line
    ended = [event for event in study.events() if isinstance(event, TrialEnded)]
    assert {event.status for event in ended} <= {FINISHED}


# The `ray` command, but that it would turn 127.0.0.1 into this machine's outward address, where the head is not.
RAY_AT_LOOPBACK = (
    "from ray._private import services; services.resolve_ip_for_localhost = str; "
    "from ray.scripts.scripts import main; main()"
)


@contextmanager
def node_with_a_disk_of_its_own(head: Cluster, folder: Path) -> Iterator[None]:
    """Add a node with one CPU that has a disk of its own where the others share `folder`."""
    start = f"mount -t tmpfs own {folder} && exec {sys.executable} -c '{RAY_AT_LOOPBACK}' start"
    start += f" --address={head.address} --num-cpus=1 --node-ip-address={LOOPBACK['node_ip_address']} --block"
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("only root can give a node a disk of its own")
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", start], start_new_session=True, env=os.environ | {"RAY_AUTH_MODE": "token"}
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def test_worker_groups_that_are_stopped_give_everything_back_and_a_full_cluster_goes_on(head: Cluster, tmp_path: Path):
    for _ in range(2):
        head.add_node(num_cpus=2, **LOOPBACK)
    search = {"algorithm": "grid", "scheduler": "asha", "reduction_factor": 4, "grace_period": 3, "space": BEST_FIRST}
    changes = {"workers": 2, "budget_steps": 9, "search": search | {"metric": "val/loss"}}
    with connected(head):
        ran = Study(tmp_path / "study", tiny(storage=str(tmp_path / "shared"), **changes))
        ran.executor.search("rotation")
        # A stopped group's CPUs come back a little later than the news of its end.
        deadline = time.monotonic() + PATIENCE_S * crowding()
        while time.monotonic() < deadline and (groups_held() or ray.available_resources().get("CPU") != 4):
            time.sleep(1)
        assert groups_held() == []
        assert ray.available_resources()["CPU"] == 4
    assert {record.status for record in ran.searched()} == {FINISHED, STOPPED}
    for record in ran.searched():  # a group trains ahead of its reports: what it had saved at its last one may be gone
        assert ran.steps(record.trial.trial_id) == list(range(0, record.step + 1, 3))


def groups_held() -> list[str]:
    return [key for key, group in ray.util.placement_group_table().items() if group["state"] == "CREATED"]
