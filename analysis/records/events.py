"""Events of a study's journal, one frozen dataclass per kind.

Fields that may be missing from journals of earlier versions have defaults. The order of the fields is their order on
disk.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainables.trial import TrialConfig

FINISHED, STOPPED, FAILED, KILLED = "FINISHED", "STOPPED", "FAILED", "KILLED"
ADDED = {"added": True}  # metadata of a field that earlier versions did not write; left out of a line if it is empty


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base class of all events in a journal.

    Attributes:
        time: Unix time of the event, in seconds.
    """

    time: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class StudyStarted(Event):
    """A driver has started the study, for the first time or again.

    Attributes:
        study: Name of the study.
        config: The study's whole configuration as plain data.
        config_hash: `StudyConfig.config_hash`.
        git_commit: Commit of the checkout that the code runs from, None for an installed copy.
        versions: Version of each package that results depend on.
        datasets: Per data set: `fingerprint`, `image_size`, `n_classes`, `class_names` and `counts` of its splits.
        plan: Upper bounds per phase: number of `trials` and of optimizer `steps`.
        objectives: Per task, the metric that its search optimizes, and `max` or `min`.
    """

    study: str
    config: Mapping[str, Any] = field(default_factory=dict)
    config_hash: str = ""
    git_commit: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    plan: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    objectives: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PhaseStarted(Event):
    """A phase has begun, or has been resumed."""

    phase: str


@dataclass(frozen=True, kw_only=True)
class TrialEvent(Event):
    """Base class of the events of one trial."""

    trial_id: str


@dataclass(frozen=True, kw_only=True)
class TrialStarted(TrialEvent):
    """A trial has begun, or has been started again by the same or another driver."""

    phase: str
    config: TrialConfig

    @classmethod
    def of(cls, config: TrialConfig, **values: Any) -> TrialStarted:
        """Create the event from the configuration of the trial."""
        return cls(trial_id=config.trial_id, phase=config.phase, config=config, **values)


@dataclass(frozen=True, kw_only=True)
class TrialChanged(TrialEvent):
    """Population-based training has given a trial the weights of a better one, and other values.

    Attributes:
        config: Configuration that the trial continues with. The trial keeps its id.
    """

    config: TrialConfig


@dataclass(frozen=True, kw_only=True)
class Facts(TrialEvent):
    """Properties of a trial that are known before its first step and never change.

    Attributes:
        primary_metric: The task's own validation metric.
        primary_mode: `max` or `min`, the better direction of `primary_metric`.
        chance: Per metric, the value that a model which has learned nothing would reach.
        n_train: Number of training images.
        n_validation: Number of validation predictions behind each `val/*` metric.
        n_validation_images: Number of validation images that these predictions are made of.
        n_queries: Number of images behind each online probe; 0 without labels.
        largest_class: Share of the most frequent class among these images; None without labels.
        parameters: Number of trained parameters.
    """

    primary_metric: str
    primary_mode: str = "max"
    chance: Mapping[str, float] = field(default_factory=dict)
    n_train: int | None = None
    n_validation: int | None = None
    n_validation_images: int | None = field(default=None, metadata=ADDED)
    n_queries: int | None = field(default=None, metadata=ADDED)
    largest_class: float | None = field(default=None, metadata=ADDED)
    parameters: int | None = None


@dataclass(frozen=True, kw_only=True)
class Report(TrialEvent):
    """Metrics of a trial after `step` optimizer steps. A journal holds at most one per trial and step."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class TrialEnded(TrialEvent):
    """A trial has ended and will not run again.

    Attributes:
        status: FINISHED, STOPPED or FAILED.
        reason: Why the trial was stopped, or the traceback of its failure; empty if it finished.
        steps: Number of optimizer steps that were trained.
        wall_s: Wall time in seconds since the trial last started or resumed; for trials that are trained as one network
            an equal share of it. None if it was not recorded.
        results: Results of the final probes by name, such as `probe/shapes/linear`.
        checkpoint: Path of the last checkpoint; empty if there is none.
        per_image: Results of each evaluated image, packed, by name (`trainables.per_image.Evaluation`).
    """

    status: str
    reason: str = ""
    steps: int | None = None
    wall_s: float | None = None
    results: Mapping[str, float] = field(default_factory=dict)
    checkpoint: str = ""
    per_image: Mapping[str, str] = field(default_factory=dict, metadata=ADDED)


@dataclass(frozen=True, kw_only=True)
class PhaseEnded(Event):
    """A phase has ended; one that time cut short may end again, and its last outcome holds.

    Attributes:
        phase: Name of the phase.
        outcome: Results that later phases and the analysis need, for example the chosen configurations.
    """

    phase: str
    outcome: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudyEnded(Event):
    """A driver has ended its run of the study.

    Attributes:
        status: FINISHED, FAILED, or KILLED if the user interrupted it or its time was over.
    """

    status: str
