"""A lost cluster is reported as such, and a place that cannot be written is not mistaken for one."""

from __future__ import annotations

import errno
import socket
import threading
import time

import pytest
from ray.exceptions import LocalRayletDiedError, RaySystemError, RpcError

from study.execution import cluster
from trainables import files
from trainables.errors import ClusterError, StorageError


@pytest.mark.parametrize(
    "error",
    [ConnectionError("GCS is gone\nat 0x7f"), RaySystemError("lost"), RpcError("unavailable"), LocalRayletDiedError()],
    ids=lambda error: type(error).__name__,
)
def test_the_loss_of_the_cluster_is_one_line_that_says_how_to_resume(error: Exception):
    with pytest.raises(ClusterError) as error_info, files.storing("/studies/a"), cluster.guard_cluster_loss():
        raise error
    assert str(error_info.value).startswith("the Ray cluster was lost (")
    assert str(error_info.value).endswith(cluster.RESUME_HINT)
    assert "\n" not in str(error_info.value)
    assert "/studies/a" not in str(error_info.value)


def test_a_silent_head_is_reported_once_while_ray_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(cluster, "HEARTBEAT_S", 0.02)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as head:
        host, port = head.getsockname()
        watch = threading.Thread(target=cluster._watch, args=(f"{host}:{port}", over))
        watch.start()
        time.sleep(0.3)
        assert caplog.text == ""
        assert watch.is_alive()
    watch.join(20)
    assert not watch.is_alive()
    (said,) = caplog.messages
    assert (
        said == f"the Ray cluster at {host}:{port} no longer answers, and Ray will soon give up; {cluster.RESUME_HINT}"
    )


def test_a_head_that_is_not_needed_any_more_is_not_reported(caplog: pytest.LogCaptureFixture):
    over = threading.Event()
    over.set()
    cluster._watch("127.0.0.1:1", over)
    assert caplog.text == ""


def test_a_place_that_cannot_be_written_is_not_a_loss_of_the_cluster():
    refused = pytest.raises(StorageError, match=r"^/studies/a: No space left on device")
    with refused, files.storing("/studies/a"), cluster.guard_cluster_loss():
        raise OSError(errno.ENOSPC, "No space left on device")
