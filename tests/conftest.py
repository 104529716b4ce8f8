"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with the real sample images, named by PRETEXT_DATA_ROOT or lying beside the repository."""
    root = Path(os.environ.get("PRETEXT_DATA_ROOT", REPOSITORY.parent / "shared" / "data"))
    if not (root / "cifar10").is_dir():
        pytest.skip(f"real sample images are not in {root}; set PRETEXT_DATA_ROOT to use them")
    return root


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """The one local Ray of the whole test run, with two CPUs, started as a study starts its own."""
    import ray  # seconds, which tests without Ray do not wait for

    from study import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")  # never the cluster of somebody else on this machine
        cluster.connect(cpus=2)
    yield
    ray.shutdown()
