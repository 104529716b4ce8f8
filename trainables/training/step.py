"""One optimizer step: gradients, on a GPU replayed as a CUDA graph, and the update of the parameters."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainables.augmentation.cuda_graphs import CudaGraphCache
from trainables.devices import CUDA
from trainables.tasks import Batch, PretextTask

Means = dict[str, Tensor]  # the mean of each metric over the samples of a batch


class Passes:
    """Forward and backward passes on batches of one shape.

    On a GPU, they can be captured at the second step and replayed, because the host takes longer to launch the kernels
    of a small network than the GPU to run them. The kernels are those of passes that are not replayed
    (`tests/trainables/test_gpu.py` compares the training).

    Args:
        forward: Returns the objective and the means of the metrics on a batch; it runs under autocast on a GPU.
        clear: Clears the gradients before each pass.
        replay: Whether to replay the passes; only on a GPU, for a task with `PretextTask.replayable`.
    """

    def __init__(
        self, forward: Callable[[Batch], tuple[Tensor, Means]], clear: Callable[[], None], *, replay: bool
    ) -> None:
        self._forward, self._clear = forward, clear
        self._graphs = CudaGraphCache() if replay else None
        self._metrics: list[str] = []  # names of the means, in order

    def __call__(self, batch: Batch) -> Means:
        """Compute the gradients and return the means, on the device.

        Args:
            batch: Batch that the task has drawn, of the same shape at each step.
        """
        tensors = (batch.inputs, batch.targets, *batch.extras.values())
        names = tuple(batch.extras)

        def passes(inputs: Tensor, targets: Tensor, *extras: Tensor) -> Tensor:
            return self._compute(Batch(inputs, targets, dict(zip(names, extras, strict=True))))

        means = passes(*tensors) if self._graphs is None else self._graphs(passes, *tensors)
        return dict(zip(self._metrics, means.unbind(), strict=True))

    def _compute(self, batch: Batch) -> Tensor:
        """Compute the gradients and return the means, float32 [M, ...].

        The gradients of the capture are the tensors that each replay writes to.
        """
        self._clear()
        device = batch.inputs.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == CUDA):
            objective, means = self._forward(batch)
        objective.backward()
        self._metrics = list(means)
        return torch.stack(list(means.values()))


class TrainingStep:
    """Optimizer steps of one task.

    Args:
        task: Task to train.
        model: The task, or its wrapper for several workers.
        optimizer: Optimizer of the task's parameters.
        replay: Whether to replay the passes where the task allows it; only for one worker on a GPU.
    """

    def __init__(self, task: PretextTask, model: nn.Module, optimizer: torch.optim.Optimizer, *, replay: bool) -> None:
        self.task = task
        self.model = model
        self.optimizer = optimizer
        self._passes = Passes(self._forward, optimizer.zero_grad, replay=replay and task.replayable)

    def __call__(self, batch: Batch, lr: float) -> Means:
        """Take one step and return the mean of each metric over the batch, as scalars on the device.

        Args:
            batch: Batch that the task has drawn, of the same shape at each step.
            lr: Learning rate of this step.
        """
        means = self._passes(batch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.task.after_step()
        return means

    def _forward(self, batch: Batch) -> tuple[Tensor, Means]:
        output = self.model(batch)
        return output.objective, mean_metrics(output.metrics)


def mean_metrics(samples: dict[str, Tensor]) -> Means:
    """Return the mean of each metric over the samples of a batch, as float32 scalars."""
    return {name: values.mean().float() for name, values in samples.items()}
