"""Validation of a pretext task per image, so that the change between two reports has an error of its own."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.augmentation import Augmentation
from trainables.data.table import ImageTable, as_tensor
from trainables.devices import in_float64, placed
from trainables.encoders.calibration import temporary_statistics
from trainables.recent import quarters
from trainables.rng import generator
from trainables.tasks import PretextTask
from trainables.trial import TrialConfig

BATCH = 100  # largest batch of validation images
# Images that the BatchNorm statistics are estimated on, at least and at most.
CALIBRATION_IMAGES = (32, 256)
COST_SHARE = 0.05  # all reports together cost at most this share of the training
# A training step costs this many validation passes over the same images (tests/benchmarks/bench_validation.py).
PASSES_PER_STEP = 2.5
ENOUGH_DRAWS = 512  # where images are few, each is drawn several times until there are this many
MOST_DRAWS = 8


@dataclass(frozen=True)
class SampleSizes:
    """How many images one report looks at.

    Attributes:
        images: Validation images, a multiple of `batch`.
        batch: Images per batch; it depends on the data alone, because the chance level of SimCLR depends on it.
        draws: Random draws of every image.
        calibration: Training images that the BatchNorm statistics are estimated on.
    """

    images: int
    batch: int
    draws: int
    calibration: int


def sample_sizes(trial: TrialConfig, n_train: int, n_validation: int) -> SampleSizes:
    """Choose as many validation images, and draws of each, as `COST_SHARE` of the trial's training pays for.

    At least one batch is used, whatever it costs.

    Args:
        trial: Configuration of the trial.
        n_train: Images that the trial trains on.
        n_validation: Validation images that there are.
    """
    reports = 1 + math.ceil(trial.budget_steps / trial.report_every)
    affordable = int(COST_SHARE * PASSES_PER_STEP * trial.budget_steps * trial.batch_size / reports)
    least, most = CALIBRATION_IMAGES
    calibration = min(n_train, max(least, min(most, affordable // 3)))
    affordable -= calibration
    batch = n_validation // math.ceil(n_validation / BATCH)
    images = max(1, min(affordable, n_validation) // batch) * batch
    draws = max(1, min(affordable // images, math.ceil(ENOUGH_DRAWS / images), MOST_DRAWS))
    return SampleSizes(images, batch, draws, calibration)


class Validation:
    """Per-image validation metrics of one task on fixed images with fixed draws.

    Every measurement sees the same inputs, and the BatchNorm statistics are estimated anew on training images, drawn
    like the validation images. So only the weights change between two measurements, and the untrained network is
    measured like any other.

    Args:
        task: Task to measure.
        train: Images that the task trains on.
        validation: Images to validate on.
        chosen: Numbers of images and draws.
        device: Device of the task.
    """

    def __init__(
        self, task: PretextTask, train: ImageTable, validation: ImageTable, chosen: SampleSizes, device: torch.device
    ) -> None:
        self.task = task
        self.batch_size = chosen.batch
        self.images = placed(as_tensor(validation.images[: chosen.images]), device)
        self.calibration = placed(as_tensor(train.images[: chosen.calibration]), device)
        self.augmentation = Augmentation(task.validation_policy)
        self.draws = chosen.draws if chosen.draws > 1 and draws_differ(task, self.images[: chosen.batch]) else 1

    @torch.no_grad()
    def per_image(self, images: Tensor | None = None) -> dict[str, Tensor]:
        """Return the mean of each metric over all draws and samples of an image, float64 [N] on the CPU.

        The task is left in training mode.

        Args:
            images: Images to measure in place of the validation images, of their shape and type; the BatchNorm
                statistics are the same.
        """
        images = self.images if images is None else images
        self.task.eval()
        try:
            with temporary_statistics(self.task, self._see_calibration_images):
                draws = [self._measure(images, draw) for draw in range(self.draws)]
        finally:
            self.task.train()
        return {name: torch.stack([each[name] for each in draws]).mean(dim=0).cpu() for name in draws[0]}

    def _measure(self, images: Tensor, draw: int) -> dict[str, Tensor]:
        values: dict[str, list[Tensor]] = defaultdict(list)
        batches = images.split(self.batch_size)
        for i, batch in enumerate(batches):
            numbers = generator(batch.device, 0, "validation", i + draw * len(batches))
            output = self.task(self.task.draw(batch, self.augmentation, numbers))
            for name, samples in output.metrics.items():
                values[name].append(self.task.by_image(in_float64(samples), len(batch)))
        return {name: torch.cat(parts) for name, parts in values.items()}

    def _see_calibration_images(self) -> None:
        count = math.ceil(len(self.calibration) / self.batch_size)
        for i, images in enumerate(self.calibration.chunk(count)):
            if len(images) > 1:
                self.task(self.task.draw(images, self.augmentation, generator(images.device, 0, "calibration", i)))


def draws_differ(task: PretextTask, images: Tensor) -> bool:
    """Return whether two validation draws of the same images [N, C, S, S] differ; leave training mode set."""
    augmentation = Augmentation(task.validation_policy)
    task.eval()
    first, second = (task.draw(images, augmentation, generator(images.device, 0, "validation", i)) for i in (0, 1))
    task.train()
    pairs = [(first.inputs, second.inputs), (first.targets, second.targets)]
    pairs += [(value, second.extras[name]) for name, value in first.extras.items()]
    return not all(torch.equal(one, other) for one, other in pairs)


class History:
    """Per-image values of all reports of a trial: the errors of its metrics and of their changes.

    All reports see the same images, so the standard error of a change is computed from per-image differences. It is a
    fraction of the error that two independent means would have.

    Args:
        state: State of an earlier history, to continue it.
    """

    def __init__(self, state: Mapping[str, Tensor] | None = None) -> None:
        values = dict(state or {})
        self._steps: list[int] = values.pop("steps").tolist() if values else []
        self._values = {name: list(each) for name, each in values.items()}

    def add(self, step: int, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Add one report and return its metrics.

        Args:
            step: Optimizer steps so far. Later reports are forgotten: the trial was taken back to this step.
            values: Per-image values by metric, float64 [N].

        Returns:
            For each metric `val/NAME`, its standard error `val/NAME_se` and, if the trial was measured from step 0 on,
            the standard errors of two changes: `val/NAME_gain_se` since step 0, and `val/NAME_recent_se` from the
            second to the last quarter of the steps so far (`trainables.recent.quarters`).
        """
        kept = self._comparable(step, values)
        self._steps = [*self._steps[:kept], step]
        metrics: dict[str, float] = {}
        for name, each in values.items():
            reports = self._values[name] = [*self._values.get(name, [])[:kept], each.float()]
            metrics[f"val/{name}"], metrics[f"val/{name}_se"] = float(each.mean()), standard_error(each)
            if step and self._steps[0] == 0:
                metrics[f"val/{name}_gain_se"] = standard_error(each - reports[0])
                second, last = (torch.stack([reports[i] for i in part]).mean(dim=0) for part in quarters(self._steps))
                metrics[f"val/{name}_recent_se"] = standard_error(last - second)
        return metrics

    def state(self) -> dict[str, Tensor]:
        """Return `steps`, int64 [R], and the values of each metric, float32 [R, N], for a checkpoint."""
        values = {name: torch.stack(each) for name, each in self._values.items()}
        return {"steps": torch.tensor(self._steps, dtype=torch.int64), **values} if values else {}

    def _comparable(self, step: int, values: Mapping[str, Tensor]) -> int:
        """Return how many reports to keep: those before `step`, if they are of the same metrics and images."""
        for name, each in values.items():
            if any(len(known) != len(each) for known in self._values.get(name, [each])):
                return 0
        return sum(known < step for known in self._steps) if self._values.keys() == values.keys() else 0


def standard_error(values: Tensor) -> float:
    """Return the standard error of a mean over images; NaN for a single image."""
    return float(values.double().std() / len(values) ** 0.5) if len(values) > 1 else math.nan
