"""Configurations of simulated trials for tests."""

from __future__ import annotations

from typing import Any

from trainables.trial import TrialConfig

LINEAR = "probe/cifar10/linear"
POLICY = {"crop_resize": 0.5, "flip": 1.0, "color_jitter": 0.5}


def trial(task: str = "rotation", **changes: Any) -> TrialConfig:
    """Return a trial of all images that has converged."""
    values: dict[str, Any] = {
        "dataset": "cifar10",
        "lr": 4e-3 if task == "context_prediction" else 2e-3,
        "batch_size": 64,
        "width": 16,
        "augmentation": POLICY,
        "augmentation_strength": 0.5,
        "budget_steps": 600,
    }
    return TrialConfig("search", task, **values | changes)
