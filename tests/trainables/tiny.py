"""Splits and trials so small that a test trains them in a fraction of a second."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NoReturn

import numpy as np

from trainables.data import shapes
from trainables.data.table import ImageTable, Splits
from trainables.trial import TrialConfig

SIDE = 20  # px


@functools.cache
def splits(n_train: int = 64, n_validation: int = 16, n_test: int = 40) -> Splits:
    """Return splits of generated images, all labeled, and read-only as in Ray's store."""
    drawn = shapes.generate(n_train + n_validation, split="train", image_size=SIDE)
    train, validation = drawn.take(np.arange(n_train)), drawn.take(np.arange(n_train, n_train + n_validation))
    test = shapes.generate(n_test, split="test", image_size=SIDE)
    for table in (train, validation, test):
        table.images.flags.writeable = False
    return Splits(train, validation, train, validation, test)


def with_unreadable_test(made: Splits) -> Splits:
    """Return the splits with a test split that raises when it is read."""
    return dataclasses.replace(made, test=_Unreadable(made.test))  # type: ignore[arg-type]


def trial(task: str = "rotation", **changes: Any) -> TrialConfig:
    """Return a trial of six steps that reports every second one."""
    small: dict[str, Any] = {"width": 4, "batch_size": 16, "budget_steps": 6, "report_every": 2}
    policy = {"crop_resize": 0.5, "flip": 1.0, "noise": 0.5}
    return TrialConfig(phase="test", task=task, **{"augmentation": policy, **small, **changes})


class _Unreadable:
    """A table that only shows whether it has labels and masks."""

    def __init__(self, table: ImageTable) -> None:
        self.labels = None if table.labels is None else np.empty(0)
        self.masks = None if table.masks is None else np.empty(0)

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"{name} of the test split was read")
