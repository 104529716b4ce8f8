"""What one worker of a trial asks of its node, and whether the cluster has it or can bring it."""

from __future__ import annotations

import functools
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._private.label_utils import validate_label_selector
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get

from study.config import strict_yaml
from study.config.schema import ResourcesConfig
from trainables.errors import ConfigError

BOOTSTRAP = "~/ray_bootstrap_config.yaml"  # where `ray up` leaves the cluster's file on its head
NAMELESS = re.compile("node_[0-9a-f]{56}")
GROUPS_AHEAD = 4  # worker groups that may wait at once for nodes that nobody knows yet

logger = logging.getLogger(__name__)


def of_worker(need: ResourcesConfig) -> dict[str, float]:
    """Return the resources of one worker by Ray's names, without those of which it needs none."""
    asked = {"CPU": need.cpu, "GPU": need.gpu, **need.custom}
    return {name: float(amount) for name, amount in asked.items() if amount}


def check(need: ResourcesConfig, workers: int) -> int:
    """Return how many trials of `workers` workers each may run at once.

    Raises ConfigError where no node has what a worker needs, or all nodes together have room for fewer workers, and
    none can come that would.
    """
    if problem := validate_label_selector(need.labels):
        raise ConfigError(f"resources.labels: {problem}")
    alive = [node for node in ray.nodes() if node["Alive"]]
    rooms = [_room(need, node["Resources"], node["Labels"]) for node in alive]
    coming = _room_to_come(need, len(alive)) if _autoscaled() else 0
    if sum(rooms) + coming < workers:
        raise ConfigError(_refusal(need, workers, alive, sum(rooms)))
    if sum(rooms) < workers:
        logger.warning("no node has %s yet; waiting for one (`ray status` says what comes)", _in_words(need, workers))
    return max(sum(rooms), min(sum(rooms) + coming, GROUPS_AHEAD * workers)) // workers


def _room(need: ResourcesConfig, resources: Mapping[str, float], labels: Mapping[str, str]) -> int:
    """Return how many workers a node with these resources takes."""
    if not all(_selected(labels.get(key), selector) for key, selector in need.labels.items()):
        return 0
    shares = [resources.get(name, 0) / amount for name, amount in of_worker(need).items()]
    return int(min(shares) + 1e-6)  # ten tenths of a GPU are a whole one


def _selected(label: str | None, selector: str) -> bool:
    """Return whether Ray's label selector (VALUE, in(VALUE, ...), or either after `!`) takes a node with this label."""
    listed = selector.removeprefix("!").removeprefix("in(").removesuffix(")")
    return (label in [value.strip() for value in listed.split(",")]) != selector.startswith("!")


def _autoscaled() -> bool:
    """Return whether an autoscaler runs: Ray's own, which knows kinds of nodes by name, or its second version.

    Without one, Ray calls each node a kind of its own, by its id.
    """
    status = json.loads(_internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS) or b"{}")
    kinds = (status.get("autoscaler_report") or {}).get("active_nodes") or {}
    return is_autoscaler_v2() or not all(NAMELESS.fullmatch(kind) for kind in kinds)


@functools.cache
def _launched() -> dict[str, Any]:
    """Return the file with which `ray up` has made this cluster, empty where it has not, or elsewhere than here."""
    try:
        return strict_yaml.load(Path(BOOTSTRAP).expanduser().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _room_to_come(need: ResourcesConfig, alive: int) -> int:
    """Return how many workers fit the nodes that may still come, where their number is known; else many."""
    many, launched = 2**20, _launched()
    if not launched:
        return many
    if alive > launched.get("max_workers", 0):  # the head is no worker
        return 0
    room = 0
    for name, kind in launched.get("available_node_types", {}).items():
        if name == launched.get("head_node_type"):
            continue
        if not kind.get("resources"):
            return many  # nobody knows before one has come
        limit = min(kind.get("max_workers", launched["max_workers"]), launched["max_workers"])
        room += limit * _room(need, kind["resources"], kind.get("labels", {}))
    return room


def _refusal(need: ResourcesConfig, workers: int, alive: list[dict[str, Any]], room: int) -> str:
    asked = _in_words(need, workers)
    largest = {name: max((node["Resources"].get(name, 0) for node in alive), default=0) for name in of_worker(need)}
    if room:
        return f"workers = {workers} of {asked} need more than the cluster has, which is room for {room}; use fewer"
    return (
        f"resources: no node has {asked}, and no autoscaler can bring one; the most that one has is "
        f"{', '.join(f'{amount:g} {name}' for name, amount in largest.items())}"
        + ("; see resources.labels" if need.labels else "")
    )


def _in_words(need: ResourcesConfig, workers: int) -> str:
    asked = ", ".join(f"{amount:g} {name}" for name, amount in of_worker(need).items())
    labels = ", ".join(f"{key}: {selector}" for key, selector in need.labels.items())
    return f"{asked}{' with ' + labels if labels else ''}{' each' if workers > 1 else ''}"
