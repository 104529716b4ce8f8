"""Instruments: how a trial is looked at, with the facts that the real task and the real Monitor would tell."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trainables.simulated.trajectories import N_CLASSES
from trainables.tasks.context_encoder import ContextEncoder
from trainables.training.loop import build_task
from trainables.training.monitor import VALIDATION_BATCH
from trainables.trial import TrialConfig

TWO_HEADS = "two_heads"  # context prediction with a jointly trained class head and one summed loss
POSITIONS = 8
CORRELATION = 0.7

_IMAGE_SIZE = 32
_MEAN_ERROR = 0.06  # squared error of painting the mean image, as of generated shapes


@dataclass(frozen=True)
class Instrument:
    """How a trial is looked at: what holds for all its reports.

    trial: its task, steps, batch size and learning rate; `task` may be TWO_HEADS, which no study trains.
    n_train: training images.
    n_validation: predictions behind each `val/*`.
    n_queries: images behind each online probe; 0 where there are no labels, and no probes then.
    noise: standard deviation of the network's own fluctuation from report to report, as a share of what it has learned.
    correlation: share of the predictions that an image decides, the same at every report; 0 for fresh noise.
    stuck_head: `position` or `class`, a head of TWO_HEADS that stays at chance while the other learns.
    validation_batch: images of a validation batch, among which SimCLR looks for the other view.
    image_size: side of the images in pixels.
    """

    trial: TrialConfig
    n_train: int = 2000
    n_validation: int = 2048
    n_queries: int = 1000
    noise: float = 0.01
    correlation: float = CORRELATION
    stuck_head: str = ""
    validation_batch: int = VALIDATION_BATCH
    image_size: int = _IMAGE_SIZE

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """What the loop's reports tell of the whole trial, as `trainables.training.monitor.Monitor.facts`."""
        task = task_facts(self.trial, self.validation_batch, self.image_size)
        return {
            "primary_metric": task.primary_metric,
            "primary_mode": task.primary_mode,
            "chance": dict(task.chance),
            "n_train": self.n_train,
            "n_validation": self.n_validation,
            "parameters": task.parameters,
        }

    @functools.cached_property
    def steps(self) -> np.ndarray:
        """Steps of the reports, int64 [R]: 0, every `report_every`, and the end of the budget."""
        budget = self.trial.budget_steps
        return np.unique(np.append(np.arange(0, budget, self.trial.report_every), budget))

    @property
    def time(self) -> np.ndarray:
        """The reports' steps as shares of the budget, float64 [R]."""
        return self.steps / max(1, self.trial.budget_steps)


class TaskFacts(NamedTuple):
    """What a task tells of itself; see `trainables.tasks.base.PretextTask`."""

    primary_metric: str
    primary_mode: str
    samples_per_image: int
    parameters: int
    chance: dict[str, float]


def task_facts(trial: TrialConfig, validation_batch: int, image_size: int) -> TaskFacts:
    """Return the facts of the trial's task, from the task itself. Raises ConfigError for an option it lacks."""
    if trial.task == TWO_HEADS:
        loss = math.log(POSITIONS) + math.log(N_CLASSES)
        levels = {"loss": loss, "accuracy_position": 1 / POSITIONS, "accuracy_class": 1 / N_CLASSES}
        return TaskFacts("val/loss", "min", POSITIONS, 0, _by_split(levels, levels))
    size = (trial.encoder, trial.width, image_size)
    return _task_facts(trial.task, trial.options, trial.batch_size, validation_batch, *size)


@functools.lru_cache(maxsize=256)  # the network takes longer to build than a trial to simulate
def _task_facts(
    task: str,
    options: tuple[tuple[str, Any], ...],
    batch_size: int,
    validation_batch: int,
    encoder: str,
    width: int,
    image_size: int,
) -> TaskFacts:
    network = build_task(TrialConfig("simulated", task, encoder=encoder, width=width, options=options), image_size)
    if isinstance(network, ContextEncoder):
        network.mean_error.fill_(_MEAN_ERROR)
    chance = _by_split(network.chance(batch_size, training=True), network.chance(validation_batch, training=False))
    parameters = sum(weight.numel() for weight in network.parameters())
    return TaskFacts(network.primary_metric, network.primary_mode, network.samples_per_image(), parameters, chance)


def _by_split(train: dict[str, float], validation: dict[str, float]) -> dict[str, float]:
    levels = {f"train/{name}": level for name, level in train.items()}
    return levels | {f"val/{name}": level for name, level in validation.items()}
