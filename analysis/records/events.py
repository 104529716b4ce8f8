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


@dataclass(frozen=True, kw_only=True)
class Event:
    """Anything that the journal records.

    Attributes:
        time: When it happened, in seconds since the epoch, UTC.
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
    """Anything that happens to one trial."""

    trial_id: str


@dataclass(frozen=True, kw_only=True)
class TrialStarted(TrialEvent):
    """A trial has begun, or has been started again by the same or another driver."""

    phase: str
    config: TrialConfig

    @classmethod
    def of(cls, config: TrialConfig, **values: Any) -> TrialStarted:
        """Return the start of the trial that has this configuration."""
        return cls(trial_id=config.trial_id, phase=config.phase, config=config, **values)


@dataclass(frozen=True, kw_only=True)
class Facts(TrialEvent):
    """What is known of a trial before its first step and holds for all of it.

    Attributes:
        primary_metric: The task's own validation metric.
        primary_mode: `max` or `min`, the better direction of `primary_metric`.
        chance: Per metric, its value for a model that has learned nothing.
        n_train: Number of training images.
        n_validation: Number of validation predictions behind each `val/*` metric.
        parameters: Number of trained parameters.
    """

    primary_metric: str
    primary_mode: str = "max"
    chance: Mapping[str, float] = field(default_factory=dict)
    n_train: int | None = None
    n_validation: int | None = None
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
        reason: Why it was stopped, or the traceback of its failure; empty if it finished.
        steps: Optimizer steps that it has trained.
        wall_s: Wall time in seconds; None where it was not recorded.
        results: Results of the final probes by name, such as `probe/shapes/linear`.
        checkpoint: Path of the last checkpoint; empty if there is none.
    """

    status: str
    reason: str = ""
    steps: int | None = None
    wall_s: float | None = None
    results: Mapping[str, float] = field(default_factory=dict)
    checkpoint: str = ""


@dataclass(frozen=True, kw_only=True)
class PhaseEnded(Event):
    """A phase has ended.

    Attributes:
        phase: Name of the phase.
        outcome: What later phases and the analysis need of it, for example the chosen configurations.
    """

    phase: str
    outcome: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudyEnded(Event):
    """A driver has left the study: FINISHED, FAILED, or KILLED by the user."""

    status: str
