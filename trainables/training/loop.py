"""The training loop of one trial, in plain PyTorch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.augmentation import Augmentation
from trainables.data.table import ImageTable, Splits, as_tensor
from trainables.distributed import mean_over_workers
from trainables.encoders import Encoder, build_encoder
from trainables.errors import ConfigError
from trainables.rng import generator
from trainables.tasks import TASKS, PretextTask, build_options, check_ops
from trainables.training.batches import batch_size_problem, batches
from trainables.training.monitor import Monitor
from trainables.training.optimizers import build_optimizer, lr_at
from trainables.training.step import TrainingStep
from trainables.trial import TrialConfig


@dataclass(frozen=True)
class Report:
    """Measurements after `step` optimizer steps; step 0 is the untrained network.

    Attributes:
        step: Optimizer steps taken.
        metrics: Values by name, as in the `curves` frame.
        facts: Constants of the whole trial, as in `Monitor.facts`.
        state: Function that returns the checkpoint of this step; call it before the next step.
    """

    step: int
    metrics: dict[str, float]
    facts: dict[str, Any]
    state: Callable[[], dict[str, Any]]


@dataclass
class Worker:
    """Device and rank of one of the workers that share a trial.

    Attributes:
        device: Device of the model and the images.
        rank: Rank of this worker.
        world_size: Number of workers that share each batch.
        wrap: Prepares the task for several workers (DistributedDataParallel); the identity for one.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world_size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module


def fit(
    trial: TrialConfig,
    splits: Splits,
    report: Callable[[Report], None],
    *,
    worker: Worker | None = None,
    resume: dict[str, Any] | None = None,
) -> Encoder:
    """Train the trial's pretext task for `budget_steps` and return its encoder.

    Training stops early, after a last report, once the loss is no longer finite.

    Args:
        trial: Configuration of the trial.
        splits: Data set to train on.
        report: Called at step 0, every `report_every` steps and at the end, on every worker.
        worker: Device and rank; by default one worker on the CPU.
        resume: State of an earlier report. The curve continues as without the interruption, bit for bit on one CPU. A
            state at the end of the budget is reported again and nothing is trained.

    Raises:
        ConfigError: The trial and the data do not fit together.
    """
    worker = worker or Worker()
    device = worker.device
    table = splits.pretext_train.subset(trial.n_images, trial.data_seed)
    _check_batches(trial, table, worker)
    images = as_tensor(table.images).to(device)

    task = build_task(trial, table.image_size, table.n_channels)
    task.fit_to(images.cpu())
    task = task.to(device).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(task, trial)
    step = _restore(task, optimizer, resume) if resume else 0
    replay = device.type == "cuda" and worker.world_size == 1
    take_step = TrainingStep(task, worker.wrap(task), optimizer, replay=replay)
    augmentation = Augmentation(dict(trial.augmentation), trial.augmentation_strength)
    monitor = Monitor(trial, task, table, splits, device, history=(resume or {}).get("validation"))

    def state() -> dict[str, Any]:
        return _checkpoint(trial, task, optimizer, step) | {"validation": monitor.history.state()}

    if step == 0 or step >= trial.budget_steps:
        report(Report(step, monitor.validate(step) if worker.rank == 0 else {}, monitor.facts, state))

    running, started = _RunningMeans(), time.perf_counter()
    for rows in batches(trial, len(table), first=step):
        mine = torch.from_numpy(rows.reshape(worker.world_size, -1)[worker.rank]).to(device, non_blocking=True)
        draws = generator(device, trial.seed, "augmentation", step, rank=worker.rank, world_size=worker.world_size)
        batch = task.draw(images[mine], augmentation, draws)
        running.add(take_step(batch, lr_at(trial, step)))
        step += 1
        if step % trial.report_every and step != trial.budget_steps:
            continue

        metrics = running.values()  # waits for the device, so the time below includes all steps
        metrics["images_per_s"] = running.steps * trial.batch_size / (time.perf_counter() - started)
        metrics |= {"lr": lr_at(trial, step - 1), "grad_norm": float(_gradient_norm(task))}
        if worker.rank == 0:
            metrics |= monitor.validate(step)
        report(Report(step, metrics, monitor.facts, state))
        if not np.isfinite(metrics["train/loss"]):  # all workers break, or the others would wait forever
            break
        running, started = _RunningMeans(), time.perf_counter()
    return task.encoder


def build_task(trial: TrialConfig, image_size: int, n_channels: int = 3) -> PretextTask:
    """Build the trial's task on a fresh encoder, both initialized from the trial's seed.

    Raises:
        ConfigError: The task refuses an option or an op of the trial.
    """
    kind = TASKS[trial.task]
    check_ops(kind, dict(trial.augmentation))
    encoder = build_encoder(
        trial.encoder, width=trial.width, image_size=image_size, in_channels=n_channels, seed=trial.seed
    )
    return kind(encoder, build_options(kind, dict(trial.options)), image_size, trial.seed)


def _check_batches(trial: TrialConfig, table: ImageTable, worker: Worker) -> None:
    problem = batch_size_problem(trial.batch_size, n_images=len(table), workers=worker.world_size)
    if problem:
        raise ConfigError(f"{table.name}: batch_size = {trial.batch_size} {problem}")


def _checkpoint(trial: TrialConfig, task: PretextTask, optimizer: torch.optim.Optimizer, step: int) -> dict[str, Any]:
    """Return the state from which `_restore` continues."""
    return {
        "trial_id": trial.trial_id,
        "step": step,
        "task": {name: value.cpu() for name, value in task.state_dict().items()},
        "optimizer": optimizer.state_dict(),
    }


def _restore(task: PretextTask, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> int:
    """Load a checkpoint and return its step; keep the trial's own weight decay, which PBT may have changed."""
    weight_decays = [group["weight_decay"] for group in optimizer.param_groups]
    task.load_state_dict(state["task"])
    optimizer.load_state_dict(state["optimizer"])
    for group, weight_decay in zip(optimizer.param_groups, weight_decays, strict=True):
        group["weight_decay"] = weight_decay
    return int(state["step"])


def _gradient_norm(task: nn.Module) -> Tensor:
    return torch.nn.utils.get_total_norm([weight.grad for weight in task.parameters() if weight.grad is not None])


class _RunningMeans:
    """Means of the metrics since the last report, accumulated on the device, so that no step waits for it."""

    def __init__(self) -> None:
        self.steps = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add one step's means."""
        self.steps += 1
        for name, mean in metrics.items():
            self._sums[name] = self._sums[name] + mean if name in self._sums else mean

    def values(self) -> dict[str, float]:
        """Return the mean of every metric over all workers, named `train/NAME`; the same on every worker."""
        totals = torch.stack([total.float() for total in self._sums.values()])
        totals = mean_over_workers(totals)
        return {f"train/{name}": total / self.steps for name, total in zip(self._sums, totals.tolist(), strict=True)}
