"""A cluster that is lost is told as such, and what cannot be written as that."""

from __future__ import annotations

import errno

import pytest
from ray.exceptions import LocalRayletDiedError, RaySystemError, RpcError

from study import cluster
from trainables import files
from trainables.errors import ClusterError, StorageError


@pytest.mark.parametrize(
    "error",
    [ConnectionError("GCS is gone\nat 0x7f"), RaySystemError("lost"), RpcError("unavailable"), LocalRayletDiedError()],
    ids=lambda error: type(error).__name__,
)
def test_the_loss_of_the_cluster_is_one_line_that_says_how_to_go_on(error: Exception):
    with pytest.raises(ClusterError) as told, files.storing("/studies/a"), cluster.needed():
        raise error
    assert str(told.value).startswith("the Ray cluster was lost (")
    assert str(told.value).endswith("once it runs again, the same command goes on where this stopped")
    assert "\n" not in str(told.value)
    assert "/studies/a" not in str(told.value)


def test_a_place_that_cannot_be_written_is_no_loss_of_the_cluster():
    told = pytest.raises(StorageError, match=r"^/studies/a: No space left on device")
    with told, files.storing("/studies/a"), cluster.needed():
        raise OSError(errno.ENOSPC, "No space left on device")
