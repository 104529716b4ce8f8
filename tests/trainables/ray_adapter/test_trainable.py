"""What a trial sends to its driver, and which of its errors another start may cure; without Ray running."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import tune
from ray.exceptions import ActorDiedError, OutOfMemoryError
from ray.train import WorkerGroupError

from tests.trainables.tiny import trial
from trainables.errors import CheckpointError, ConfigError
from trainables.objective import WORST
from trainables.per_image import Evaluation
from trainables.ray_adapter import trainable
from trainables.ray_adapter.messages import (
    FinalResults,
    Message,
    Replay,
    TrialReport,
    Unrecoverable,
    from_result,
    to_result,
)
from trainables.ray_adapter.reporter import Reporter
from trainables.ray_adapter.storage import CheckpointStore
from trainables.ray_adapter.trainable import STATE_FILE, _inherited_state, _is_transient
from trainables.training import checkpoint
from trainables.training.loop import Report

FACTS = {"primary_metric": "val/accuracy", "primary_mode": "max"}


def reporter(folder: Path, sent: list[Message], **values: Any) -> Reporter:
    return Reporter(trial(), CheckpointStore(str(folder)), lambda message, state: sent.append(message), **values)


def report(step: int) -> Report:
    state = {"trial_id": trial().trial_id, "step": step}
    return Report(step, {"val/accuracy": step / 100}, FACTS, lambda: state)


def test_a_trial_that_resumes_replays_its_whole_curve_up_to_its_checkpoint(tmp_path: Path) -> None:
    sent: list[Message] = []
    first = reporter(tmp_path, sent)
    for step in range(20):
        first.report(report(step))
    curve = [{"step": each.step, "metrics": each.metrics} for each in sent if isinstance(each, TrialReport)]
    again = reporter(tmp_path, sent)
    assert again.resume() is not None
    assert sent[-1] == Replay(step=19, objective=0.19, reports=curve, facts=FACTS)

    again.report(report(20))
    again.resume()
    assert isinstance(sent[-1], Replay)
    assert [each["step"] for each in sent[-1].reports] == list(range(21))


def test_the_objective_is_the_last_one_that_was_measured_also_after_a_restart(tmp_path: Path) -> None:
    sent: list[Message] = []
    first = reporter(tmp_path, sent, objective=("probe/linear", "max"))
    for step, metrics in enumerate(({"probe/linear": 0.1}, {"probe/linear": 0.5}, {"val/accuracy": 0.9})):
        first.report(dataclasses.replace(report(step), metrics=metrics))
    assert [each.objective for each in sent] == [0.1, 0.5, 0.5]
    reporter(tmp_path, sent, objective=("probe/linear", "max")).resume()
    assert (sent[-1].step, sent[-1].objective) == (2, 0.5)


def test_a_trial_without_a_checkpoint_replays_nothing(tmp_path: Path) -> None:
    sent: list[Message] = []
    assert reporter(tmp_path, sent).resume() is None
    assert sent == []


def test_a_report_is_on_storage_before_it_is_sent_and_names_its_file(tmp_path: Path) -> None:
    sent: list[Message] = []
    found: list[bool] = []

    def send(message: Message, state: bytes | None) -> None:
        assert isinstance(message, TrialReport)
        found.append(Path(message.checkpoint).is_file())
        sent.append(message)

    Reporter(trial(), CheckpointStore(str(tmp_path)), send, objective=("val/loss", "min")).report(report(3))
    assert found == [True]
    assert (sent[0].step, sent[0].objective) == (3, WORST)  # of a metric that is not reported


def test_a_damaged_checkpoint_is_named_in_the_next_message_and_only_there(tmp_path: Path) -> None:
    sent: list[Message] = []
    first = reporter(tmp_path, sent)
    first.report(report(1))
    first.report(report(2))
    newest = sent[-1]
    assert isinstance(newest, TrialReport)
    Path(newest.checkpoint).write_bytes(b"")
    again = reporter(tmp_path, sent)
    again.resume()
    again.finish(Evaluation({"probe/shapes/knn": 0.5}, {"probe/shapes/knn": "bool:2:"}))
    replay, final = sent[-2:]
    assert (replay.step, len(replay.damaged_checkpoints)) == (1, 1)
    assert newest.checkpoint in replay.damaged_checkpoints[0]
    assert final == FinalResults(
        step=1, objective=0.01, results={"probe/shapes/knn": 0.5}, per_image={"probe/shapes/knn": "bool:2:"}
    )


@pytest.mark.parametrize(
    "message",
    [
        TrialReport(step=3, objective=0.5, metrics={"val/loss": 0.5}, facts=FACTS, checkpoint="/a/step-3.pt"),
        Replay(step=3, objective=0.5, reports=[{"step": 3, "metrics": {"val/loss": 0.5}}], facts=FACTS),
        FinalResults(step=3, results={"probe/shapes/knn": 0.5}, damaged_checkpoints=("a: broken",)),
        Unrecoverable(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_comes_back_from_a_result_in_plain_types(message: Message) -> None:
    result = to_result(message)
    assert from_result(result | {"time_total_s": 1.0, "training_iteration": 1}) == message
    assert (result["step"], result["objective"], result["pid"]) == (message.step, message.objective, os.getpid())
    assert json.dumps(result)


def of_group(*errors: Exception) -> WorkerGroupError:
    return WorkerGroupError("a worker failed", dict(enumerate(errors)))


@pytest.mark.parametrize(
    ("error", "transient"),
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
def test_only_a_transient_error_is_worth_another_start(error: Exception, transient: bool) -> None:
    assert _is_transient(error) == transient


# --- states that population-based training copies from trial to trial ------------------------------------------------


def hand_on(state: bytes, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let Tune give the next trial of this process a state as its checkpoint."""
    (folder / STATE_FILE).write_bytes(state)
    patch.setattr(trainable.tune, "get_checkpoint", lambda: tune.Checkpoint.from_directory(str(folder)))


def test_a_trial_inherits_the_state_of_a_better_trials_last_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes | None] = []
    better = Reporter(
        trial(), CheckpointStore(str(tmp_path)), lambda message, state: sent.append(state), sends_state=True
    )
    for step in (1, 2, 3):
        better.report(report(step))
    states = [checkpoint.from_bytes(state or b"", where="here") for state in sent]
    assert [state["step"] for state in states] == [1, 2, 3]
    hand_on(sent[-1] or b"", tmp_path, monkeypatch)
    assert _inherited_state() == states[-1]


def test_without_population_based_training_no_state_is_sent_and_none_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[bytes | None] = []
    Reporter(trial(), CheckpointStore(str(tmp_path)), lambda message, state: sent.append(state)).report(report(1))
    assert sent == [None]
    monkeypatch.setattr(trainable.tune, "get_checkpoint", lambda: None)
    assert _inherited_state() is None


class Trap:
    """An object that makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_a_state_that_population_based_training_hands_on_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"trial_id": "abc", "step": 1, "extra": Trap(tmp_path / "sprung")}
    hand_on(checkpoint.to_bytes(state), tmp_path, monkeypatch)
    with pytest.raises(CheckpointError, match=f"{STATE_FILE}: not a readable checkpoint"):
        _inherited_state()
    assert not (tmp_path / "sprung").exists()
