"""Fixtures of the acceptance tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def ray_address(local_ray: None) -> str:
    """Where the test run's one local Ray answers: RAY_ADDRESS for drivers that join it."""
    import ray

    return ray.get_runtime_context().gcs_address
