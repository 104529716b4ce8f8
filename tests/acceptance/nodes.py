"""Nodes of a Ray cluster, all of them on this machine."""

from __future__ import annotations

import psutil
from ray._private.node import Node
from ray.cluster_utils import Cluster

LOOPBACK = {"node_ip_address": "127.0.0.1"}


def worker_node(head: Cluster) -> Node:
    """Start a node with one CPU."""
    return head.add_node(num_cpus=1, **LOOPBACK)


def host_of(name: str, nodes: list[Node]) -> Node:
    """Return the node on which the process of that name runs."""
    for node in nodes:
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        if any(" ".join(process.cmdline()).startswith(name) for process in raylet.children(recursive=True)):
            return node
    raise AssertionError(f"{name} runs on none of them")
