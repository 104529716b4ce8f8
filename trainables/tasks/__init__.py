"""Pretext tasks. A new one is a file here, a line in this registry, and a module and a line in `search_spaces`."""

from __future__ import annotations

from trainables.tasks.base import Batch, Metric, Output, PretextTask, build_options, shuffled
from trainables.tasks.context_encoder import ContextEncoder
from trainables.tasks.context_prediction import ContextPrediction
from trainables.tasks.rotation import Rotation
from trainables.tasks.simclr import SimCLR

TASKS: dict[str, type[PretextTask]] = {
    task.name: task for task in (Rotation, ContextEncoder, SimCLR, ContextPrediction)
}

__all__ = ["TASKS", "Batch", "Metric", "Output", "PretextTask", "build_options", "shuffled"]
