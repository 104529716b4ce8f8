"""A small, plausible study journal for tests: two phases, four trials, one FAILED and one STOPPED."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis.records import (
    Event,
    Facts,
    PhaseEnded,
    PhaseStarted,
    Report,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialEvent,
    TrialStarted,
)
from study.execution.journal import Journal
from trainables.trial import TrialConfig

START = 1_750_000_000.0  # seconds since the epoch
METRICS = (
    *("train/loss", "train/accuracy", "val/loss", "val/accuracy", "probe/knn", "lr", "grad_norm", "images_per_s"),
    *("health/feature_std", "health/rankme", "health/alignment", "health/uniformity"),
)
REPORTS = 10
CURVE_POINTS = (2 * REPORTS + 4 + 2) * len(METRICS)
LEVELS = 3  # chance levels of each trial, stored at its first and its last step
SUMMARIES = 3 + 2 * 3  # numbers of trials of the study and of its phases
BESTS = 1  # the search's best trial of its one task
STUDY_POINTS = CURVE_POINTS + 4 * (3 + 2 * LEVELS) + SUMMARIES + BESTS  # each trial ends with a result and two totals
TRACEBACK = 'Traceback (most recent call last):\n  File "loop.py", line 7, in fit\nRuntimeError: loss is not finite\n'


def trial(number: int, phase: str = "search", **changes: Any) -> TrialConfig:
    """Return the configuration of trial `number`; each number has another learning rate."""
    values = {
        "lr": 0.001 * (number + 1),
        "augmentation": {"crop": 1.0},
        "options": {"rotations": 4},
        "budget_steps": 250,
    }
    return TrialConfig(phase=phase, task="rotation", n_images=1000, augmentation_strength=0.5, **{**values, **changes})


def study_started(name: str = "small-data") -> StudyStarted:
    dataset = {
        "fingerprint": "0123456789abcdef",
        "counts": {"train": 800, "validation": 200},
        "class_names": ["a", "b"],
    }
    return StudyStarted(
        study=name,
        config={"name": name, "tasks": ["rotation"], "budget_steps": 250, "search": {"num_samples": 3}},
        config_hash="c0ffee",
        git_commit="9f72c1e",
        versions={"torch": "2.15.0"},
        datasets={"shapes": dataset},
        objectives={"rotation": ("probe/knn", "max")},
    )


def trial_events(
    config: TrialConfig, status: str = "FINISHED", reason: str = "", reports: int = REPORTS
) -> Iterator[TrialEvent]:
    """Yield the events of one trial, from its start to its end."""
    key = config.trial_id
    yield TrialStarted.of(config)
    yield Facts(
        trial_id=key,
        primary_metric="val/accuracy",
        chance={"val/accuracy": 0.25},
        n_train=800,
        n_validation=200,
        parameters=12345,
    )
    for step in range(25, 25 * reports + 1, 25):
        yield Report(trial_id=key, step=step, metrics={name: step + 0.01 * i for i, name in enumerate(METRICS)})
    results = {"probe/shapes/linear": 0.61, "probe/shapes/miou": float("nan")}
    yield TrialEnded(trial_id=key, status=status, reason=reason, steps=25 * reports, wall_s=3.5, results=results)


def study_events(name: str = "small-data") -> list[Event]:
    """Return the events of a whole study."""
    return [
        study_started(name),
        PhaseStarted(phase="search"),
        *trial_events(trial(0)),
        *trial_events(trial(1), "STOPPED", "at chance after 100 steps", reports=4),
        *trial_events(trial(2), "FAILED", TRACEBACK, reports=2),
        PhaseEnded(phase="search", outcome={"best": {"rotation": [trial(0).trial_id]}}),
        PhaseStarted(phase="confirm"),
        *trial_events(trial(0, "confirm", seed=1)),
        PhaseEnded(phase="confirm"),
        StudyEnded(status="FINISHED"),
    ]


def write(folder: Path, events: Sequence[Event], *, start: float = START) -> None:
    """Append events to the journal in `folder`, a second apart, the first at `start`."""
    journal = Journal(folder)
    for second, event in enumerate(events):
        journal.append(dataclasses.replace(event, time=start + second))
    journal.close()
