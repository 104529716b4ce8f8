"""Resources of a worker: which nodes have them, which the autoscaler could add, and that no study waits in vain."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.config import strict_yaml
from study.config.sections import ResourcesConfig
from study.execution import cluster, resources
from study.execution.resources import max_concurrent_trials, running_room
from trainables.devices import FALLBACK
from trainables.errors import ConfigError

Nodes = Callable[..., None]


def node(labels: dict[str, str] | None = None, *, alive: bool = True, **amounts: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": amounts, "Labels": labels or {}}


@pytest.fixture
def cluster_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Nodes:
    """Fake a cluster of these nodes; with `launched`, one that `ray up` started from that file."""

    def make(*nodes: dict[str, Any], launched: dict[str, Any] | None = None, autoscaled: bool = False) -> None:
        monkeypatch.setattr(resources.ray, "nodes", lambda: list(nodes))
        monkeypatch.setattr(resources, "_has_autoscaler", lambda: autoscaled or launched is not None)
        monkeypatch.setattr(resources, "BOOTSTRAP_CONFIG", str(tmp_path / "bootstrap.yaml"))
        if launched is not None:
            (tmp_path / "bootstrap.yaml").write_text(strict_yaml.dump(launched))
        resources._cluster_file.cache_clear()

    return make


@pytest.fixture(autouse=True)
def forgotten() -> Any:
    yield
    resources._cluster_file.cache_clear()


GPU_MACHINE = {"CPU": 4, "GPU": 1}
LAUNCHED: dict[str, Any] = {
    "max_workers": 3,
    "head_node_type": "head",
    "available_node_types": {"head": {"resources": {"CPU": 2}}, "gpu": {"resources": GPU_MACHINE, "max_workers": 2}},
}


@pytest.mark.parametrize(
    ("need", "workers", "at_once"),
    [
        ({}, 1, 8),
        ({}, 2, 4),
        ({}, 3, 2),
        ({"cpu": 3}, 1, 2),  # 8 CPUs, but the one that is left on each node is too few for a trial
        ({"cpu": 3}, 2, 1),
        ({"gpu": 0.25}, 1, 4),
        ({"gpu": 1 / 3}, 1, 3),
        ({"custom": {"fast": 1}}, 1, 2),
        ({"custom": {"memory": 4e9}}, 1, 2),
        ({"labels": {"zone": "a"}}, 1, 4),
        ({"labels": {"zone": "!a"}}, 1, 4),
        ({"labels": {"zone": "in(a, b)"}}, 1, 8),
        ({"labels": {"zone": "!in(a,c)"}}, 1, 4),
    ],
)
def test_trials_run_side_by_side_where_nodes_have_room(cluster_of: Nodes, need: Any, workers: int, at_once: int):
    with_gpu = node({"zone": "a"}, CPU=4, GPU=1, memory=9e9)
    cluster_of(with_gpu, node({"zone": "b"}, CPU=4, fast=2), node(alive=False, CPU=64, GPU=8))
    assert max_concurrent_trials(ResourcesConfig(**need), workers) == at_once


@pytest.mark.parametrize(("gpu", "at_once"), [(0.6, 2), (0.4, 4), (0.5, 4), (1 / 3, 6), (1, 2), (2, 1)])
def test_a_fraction_of_a_gpu_is_on_one_gpu(cluster_of: Nodes, gpu: float, at_once: int):
    cluster_of(node(CPU=64, GPU=2))
    assert max_concurrent_trials(ResourcesConfig(gpu=gpu), workers=1) == at_once


@pytest.mark.parametrize(
    ("need", "workers", "message"),
    [
        ({"gpu": 1}, 1, r"^resources: no node has 1 CPU, 1 GPU, and no autoscaler .* is 4 CPU, 0 GPU$"),
        ({"cpu": 5}, 1, r"no node has 5 CPU, .* the most on any node is 4 CPU$"),
        ({"custom": {"fsat": 1}}, 1, r"no node has 1 CPU, 1 fsat, .* 4 CPU, 0 fsat$"),
        ({"labels": {"zone": "c"}}, 1, r"no node has 1 CPU with zone: c, .*; see resources.labels$"),
        ({}, 7, r"^workers = 7 of 1 CPU each need more than the cluster has; it has room for 6, so use fewer$"),
        ({"labels": {"zone": "in a"}}, 1, r"^resources.labels: Invalid label selector value `in a`"),
    ],
)
def test_what_no_node_has_is_refused_in_one_line(cluster_of: Nodes, need: Any, workers: int, message: str):
    cluster_of(node({"zone": "a"}, CPU=4), node({"zone": "b"}, CPU=2))
    with pytest.raises(ConfigError, match=message):
        max_concurrent_trials(ResourcesConfig(**need), workers)


def test_what_the_autoscaler_can_bring_is_waited_for(cluster_of: Nodes, caplog: pytest.LogCaptureFixture):
    cluster_of(node(CPU=2), launched=LAUNCHED)
    assert max_concurrent_trials(ResourcesConfig(gpu=0.25), workers=1) == 4
    assert "no node has 1 CPU, 0.25 GPU yet; waiting for one" in caplog.text
    assert max_concurrent_trials(ResourcesConfig(gpu=1), workers=2) == 1


def test_what_no_kind_of_node_has_is_not_waited_for(cluster_of: Nodes):
    cluster_of(node(CPU=2), launched=LAUNCHED)
    with pytest.raises(ConfigError, match="no node has 1 CPU, 2 GPU, and no autoscaler can add one"):
        max_concurrent_trials(ResourcesConfig(gpu=2), workers=1)
    with pytest.raises(ConfigError, match="no node has 1 CPU, 1 GPU each, and"):
        max_concurrent_trials(ResourcesConfig(gpu=1), workers=3)


def test_a_study_without_shared_storage_does_not_wait_for_machines_that_could_be_added(cluster_of: Nodes):
    cluster_of(node(CPU=2, **{resources.HEAD: 1.0}), launched=LAUNCHED)
    assert max_concurrent_trials(ResourcesConfig(), workers=1) > 2
    assert max_concurrent_trials(ResourcesConfig(), workers=1, may_grow=False) == 2
    with pytest.raises(
        ConfigError, match=r"no node has 1 CPU, 1 GPU, .*; machines that the autoscaler adds .* storage"
    ):
        max_concurrent_trials(ResourcesConfig(gpu=1), workers=1, may_grow=False)


@pytest.mark.parametrize("started", [0, 1, 2])
def test_nodes_that_have_started_are_not_waited_for_again(cluster_of: Nodes, started: int):
    head = node(CPU=2, **{resources.HEAD: 1.0})
    cluster_of(head, *[node(**GPU_MACHINE) for _ in range(started)], launched=LAUNCHED)
    assert max_concurrent_trials(ResourcesConfig(gpu=1), workers=1) == 2
    with pytest.raises(ConfigError, match="1 CPU, 1 GPU each"):
        max_concurrent_trials(ResourcesConfig(gpu=1), workers=3)


def test_nodes_of_unknown_resources_are_waited_for_until_all_have_started(cluster_of: Nodes):
    unseen = LAUNCHED | {"max_workers": 1, "available_node_types": {"own": {"resources": {}}}}
    cluster_of(node(CPU=2), launched=unseen)
    assert max_concurrent_trials(ResourcesConfig(gpu=1), workers=1) == resources.MAX_PENDING_GROUPS
    cluster_of(node(CPU=2), node(CPU=2), launched=unseen)
    with pytest.raises(ConfigError, match="no autoscaler can add one"):
        max_concurrent_trials(ResourcesConfig(gpu=1), workers=1)


def test_an_autoscaler_whose_nodes_are_unknown_is_trusted(cluster_of: Nodes):
    cluster_of(node(), autoscaled=True)
    assert max_concurrent_trials(ResourcesConfig(gpu=1), workers=2) == resources.MAX_PENDING_GROUPS


@pytest.mark.parametrize(
    ("status", "second", "autoscaled"),
    [
        (b'{"autoscaler_report": {"active_nodes": {"head": 1}}}', False, True),
        (b'{"autoscaler_report": {"active_nodes": {"node_%b": 1}}}' % (b"2a7efdcb" * 7), False, False),
        (b'{"autoscaler_report": null}', False, False),
        (None, False, False),
        (None, True, True),
    ],
)
def test_an_autoscaler_is_known_by_the_names_of_its_kinds_of_nodes(
    monkeypatch: pytest.MonkeyPatch, status: bytes | None, second: bool, autoscaled: bool
):
    monkeypatch.setattr(resources, "_internal_kv_get", lambda key: status)
    monkeypatch.setattr(resources, "is_autoscaler_v2", lambda: second)
    assert resources._has_autoscaler() == autoscaled


def test_a_time_budget_counts_on_the_nodes_that_run_already(cluster_of: Nodes):
    cluster_of(node(CPU=8), node(CPU=3), node(CPU=8, alive=False), launched=LAUNCHED)
    assert running_room(ResourcesConfig(cpu=2)) == 5
    with pytest.raises(
        ConfigError, match=r"budget_hours: no node .* that runs now has 1 CPU, 1 GPU, .* \(--hours\) out"
    ):
        running_room(ResourcesConfig(gpu=1))


def test_a_local_ray_has_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch):
    given: dict[str, Any] = {}
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster, "check_environment", lambda: None)
    monkeypatch.setattr(cluster, "n_cores", lambda: 3)
    monkeypatch.setattr(cluster, "_start_local", lambda **options: given.update(options))
    cluster.connect()
    assert given["num_cpus"] == 3
    cluster.connect(cpus=2)
    assert given["num_cpus"] == 2


def test_a_local_ray_on_a_mac_counts_its_gpu_and_lets_pytorch_fall_back_to_the_cpu(monkeypatch: pytest.MonkeyPatch):
    given: dict[str, Any] = {}
    monkeypatch.setenv(FALLBACK[0], "")
    monkeypatch.delenv(FALLBACK[0])
    monkeypatch.setattr(cluster, "has_mps", lambda: True)
    monkeypatch.setattr(cluster, "_hide_token", lambda: None)
    monkeypatch.setattr(cluster.ray, "init", lambda **options: given.update(options))
    cluster._start_local(num_cpus=2)
    assert given["resources"] == {"mps": 1}
    assert os.environ[FALLBACK[0]] == "1"
