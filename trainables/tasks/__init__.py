"""Pretext tasks: four of this package, and those of plug-ins (`search_spaces.register_task`)."""

from __future__ import annotations

from trainables.registry import Registry
from trainables.tasks.base import (
    ACCURACY,
    LOSS,
    Batch,
    Metric,
    Output,
    PretextTask,
    build_options,
    by_split,
    check_ops,
    shuffled,
    zero_init,
)
from trainables.tasks.context_encoder import ContextEncoder
from trainables.tasks.context_prediction import ContextPrediction
from trainables.tasks.retrieval import retrieval, retrieval_chance
from trainables.tasks.rotation import Rotation
from trainables.tasks.simclr import SimCLR

TASKS: Registry[type[PretextTask]] = Registry(
    "task", {task.name: task for task in (Rotation, ContextEncoder, SimCLR, ContextPrediction)}
)

__all__ = [
    "ACCURACY",
    "LOSS",
    "TASKS",
    "Batch",
    "Metric",
    "Output",
    "PretextTask",
    "build_options",
    "by_split",
    "check_ops",
    "retrieval",
    "retrieval_chance",
    "shuffled",
    "zero_init",
]
