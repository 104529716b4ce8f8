"""The contract of a pretext task: its metrics and their levels at chance, a batch drawn from images, and a loss."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from trainables.augmentation import Augmentation
from trainables.encoders import Encoder
from trainables.errors import ConfigError
from trainables.options import check_fields
from trainables.rng import global_seed


@dataclass(frozen=True)
class Metric:
    """A metric that a task computes per sample; `PretextTask.chance` gives its level at chance.

    Attributes:
        name: Name without the prefix `train/` or `val/`.
        mode: `max` where higher is better, `min` where lower is.
        normalized: Whether the values are fractions of the level at chance, so that chance is 1 on any images.
    """

    name: str
    mode: str
    normalized: bool = False


ACCURACY, LOSS = Metric("accuracy", "max"), Metric("loss", "min")


class Batch(NamedTuple):
    """One step's data: the network predicts `targets` from `inputs`.

    The type is a tuple, which DistributedDataParallel passes to the task unchanged.

    Attributes:
        inputs: Inputs of the encoder, float32.
        targets: Class labels, int64, or images, float32.
        extras: Other tensors that the loss needs, by the names that the task's `draw` documents.
    """

    inputs: Tensor
    targets: Tensor
    extras: Mapping[str, Tensor] = MappingProxyType({})


class Output(NamedTuple):
    """Result of a task on a batch.

    Attributes:
        objective: Scalar to minimize.
        metrics: Values per sample of every metric, detached.
    """

    objective: Tensor
    metrics: dict[str, Tensor]


class PretextTask(nn.Module, ABC):
    """An encoder with the head and the loss that one pretext task adds to it.

    Args:
        encoder: Encoder to train.
        options: Instance of `Options`.
        image_size: Side of the images in pixels.
        seed: Seed of the head's initialization.

    Attributes:
        name: Name in code, YAML, MLflow and frames.
        Options: Frozen dataclass of the task's own options.
        metrics: All metrics of the task, with `loss` among them. The first is the primary one: its validation value
            measures how well the task is solved.
        primary_metric: Name of the primary metric with its prefix, derived from `metrics`.
        primary_mode: `max` or `min`, derived from `metrics`.
        validation_policy: Augmentation of the validation batches, at full strength. It does not depend on the trial,
            so that validation metrics can be compared across augmentation strengths.
        refused_ops: Augmentation ops that would give the task's answer away or make it ambiguous, each with the reason.
            `self_test.keeps_the_answer` finds out which they are.
        has_shortcuts: Whether lighting or a border may give the answer away, as with a rotation or a position. The
            primary metric is then also measured on images reduced to those (`trainables.training.shortcuts`).
        replayable: Whether `forward` runs the same operations at each step and neither waits for the device nor draws
            numbers on the host, so that a GPU may replay it as a CUDA graph. Otherwise its kernels are launched one by
            one. Each class says so for itself; a subclass does not inherit it.
    """

    name: ClassVar[str]
    Options: ClassVar[type]
    metrics: ClassVar[tuple[Metric, ...]] = (ACCURACY, LOSS)
    primary_metric: ClassVar[str]
    primary_mode: ClassVar[str]
    validation_policy: ClassVar[Mapping[str, float]] = {}
    replayable: ClassVar[bool] = False
    refused_ops: ClassVar[Mapping[str, str]] = {}
    has_shortcuts: ClassVar[bool] = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.replayable = vars(cls).get("replayable", False)  # not inherited: a subclass may change `forward`
        cls.primary_metric, cls.primary_mode = f"val/{cls.metrics[0].name}", cls.metrics[0].mode

    def __init__(self, encoder: Encoder, options: Any, image_size: int, seed: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.options = options
        self.image_size = image_size
        self.n_channels = encoder.in_channels
        with global_seed(seed, "head"):
            self.build_head()

    @abstractmethod
    def build_head(self) -> None:
        """Create the modules that the task adds to `self.encoder`."""

    def fit_to(self, images: Tensor) -> None:
        """Precompute what the task needs from its training images (uint8, uint16 or float32 [N, C, S, S])."""

    @abstractmethod
    def draw(self, images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Batch:
        """Return a batch made from images.

        In eval mode it is a validation batch: the same draws for all trials of the task, whatever their augmentation.
        Options that define the problem (a gap, a mask) apply there, too. Trials that
        differ in those have comparable probes, but not comparable task metrics.

        Args:
            images: uint8, uint16 or float32 [N, C, S, S].
            augmentation: Augmentation to apply.
            generator: Source of all randomness, on the device of the images.
        """

    @abstractmethod
    def forward(self, batch: Batch) -> Output:
        """Return the objective and the per-sample values of all metrics."""

    @abstractmethod
    def chance(self, batch_size: int, *, training: bool) -> dict[str, float]:
        """Return the level of each metric for a network that has learned nothing.

        Args:
            batch_size: Images per batch.
            training: Whether the batches are drawn for training or for validation, where the two differ.
        """

    def after_step(self) -> None:
        """Update state that follows the parameters, such as a momentum encoder.

        The training loop calls it after every optimizer step, on every worker, on the task itself rather than its
        DistributedDataParallel wrapper. It does nothing by default.
        """

    def samples_per_image(self) -> int:
        """Return the number of predictions per validation image."""
        return 1

    def by_image(self, samples: Tensor, n_images: int) -> Tensor:
        """Return the mean over the samples of each image of a validation batch, [n_images].

        The default is for samples in the order copy by copy: all images, then all images again, as `torch.cat` makes
        them.

        Args:
            samples: Per-sample values of a metric, [n_images x samples_per_image] or [n_images].
            n_images: Images in the batch.
        """
        return samples.view(-1, n_images).mean(dim=0)


def by_split(train: Mapping[str, float], validation: Mapping[str, float]) -> dict[str, float]:
    """Return values of metrics in training and in validation as those of `train/NAME` and `val/NAME`."""
    levels = {f"train/{name}": level for name, level in train.items()}
    return levels | {f"val/{name}": level for name, level in validation.items()}


def shuffled(batch: Batch, generator: torch.Generator) -> Batch:
    """Return the batch with its targets separated from its inputs: a control that no network can learn.

    Class labels are permuted; images are shifted cyclically along the batch, so that none keeps its place.
    """
    targets = batch.targets
    if targets.is_floating_point():
        shift = int(torch.randint(1, len(targets), (), generator=generator, device=generator.device))
        return batch._replace(targets=targets.roll(shift, dims=0))
    order = torch.randperm(targets.numel(), generator=generator, device=targets.device)
    return batch._replace(targets=targets.flatten()[order].view_as(targets))


def check_ops(task: type[PretextTask], policy: Mapping[str, float]) -> None:
    """Check that a task accepts every op of an augmentation policy that is on.

    Raises:
        ConfigError: The task refuses an op; the message says why.
    """
    for op, magnitude in policy.items():
        if magnitude and op in task.refused_ops:
            raise ConfigError(f"augmentation.{op}: {task.name} refuses it, since {task.refused_ops[op]}; leave it out")


def build_options(task: type[PretextTask], values: Mapping[str, Any]) -> Any:
    """Return the task's default options with `values` replaced.

    Raises:
        ConfigError: A name is not an option of the task, or its value is not allowed.
    """
    known = [field.name for field in dataclasses.fields(task.Options)]
    for name in values:
        if name not in known:
            raise ConfigError(f"task_options.{task.name}.{name}: no such option; {task.name} has {', '.join(known)}")
    options = task.Options(**values)
    check_fields(options, f"task_options.{task.name}")
    return options


Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def zero_init(layer: Layer) -> Layer:
    """Zero the weights of a last layer, so that an untrained task is exactly at chance."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
