"""Nodes of a Ray cluster, all of them on this machine."""

from __future__ import annotations

import contextlib

import psutil
from ray._private.node import Node
from ray.cluster_utils import Cluster

LOOPBACK = {"node_ip_address": "127.0.0.1"}


def worker_node(head: Cluster) -> Node:
    """Start a node with one CPU."""
    return head.add_node(num_cpus=1, **LOOPBACK)


def hosts(name: str, nodes: list[Node]) -> list[Node]:
    """Return the nodes on which a process of that name runs."""
    ancestors: set[int] = set()
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or []).startswith(name):
            with contextlib.suppress(psutil.Error):  # it may have ended meanwhile
                ancestors.update(parent.pid for parent in process.parents())
    return [node for node in nodes if node.all_processes["raylet"][0].process.pid in ancestors]


def host_of(name: str, nodes: list[Node]) -> Node:
    """Return a node on which a process of that name runs."""
    return hosts(name, nodes)[0]
