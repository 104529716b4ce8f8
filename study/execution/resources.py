"""Resources of one worker, and whether the cluster has them or its autoscaler can add them."""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._private.label_utils import validate_label_selector
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get

from study.config import strict_yaml
from study.config.schema import StudyConfig
from study.config.sections import ResourcesConfig
from study.plan.sharing import n_sharing
from trainables.errors import ConfigError

BOOTSTRAP_CONFIG = "~/ray_bootstrap_config.yaml"  # where `ray up` stores the cluster's file on the head node
HEAD = "node:__internal_head__"  # resource by which Ray marks the head node
NODE_ID = re.compile("node_[0-9a-f]{56}")
NO_STORAGE = (
    "machines that the autoscaler adds are used only with storage that all of them reach, for example "
    "--set storage=s3://BUCKET/studies"
)
MAX_PENDING_GROUPS = 4  # worker groups that may wait at once for nodes that have not started yet

logger = logging.getLogger(__name__)


def of_worker(need: ResourcesConfig) -> dict[str, float]:
    """Return the resources that one worker needs, by Ray's names for them."""
    amounts = {"CPU": need.cpu, "GPU": need.gpu, **need.custom}
    return {name: float(amount) for name, amount in amounts.items() if amount}


def max_concurrent_trials(need: ResourcesConfig, workers: int, *, may_grow: bool = True) -> int:
    """Return how many trials may run at once on the cluster; at least one, or an error is raised.

    Args:
        need: Resources of one worker.
        workers: Workers per trial.
        may_grow: Whether the study may use nodes that the autoscaler adds, which needs shared storage.

    Raises:
        ConfigError: No node has the resources of a worker, or all nodes together have room for fewer than `workers`,
            and the autoscaler cannot add enough.
    """
    if problem := validate_label_selector(need.labels):
        raise ConfigError(f"resources.labels: {problem}")
    alive = [node for node in ray.nodes() if node["Alive"]]
    running, pending = _room(need, alive), 0
    if may_grow and _has_autoscaler():
        started = _room(need, [node for node in alive if HEAD not in node["Resources"]])
        pending = max(0, _autoscaled_capacity(need, len(alive)) - started)
    if running + pending < workers:
        hint = "" if may_grow or not _has_autoscaler() else f"; {NO_STORAGE}"
        raise ConfigError(_shortage(need, workers, alive, running) + hint)
    if running < workers:
        logger.warning("no node has %s yet; waiting for one (`ray status` shows pending nodes)", _text(need, workers))
    return max(running, min(running + pending, MAX_PENDING_GROUPS * workers)) // workers


def slots(config: StudyConfig, workers: int | None = None) -> int:
    """Return how many trials of a study may run at once; without shared storage, on the nodes that run already.

    Args:
        config: The study's configuration.
        workers: Workers per trial; None for those of the configuration.

    Raises:
        ConfigError: As for `max_concurrent_trials`.
    """
    may_grow = config.storage is not None
    return max_concurrent_trials(config.resources, workers or config.workers, may_grow=may_grow)


def running_room(need: ResourcesConfig) -> int:
    """Return how many trials of one worker the nodes that run now have room for.

    Raises:
        ConfigError: They have room for none.
    """
    trials = _room(need, [node for node in ray.nodes() if node["Alive"]])
    if not trials:
        raise ConfigError(
            f"budget_hours: no node of the cluster that runs now has {_text(need, 1)}, so the time of the study "
            "cannot be estimated; start such a node first, or leave budget_hours (--hours) out"
        )
    return trials


def _room(need: ResourcesConfig, nodes: Sequence[Mapping[str, Any]]) -> int:
    """Return how many workers fit on these nodes of Ray."""
    return sum(_capacity(need, node["Resources"], node["Labels"]) for node in nodes)


def _capacity(need: ResourcesConfig, resources: Mapping[str, float], labels: Mapping[str, str]) -> int:
    """Return how many workers fit on a node with these resources and labels."""
    if not all(_matches(labels.get(key), selector) for key, selector in need.labels.items()):
        return 0
    return min(n_sharing(name, resources.get(name, 0), amount) for name, amount in of_worker(need).items())


def _matches(label: str | None, selector: str) -> bool:
    """Return whether a node's label matches Ray's selector: VALUE, in(VALUE, ...), or either after `!`."""
    values = selector.removeprefix("!").removeprefix("in(").removesuffix(")")
    return (label in [value.strip() for value in values.split(",")]) != selector.startswith("!")


def _has_autoscaler() -> bool:
    """Return whether an autoscaler runs.

    Version 1 reports node types by name; without an autoscaler, Ray reports each node as a type named after its id.
    """
    status = json.loads(_internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS) or b"{}")
    types = (status.get("autoscaler_report") or {}).get("active_nodes") or {}
    return is_autoscaler_v2() or not all(NODE_ID.fullmatch(name) for name in types)


@functools.cache
def _cluster_file() -> dict[str, Any]:
    """Return the content of the file that `ray up` started this cluster from; empty if there is none on this node."""
    try:
        return strict_yaml.load(Path(BOOTSTRAP_CONFIG).expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _autoscaled_capacity(need: ResourcesConfig, alive: int) -> int:
    """Return how many workers fit on all nodes but the head node of a cluster of full size; a large number if unknown.

    It is 0 once the cluster has so many nodes that none can be added.
    """
    unknown, cluster = 2**20, _cluster_file()
    if not cluster:
        return unknown
    if alive > cluster.get("max_workers", 0):  # `max_workers` does not count the head node
        return 0
    capacity = 0
    for name, node_type in cluster.get("available_node_types", {}).items():
        if name == cluster.get("head_node_type"):
            continue
        if not node_type.get("resources"):
            return unknown  # until the first node of this type has started
        limit = min(node_type.get("max_workers", cluster["max_workers"]), cluster["max_workers"])
        capacity += limit * _capacity(need, node_type["resources"], node_type.get("labels", {}))
    return capacity


def _shortage(need: ResourcesConfig, workers: int, alive: list[dict[str, Any]], running: int) -> str:
    """Return the error message for a cluster with room for only `running` workers."""
    text = _text(need, workers)
    if running:
        return f"workers = {workers} of {text} need more than the cluster has; it has room for {running}, so use fewer"
    largest = {name: max((node["Resources"].get(name, 0) for node in alive), default=0) for name in of_worker(need)}
    return (
        f"resources: no node has {text}, and no autoscaler can add one; the most on any node is "
        f"{', '.join(f'{amount:g} {name}' for name, amount in largest.items())}"
        + ("; see resources.labels" if need.labels else "")
    )


def _text(need: ResourcesConfig, workers: int) -> str:
    amounts = ", ".join(f"{amount:g} {name}" for name, amount in of_worker(need).items())
    labels = ", ".join(f"{key}: {selector}" for key, selector in need.labels.items())
    return f"{amounts}{' with ' + labels if labels else ''}{' each' if workers > 1 else ''}"
