"""Messages from a worker to the driver, and the codec that converts them to and from Tune results.

A Tune result is a dict; Tune itself reads the step, the objective and the process id from its top level.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainables.objective import OBJECTIVE, WORST

MESSAGE, KIND = "message", "kind"
STEP = "step"


@dataclass(frozen=True, kw_only=True)
class Message:
    """Base class of everything that a worker sends.

    Attributes:
        step: Optimizer steps so far.
        objective: Value that searchers and schedulers maximize, at the trial's last report that has it.
        damaged_checkpoints: Descriptions of the checkpoints that the trial could not resume from.
        member: Index of the trial among those that the worker trains as one network.
    """

    step: int = 0
    objective: float = WORST
    damaged_checkpoints: Sequence[str] = ()
    member: int = 0


@dataclass(frozen=True, kw_only=True)
class TrialReport(Message):
    """Metrics of one step.

    Attributes:
        metrics: Values by name, as in the `curves` frame.
        facts: Constants of the whole trial, as in `trainables.training.loop.Report`.
        checkpoint: Path of the checkpoint of this step; empty if this worker saves none.
    """

    metrics: Mapping[str, float]
    facts: Mapping[str, Any]
    checkpoint: str = ""


@dataclass(frozen=True, kw_only=True)
class Replay(Message):
    """All reports up to the checkpoint that the trial resumes from; the driver may not have received the last ones.

    Attributes:
        reports: `step` and `metrics` of each report, oldest first.
        facts: As in `TrialReport`.
    """

    reports: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FinalResults(Message):
    """Results of the final probes. A trial has finished if and only if it has sent this message.

    Attributes:
        results: Values by name.
        per_image: Packed results of each image by name, as in `trainables.per_image.Evaluation`.
    """

    results: Mapping[str, float]
    per_image: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Unrecoverable(Message):
    """Announcement that the trial is about to fail with an error that a restart would repeat."""


@dataclass(frozen=True, kw_only=True)
class Unfused(Message):
    """Announcement that the worker ends without the results of trials that it was to train as one network.

    Attributes:
        reason: Why, in one line.
    """

    reason: str


KINDS: dict[str, type[Message]] = {
    "report": TrialReport,
    "replay": Replay,
    "results": FinalResults,
    "unrecoverable": Unrecoverable,
    "unfused": Unfused,
}
_KIND_OF = {kind: name for name, kind in KINDS.items()}


def to_result(message: Message) -> dict[str, Any]:
    """Return a message as a Tune result, in plain types."""
    content = {field.name: getattr(message, field.name) for field in dataclasses.fields(message)}
    step, objective = content.pop("step"), content.pop("objective")
    content[KIND] = _KIND_OF[type(message)]
    return {STEP: step, OBJECTIVE: objective, "pid": os.getpid(), MESSAGE: content}


def from_result(result: Mapping[str, Any]) -> Message:
    """Return the message in a Tune result."""
    content = dict(result[MESSAGE])
    return KINDS[content.pop(KIND)](step=result[STEP], objective=result[OBJECTIVE], **content)
