"""Fused training: trials that differ only in numbers, trained together as one network with a leading axis.

On a GPU, a small network leaves most of the device idle. The passes of K such trials are computed at once, as grouped
convolutions and batched products (`torch.vmap`; Wang 2021, arXiv:2102.02344), and their parameters are updated by one
optimizer with a row per trial. Everything else remains separate: random streams, batches, learning rates, reports and
checkpoints are the same as under `fit`, so a trial can begin fused and resume alone, or the reverse.

Batches are drawn, and reports measured, one trial after the other. Studies use this mode as `resources.fuse` says.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.data.table import Splits
from trainables.devices import seconds_of
from trainables.encoders import Encoder
from trainables.errors import FusionError, first_line
from trainables.tasks import TASKS, Batch
from trainables.training.loop import Report, TrialRun, Worker
from trainables.training.stack import Stack
from trainables.training.step import Means, Passes, TrainingStep, mean_metrics
from trainables.trial import NON_TRAINING_FIELDS, TrialConfig

# Fields in which fused trials may differ: they change numbers, but no shape and no operation of a step.
MAY_DIFFER = frozenset(
    {
        *(set(NON_TRAINING_FIELDS) - {"task", "init_from"}),
        *("n_images", "lr", "weight_decay", "warmup_fraction", "augmentation", "augmentation_strength"),
        *("budget_steps", "report_every"),
    }
)

_STATE = frozenset({"_parameters", "_buffers", "_modules"})  # attributes of modules that are stacked

WARM_UP_STEPS, TIMED_STEPS = 3, 5  # a GPU records the graph of a step in the first ones


@dataclass(frozen=True)
class Job:
    """One of the trials to train together; see `fit` for `report` and `resume`.

    Attributes:
        trial: Configuration of the trial.
        report: Called at each report of this trial; the trial ends if it returns True. An exception ends all trials.
        resume: State of an earlier report of this trial, trained alone or fused.
        weights: Tensors of the weights that the trial starts from, if it names some.
    """

    trial: TrialConfig
    report: Callable[[Report], bool | None]
    resume: dict[str, Any] | None = None
    weights: Mapping[str, Tensor] | None = None


def fit_fused(jobs: Sequence[Job], splits: Splits, *, device: torch.device | None = None) -> list[Encoder]:
    """Train several trials as one network and return their encoders.

    Each trial has the same curve as under `fit`, up to rounding. A trial that has reached its budget, diverged or been
    stopped is taken out of the network, and the others continue. Trials that resume may be at different steps.

    Args:
        jobs: Trials of one task, encoder, optimizer and batch size; they may differ in the fields MAY_DIFFER.
        splits: Data set to train on.
        device: Device of all trials; by default the CPU.

    Raises:
        ConfigError: A trial and the data do not fit together.
        FusionError: The trials cannot be trained as one network.
    """
    check_fusible([job.trial for job in jobs])
    worker = Worker(device or torch.device("cpu"))
    runs = [TrialRun(job.trial, splits, job.report, worker, job.resume, job.weights) for job in jobs]
    for run in runs:
        run.start()
    while active := [run for run in runs if run.unfinished]:
        take_step = FusedStep(active)
        while all(run.unfinished for run in active):
            for run, means in zip(active, take_step([run.draw() for run in active]), strict=True):
                run.count(means)
            for run in active:
                began = time.perf_counter()
                run.report_if_due()
                for other in active:
                    other.leave_out(time.perf_counter() - began)
        take_step.release()
    return [run.task.encoder for run in runs]


def check_fusible(trials: Sequence[TrialConfig]) -> None:
    """Check that trials can be trained as one network, as far as their configurations show.

    Raises:
        FusionError: They differ in more than numbers, share their batches among workers, or their task has steps that
            depend on the values of its tensors.
    """
    remedy = "train them one at a time"
    for trial in trials:
        for field in dataclasses.fields(TrialConfig):
            first, other = (getattr(each, field.name) for each in (trials[0], trial))
            if first != other and field.name not in MAY_DIFFER:
                names = f"{trials[0].trial_id} and {trial.trial_id}"
                raise FusionError(f"trials {names} differ in {field.name}: {first!r} and {other!r}; {remedy}")
    if trials and trials[0].workers != 1:
        raise FusionError(f"workers = {trials[0].workers}: fused trials have one worker each; {remedy}")
    if trials and not TASKS[trials[0].task].replayable:
        raise FusionError(f"task {trials[0].task!r} does not declare `replayable`, as fused trials must; {remedy}")


def fusible_groups(trials: Sequence[TrialConfig], most: int) -> list[list[TrialConfig]]:
    """Return groups of trials that `check_fusible` accepts, of about equal size; trials without a group are left out.

    Args:
        trials: Trials in the order in which they would run alone.
        most: Largest size of a group.
    """
    alike: dict[TrialConfig, list[TrialConfig]] = {}
    for trial in trials:
        alike.setdefault(_fused_alike(trial), []).append(trial)
    groups: list[list[TrialConfig]] = []
    for members in alike.values():
        if len(members) > 1 and _is_fusible(members):
            size = math.ceil(len(members) / math.ceil(len(members) / most))
            groups += [members[i : i + size] for i in range(0, len(members), size)]
    return [group for group in groups if len(group) > 1]


def _fused_alike(trial: TrialConfig) -> TrialConfig:
    """Return a trial that is equal for all trials that differ in the fields MAY_DIFFER alone."""
    return TrialConfig("", trial.task).replace(
        **{
            field.name: getattr(trial, field.name)
            for field in dataclasses.fields(TrialConfig)
            if field.name not in MAY_DIFFER
        }
    )


def _is_fusible(trials: Sequence[TrialConfig]) -> bool:
    try:
        check_fusible(trials)
    except FusionError:
        return False
    return True


def fuses_faster(trials: Sequence[TrialConfig], splits: Splits, device: torch.device) -> bool:
    """Return whether a step of these trials as one network takes less time than a step of each.

    A few steps are timed, of networks that are then thrown away.

    Args:
        trials: Trials that `check_fusible` accepts together.
        splits: Data set to train on.
        device: Device to compute on.

    Raises:
        FusionError: The trials cannot be trained as one network.
    """
    runs = [TrialRun(trial.replace(weights=""), splits, lambda _: None, Worker(device), None) for trial in trials]
    batches, first = [run.draw() for run in runs], runs[0]
    one = TrainingStep(first.task, first.model, first.optimizer, replay=first.replay)
    alone_s = _seconds(lambda: one(batches[0], first.lr), device)
    together = FusedStep(runs)
    return _seconds(lambda: together(batches), device) < len(trials) * alone_s


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    for _ in range(WARM_UP_STEPS):
        step()
    return seconds_of(lambda: [step() for _ in range(TIMED_STEPS)], device)


class FusedStep:
    """Optimizer steps of several trials at once.

    Args:
        runs: Trials that `check_fusible` accepts together.
    """

    def __init__(self, runs: list[TrialRun]) -> None:
        self.runs = runs
        _check_attributes([run.task for run in runs])
        self._stack = Stack([run.task for run in runs], [run.optimizer for run in runs])
        self._passes = Passes(self._forward, self._stack.clear_gradients, replay=runs[0].replay)

    def __call__(self, batches: Sequence[Batch]) -> list[Means]:
        """Take one step of every trial and return the means of its metrics over its batch.

        Args:
            batches: Batch of each trial, all of the same shapes.
        """
        means = self._passes(_stacked(batches))
        for run in self.runs:
            for group in run.optimizer.param_groups:
                group["lr"] = run.lr
        self._stack.update()
        for run in self.runs:
            run.task.after_step()
        columns = {name: values.unbind() for name, values in means.items()}
        return [{name: values[i] for name, values in columns.items()} for i in range(len(self.runs))]

    def release(self) -> None:
        """Give each trial tensors of its own again."""
        self._stack.release()

    def _forward(self, batch: Batch) -> tuple[Tensor, Means]:
        """Return the sum of the objectives, which has the gradients of each one, and the means, each [K]."""
        try:
            objectives, means = torch.vmap(self._forward_one)(self._stack.tensors, batch)
        except RuntimeError as error:
            if "vmap" not in str(error) and "functorch" not in str(error):
                raise
            trial = self.runs[0].trial
            raise FusionError(
                f"task {trial.task!r} with encoder {trial.encoder!r} cannot compute several trials at once "
                f"({first_line(error)}); train them one at a time"
            ) from error
        return objectives.sum(), means

    def _forward_one(self, tensors: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, Means]:
        output = torch.func.functional_call(self.runs[0].task, dict(tensors), (batch,))
        return output.objective, mean_metrics(output.metrics)


def _check_attributes(tasks: Sequence[nn.Module]) -> None:
    """Raise FusionError if a number, text or tensor that is neither parameter nor buffer differs between tasks.

    The pass is computed with the modules of the first task, so the others would silently use its value.
    """
    first, *others = (dict(task.named_modules()) for task in tasks)
    for other in others:
        for path, module in first.items():
            for name, value in vars(module).items():
                if name not in _STATE and _differ(value, vars(other[path]).get(name)):
                    where = f"{path}.{name}" if path else name
                    raise FusionError(
                        f"attribute {where} of the task differs between the trials; make it a buffer "
                        "(register_buffer), or train them one at a time"
                    )


def _differ(one: Any, other: Any) -> bool:
    """Return whether two values that can be compared are different."""
    if isinstance(one, Tensor):
        return not (isinstance(other, Tensor) and torch.equal(one, other))
    if isinstance(one, np.ndarray):
        return not np.array_equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) != len(other) or any(map(_differ, one, other))
    if isinstance(one, dict):
        return one.keys() != other.keys() or any(_differ(value, other[key]) for key, value in one.items())
    return isinstance(one, int | float | str | bytes | None) and repr(one) != repr(other)  # NaN is like NaN


def _stacked(batches: Sequence[Batch]) -> Batch:
    """Return the batches as one whose tensors have a leading axis."""
    extras = {name: torch.stack([batch.extras[name] for batch in batches]) for name in batches[0].extras}
    inputs, targets = (torch.stack(tensors) for tensors in zip(*(batch[:2] for batch in batches), strict=True))
    return Batch(inputs, targets, extras)
