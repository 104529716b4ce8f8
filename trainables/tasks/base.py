"""What a pretext task is: a batch drawn from images, a loss, and the level of each metric at chance."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from trainables.augmentation import Augmentation
from trainables.encoders import Encoder
from trainables.errors import ConfigError
from trainables.options import check_fields
from trainables.rng import initialization


class Batch(NamedTuple):
    """What one step learns from: the network sees `inputs` and is to tell `targets`.

    A plain tuple of tensors, so that DistributedDataParallel passes it on unchanged.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor | None = None


class Output(NamedTuple):
    """What a task makes of a batch: the scalar to minimize, and one value a sample of every metric."""

    objective: Tensor
    metrics: dict[str, Tensor]


class PretextTask(nn.Module, ABC):
    """An encoder with the head and loss that one pretext task adds to it.

    name: the task's name in code, YAML, MLflow and frames.
    Options: frozen dataclass of the task's own options.
    primary_metric, primary_mode: the validation metric that tells how well the task is solved; `max` or `min`.
    validation_policy: augmentation of the validation batches, at full strength. It does not depend on the trial,
        so that validation metrics can be compared across augmentation strengths.
    """

    name: ClassVar[str]
    Options: ClassVar[type]
    primary_metric: ClassVar[str] = "val/accuracy"
    primary_mode: ClassVar[str] = "max"
    validation_policy: ClassVar[Mapping[str, float]] = {}

    def __init__(self, encoder: Encoder, options: Any, image_size: int, seed: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.options = options
        self.image_size = image_size
        with initialization(seed, "head"):
            self.build_head()

    @abstractmethod
    def build_head(self) -> None:
        """Make the modules that the task adds to `self.encoder`."""

    def fit_to(self, images: Tensor) -> None:
        """Take what the task must know of its training images (uint8 [N, 3, S, S]) before the first step."""

    @abstractmethod
    def draw(self, images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Batch:
        """Return a batch made from images (uint8 [N, 3, S, S]); all randomness comes from `generator`.

        In eval mode the batch is the validation's: the same images and draws for all trials of the task, whatever
        their augmentation and batch size. Options that say what is asked (a gap, a mask) hold there too, so metrics
        of trials that differ in those are not comparable; a probe's are.
        """

    @abstractmethod
    def forward(self, batch: Batch) -> Output:
        """Return the objective (scalar) and per-sample metrics, `loss` always among them."""

    @abstractmethod
    def chance(self, batch_size: int, *, training: bool) -> dict[str, float]:
        """Return each metric's level for a network that has learned nothing, with `batch_size` images a batch.

        training: whether the batches are those of training or of validation, where a task draws them differently.
        """

    def samples_per_image(self) -> int:
        """Return how many predictions one validation image gives."""
        return 1


def shuffled(batch: Batch, generator: torch.Generator) -> Batch:
    """Return the batch with its targets torn from its inputs: the control that no network can learn.

    Class labels are permuted; images are handed on to another place by a cyclic shift, so that none stays.
    """
    targets = batch.targets
    if targets.is_floating_point():
        shift = int(torch.randint(1, len(targets), (), generator=generator, device=generator.device))
        return batch._replace(targets=targets.roll(shift, dims=0))
    order = torch.randperm(targets.numel(), generator=generator, device=targets.device)
    return batch._replace(targets=targets.flatten()[order].view_as(targets))


def build_options(task: type[PretextTask], values: Mapping[str, Any]) -> Any:
    """Return the task's options with `values` over the defaults. Raises ConfigError for a name or value it lacks."""
    known = [field.name for field in dataclasses.fields(task.Options)]
    for name in values:
        if name not in known:
            raise ConfigError(f"task_options.{task.name}.{name}: no such option; {task.name} has {', '.join(known)}")
    options = task.Options(**values)
    check_fields(options, f"task_options.{task.name}")
    return options


Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def zero_init(layer: Layer) -> Layer:
    """Zero a last layer's weights, so that an untrained task stands exactly at chance."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
