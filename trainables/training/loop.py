"""The training loop of one trial, in plain PyTorch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.augmentation import Augmentation
from trainables.data.table import ImageTable, Splits, as_tensor
from trainables.devices import CUDA, placed
from trainables.distributed import mean_over_workers
from trainables.encoders import Encoder, encoder_of
from trainables.errors import ConfigError
from trainables.rng import generator, global_seed
from trainables.tasks import TASKS, Batch, PretextTask, build_options, check_ops
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
        state: Function that returns the checkpoint of this step. Call it before the next step, which changes its
            tensors: serialize or copy them before that.
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
    report: Callable[[Report], bool | None],
    *,
    worker: Worker | None = None,
    resume: dict[str, Any] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Encoder:
    """Train the trial's pretext task for `budget_steps` and return its encoder.

    Training stops early, after a last report, once the loss is no longer finite.

    Args:
        trial: Configuration of the trial.
        splits: Data set to train on.
        report: Called at step 0, every `report_every` steps and at the end, on every worker. The trial ends at once if
            it returns True, on every worker.
        worker: Device and rank; by default one worker on the CPU.
        resume: State of an earlier report. The curve continues as without the interruption, bit for bit on one CPU. A
            state at the end of the budget is reported again and nothing is trained.
        weights: Tensors of the weights that training starts from, if `trial.weights` names some; a state replaces them.

    Raises:
        ConfigError: The trial and the data do not fit together.
    """
    run = TrialRun(trial, splits, report, worker or Worker(), resume, weights)
    take_step = TrainingStep(run.task, run.model, run.optimizer, replay=run.replay)
    run.start()
    while run.unfinished:
        with run.seeded():
            means = take_step(run.draw(), run.lr)
        run.count(means)
        run.report_if_due()
    return run.task.encoder


class TrialRun:
    """One trial between its optimizer steps: its network, its batches, its reports and its checkpoints.

    Args:
        trial: Configuration of the trial.
        splits: Data set to train on.
        report: Called as `fit` describes.
        worker: Device and rank.
        resume: State of an earlier report.
        weights: Tensors of the weights that training starts from.

    Attributes:
        task: Task to train.
        model: The task, or its wrapper for several workers.
        optimizer: Optimizer of the task's parameters.
        monitor: Measurements of the task at its reports.
        step: Optimizer steps taken.
    """

    def __init__(
        self,
        trial: TrialConfig,
        splits: Splits,
        report: Callable[[Report], bool | None],
        worker: Worker,
        resume: dict[str, Any] | None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.trial, self.worker = trial, worker
        self._report = report
        if trial.weights and weights is None and not resume:
            raise ConfigError(f"trial {trial.trial_id} starts from the weights {trial.weights}, which were not given")
        table = splits.pretext_train.subset(trial.n_images, trial.data_seed)
        _check_batches(trial, table, worker)
        self._images = placed(as_tensor(table.images), worker.device)
        task = build_task(trial, table.image_size, table.n_channels, None if resume else weights)
        task.fit_to(as_tensor(table.images))
        self.task = task.to(worker.device).to(memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.task, trial)
        self.step = _restore(self.task, self.optimizer, resume) if resume else 0
        self.model = worker.wrap(self.task)
        self._rows = batches(trial, len(table), first=self.step)
        self._augmentation = Augmentation(dict(trial.augmentation), trial.augmentation_strength)
        history = (resume or {}).get("validation")
        self.monitor = Monitor(trial, self.task, table, splits, worker.device, history=history)
        self._running = _RunningMeans()
        self._started: float | None = None  # time of the first draw since the last report
        self._due: dict[str, float] | None = None  # training metrics of a report that is due
        self._diverged = bool((resume or {}).get("diverged"))
        self._ended = self._diverged

    @property
    def replay(self) -> bool:
        """Whether steps may be replayed as a CUDA graph."""
        return self.worker.device.type == CUDA and self.worker.world_size == 1

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return lr_at(self.trial, self.step)

    @property
    def unfinished(self) -> bool:
        """Whether there are steps left, and the trial has neither diverged nor been stopped."""
        return self.step < self.trial.budget_steps and not self._ended

    def start(self) -> None:
        """Report the untrained network, or a state after which no step follows again; call it before the first step."""
        if self.step == 0 or not self.unfinished:
            self._send({})

    def seeded(self) -> AbstractContextManager[None]:
        """Return a context for the next step, in which layers such as dropout draw what the trial's seed determines."""
        return global_seed(self.trial.seed, "layers", self.step, self.worker.rank, device=self.worker.device)

    def draw(self) -> Batch:
        """Return this worker's share of the next step's batch."""
        if self._started is None:
            self._started = time.perf_counter()
        rank, world_size, device = self.worker.rank, self.worker.world_size, self.worker.device
        rows = next(self._rows).reshape(world_size, -1)[rank]
        mine = torch.from_numpy(rows).to(device, non_blocking=True)
        draws = generator(device, self.trial.seed, "augmentation", self.step, rank=rank, world_size=world_size)
        return self.task.draw(self._images[mine], self._augmentation, draws)

    def count(self, means: dict[str, Tensor]) -> None:
        """Count a step with these means of its metrics, and summarize the training if a report is due."""
        self._running.add(means)
        self.step += 1
        if self.step % self.trial.report_every and self.step != self.trial.budget_steps:
            return
        self._due = self._running.values()  # waits for the device, so the time below includes all steps
        assert self._started is not None
        seconds = time.perf_counter() - self._started
        self._due["images_per_s"] = self._running.steps * self.trial.batch_size / seconds
        self._due |= {"lr": lr_at(self.trial, self.step - 1), "grad_norm": float(_gradient_norm(self.task))}

    def report_if_due(self) -> None:
        """Report after every `report_every` steps and at the end; a loss that is not finite ends the trial."""
        if self._due is None:
            return
        self._diverged = not np.isfinite(self._due["train/loss"])
        self._send(self._due)
        self._running, self._started, self._due = _RunningMeans(), None, None

    def leave_out(self, seconds: float) -> None:
        """Do not count the last `seconds`, in which another trial has reported, as training time."""
        if self._started is not None:
            self._started += seconds

    def _send(self, metrics: dict[str, float]) -> None:
        if self.worker.rank == 0:
            metrics = metrics | self.monitor.validate(self.step, diverged=self._diverged)
        stopped = self._report(Report(self.step, metrics, self.monitor.facts, self._state)) is True
        self._ended = stopped or self._diverged  # the same on all workers, or the others would wait forever

    def _state(self) -> dict[str, Any]:
        """Return the state from which `_restore` continues."""
        return {
            "trial_id": self.trial.trial_id,
            "step": self.step,
            "diverged": self._diverged,
            "task": {name: value.cpu() for name, value in self.task.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "validation": self.monitor.history.state(),
        }


def build_task(
    trial: TrialConfig, image_size: int, n_channels: int = 3, weights: Mapping[str, Tensor] | None = None
) -> PretextTask:
    """Build the trial's task on a fresh encoder, both initialized from the trial's seed, or with weights that exist.

    Raises:
        ConfigError: The task refuses an option or an op of the trial, or the code of a plug-in's task fails.
    """
    kind = TASKS[trial.task]
    check_ops(kind, dict(trial.augmentation))
    encoder = encoder_of(trial, image_size, n_channels, weights)
    with TASKS.errors_in_one_line(trial.task):
        return kind(encoder, build_options(kind, dict(trial.options)), image_size, trial.seed)


def _check_batches(trial: TrialConfig, table: ImageTable, worker: Worker) -> None:
    problem = batch_size_problem(trial.batch_size, n_images=len(table), workers=worker.world_size)
    if problem:
        raise ConfigError(f"{table.name}: batch_size = {trial.batch_size} {problem}")


def _restore(task: PretextTask, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> int:
    """Load a checkpoint and return its step; keep the trial's own weight decay, which PBT may have changed."""
    weight_decays = [group["weight_decay"] for group in optimizer.param_groups]
    task.load_state_dict(state["task"])
    optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # the optimizer would keep its tensors
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
