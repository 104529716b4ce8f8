"""Fixtures of the acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def ray_address(local_ray: None) -> str:
    """Where the test run's one local Ray answers: RAY_ADDRESS for drivers that join it."""
    import ray

    return ray.get_runtime_context().gcs_address


@pytest.fixture
def head() -> Iterator[Any]:
    """A cluster of a head node that drivers run on and no trial; the Ray of the other tests is away meanwhile."""
    import ray
    from ray._private.authentication.authentication_token_setup import (
        enable_token_auth_by_default,
        ensure_token_if_auth_enabled,
    )
    from ray.cluster_utils import Cluster

    from study.execution import cluster
    from tests.acceptance.nodes import LOOPBACK

    others = ray.is_initialized()
    ray.shutdown()
    enable_token_auth_by_default()  # as `ray.init` does for a cluster that it starts
    ensure_token_if_auth_enabled()
    own = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "memory": 0, **LOOPBACK})
    try:
        yield own
    finally:
        own.shutdown()
        if others:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("RAY_ADDRESS", "local")
                cluster.connect(cpus=2)
