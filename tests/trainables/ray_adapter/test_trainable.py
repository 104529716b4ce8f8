"""What a trial sends to its driver, and which of its errors a new start may cure; without Ray running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ray.exceptions import ActorDiedError, OutOfMemoryError
from ray.train import WorkerGroupError

from tests.trainables.tiny import trial
from trainables.errors import ConfigError
from trainables.ray_adapter.storage import CheckpointStore
from trainables.ray_adapter.trainable import Shared, _may_pass, _Sender
from trainables.training.loop import Report

FACTS = {"primary_metric": "val/accuracy", "primary_mode": "max"}


def sender(folder: Path, sent: list[dict[str, Any]]) -> _Sender:
    shared = Shared(datasets={}, checkpoints=str(folder))
    return _Sender(trial(), shared, CheckpointStore(str(folder)), send=lambda result, state: sent.append(result))


def report(step: int) -> Report:
    state = {"trial_id": trial().trial_id, "step": step}
    return Report(step, {"val/accuracy": step / 100}, FACTS, lambda: state)


def test_a_trial_that_goes_on_repeats_its_whole_curve_up_to_its_checkpoint(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []
    first = sender(tmp_path, sent)
    for step in range(20):
        first.report(report(step))
    curve = [{"step": each["step"], "metrics": each["metrics"]} for each in sent]
    again = sender(tmp_path, sent)
    again.repeated(again.store.load(trial().trial_id))
    assert (sent[-1]["repeated"], sent[-1]["step"], sent[-1]["facts"]) == (curve, 19, FACTS)

    again.report(report(20))
    again.repeated(again.store.load(trial().trial_id))
    assert [each["step"] for each in sent[-1]["repeated"]] == list(range(21))


def test_a_trial_without_a_checkpoint_repeats_nothing(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []
    assert sender(tmp_path, sent).repeated(None) is None
    assert sent == []


def of_group(*errors: Exception) -> WorkerGroupError:
    return WorkerGroupError("a worker failed", dict(enumerate(errors)))


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (ConfigError("batch_size = 1000"), False),
        (RuntimeError("shapes do not match"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (OSError("the storage is away"), True),
        (OutOfMemoryError("a node is out of memory"), True),
        (of_group(ConfigError("batch_size = 15")), False),
        (of_group(RuntimeError("Connection closed by peer"), ActorDiedError()), True),
        (of_group(RuntimeError("Connection closed by peer")), True),  # the other one's death may not be known yet
    ],
    ids=lambda value: value if isinstance(value, bool) else type(value).__name__,
)
def test_only_an_error_that_may_pass_is_worth_a_new_start(error: Exception, may_pass: bool) -> None:
    assert _may_pass(error) == may_pass
