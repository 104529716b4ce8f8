"""Measurement setup of a simulated trial: sample sizes and noise, and the facts that the real Monitor reports."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from trainables.data.table import Splits
from trainables.probes.accuracy import largest_class
from trainables.rng import generator
from trainables.simulated.trajectories import N_CLASSES
from trainables.tasks import by_split
from trainables.tasks.context_encoder import ContextEncoder
from trainables.training.loop import build_task
from trainables.training.monitor import PROBE_QUERIES
from trainables.training.validation import BATCH, draws_differ, sample_sizes
from trainables.trial import TrialConfig

TWO_HEADS = "two_heads"  # context prediction with a jointly trained class head and one summed loss
POSITIONS = 8
CORRELATION = 0.7

_IMAGE_SIZE = 32
_MEAN_ERROR = 0.06  # squared error of painting the mean image, as on the `shapes` data set


@dataclass(frozen=True)
class Measurement:
    """Setup of the measurements at every report of a trial.

    Attributes:
        trial: Configuration; `task` may be TWO_HEADS, which no study trains.
        n_train: Number of training images.
        n_validation: Number of predictions behind each `val/*` metric.
        n_images: Number of validation images that the predictions are made of; 0 for one prediction per image.
        n_queries: Number of images behind each online probe; 0 without labels, where there are no probes.
        largest_class: Share of the most frequent class among these images; not used without probes.
        noise: Standard deviation of the network's own fluctuation between reports, as a share of its progress.
        correlation: Share of the predictions that depend on the image only and so recur at every report; 0 for
            independent noise.
        stuck_head: `position` or `class`: the head of TWO_HEADS that stays at chance while the other one learns.
        validation_batch: Images per validation batch, among which SimCLR looks for the other view.
        image_size: Side of the images in pixels.
    """

    trial: TrialConfig
    n_train: int = 2000
    n_validation: int = 2048
    n_images: int = 0
    n_queries: int = 1000
    largest_class: float = 1 / N_CLASSES
    noise: float = 0.01
    correlation: float = CORRELATION
    stuck_head: str = ""
    validation_batch: int = BATCH
    image_size: int = _IMAGE_SIZE

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """Facts about the whole trial, as in `trainables.training.monitor.Monitor.facts`."""
        task = task_facts(self.trial, self.validation_batch, self.image_size)
        return {
            "primary_metric": task.primary_metric,
            "primary_mode": task.primary_mode,
            "chance": dict(task.chance),
            "n_train": self.n_train,
            "n_validation": self.n_validation,
            "n_validation_images": self.n_images or self.n_validation,
            "n_queries": self.n_queries,
            "largest_class": self.largest_class if self.n_queries else None,
            "parameters": task.parameters,
        }

    @functools.cached_property
    def steps(self) -> np.ndarray:
        """Steps of the reports, int64 [R]: 0, every `report_every`, and the end of the budget."""
        budget = self.trial.budget_steps
        return np.unique(np.append(np.arange(0, budget, self.trial.report_every), budget))

    @property
    def time(self) -> np.ndarray:
        """Steps of the reports as shares of the budget, float64 [R]."""
        return self.steps / max(1, self.trial.budget_steps)


def monitor_measurement(trial: TrialConfig, splits: Splits) -> Measurement:
    """Return the measurement that the real Monitor would make of a trial on these splits."""
    n_train = trial.n_images or len(splits.pretext_train)
    chosen = sample_sizes(trial, n_train, len(splits.pretext_validation))
    queries = splits.probe_validation if splits.labeled else None
    labels = None if queries is None or queries.labels is None else queries.labels[:PROBE_QUERIES]
    image_size = splits.pretext_train.image_size
    task = task_facts(trial, chosen.batch, image_size)
    draws = chosen.draws if task.random_validation else 1
    return Measurement(
        trial,
        n_train=n_train,
        n_validation=chosen.images * draws * task.samples_per_image,
        n_images=chosen.images,
        n_queries=0 if labels is None else len(labels),
        largest_class=0.0 if labels is None else largest_class(labels),
        validation_batch=chosen.batch,
        image_size=image_size,
    )


class TaskFacts(NamedTuple):
    """Properties of a pretext task; see `trainables.tasks.base.PretextTask`.

    `random_validation` tells whether two validation draws of the same images differ.
    """

    primary_metric: str
    primary_mode: str
    samples_per_image: int
    random_validation: bool
    parameters: int
    chance: dict[str, float]


def task_facts(trial: TrialConfig, validation_batch: int, image_size: int) -> TaskFacts:
    """Return the facts of a trial's task, as the task itself declares them.

    Args:
        trial: Configuration; `task` may be TWO_HEADS.
        validation_batch: Images per validation batch.
        image_size: Side of the images in pixels.

    Raises:
        ConfigError: The trial sets an option that the task does not have.
    """
    if trial.task == TWO_HEADS:
        loss = math.log(POSITIONS) + math.log(N_CLASSES)
        levels = {"loss": loss, "accuracy_position": 1 / POSITIONS, "accuracy_class": 1 / N_CLASSES}
        return TaskFacts("val/loss", "min", POSITIONS, True, 0, by_split(levels, levels))
    size = (trial.encoder, trial.width, image_size)
    return _task_facts(trial.task, trial.options, trial.batch_size, validation_batch, *size)


@functools.lru_cache(maxsize=256)  # building the network takes longer than simulating a trial
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
    chance = by_split(network.chance(batch_size, training=True), network.chance(validation_batch, training=False))
    parameters = sum(weight.numel() for weight in network.parameters())
    images = torch.randint(256, (2, 3, image_size, image_size), generator=generator("cpu", 0, "images")).byte()
    random = draws_differ(network, images)
    samples = network.samples_per_image()
    return TaskFacts(network.primary_metric, network.primary_mode, samples, random, parameters, chance)
