"""One optimizer step: gradients, on a GPU replayed as a CUDA graph, and the update of the parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.augmentation.cuda_graphs import CudaGraphCache
from trainables.tasks import Batch, PretextTask


class TrainingStep:
    """Optimizer steps of one task on batches of one shape.

    On one GPU, forward and backward pass of a task with `PretextTask.replayable` are captured at the second step and
    replayed, because the host takes longer to launch the kernels of a small network than the GPU to run them. The
    kernels are those of a step that is not replayed (`tests/trainables/test_gpu.py` compares the training).

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
        self._graphs = CudaGraphCache() if replay and task.replayable else None
        self._names: list[str] = []  # the metrics of `_passes`, in order

    def __call__(self, batch: Batch, lr: float) -> dict[str, Tensor]:
        """Take one step and return the mean of each metric over the batch, as scalars on the device.

        Args:
            batch: Batch that the task has drawn, of the same shape at each step.
            lr: Learning rate of this step.
        """
        tensors = (batch.inputs, batch.targets, *batch.extras.values())
        names = tuple(batch.extras)

        def passes(inputs: Tensor, targets: Tensor, *extras: Tensor) -> Tensor:
            return self._passes(Batch(inputs, targets, dict(zip(names, extras, strict=True))))

        means = passes(*tensors) if self._graphs is None else self._graphs(passes, *tensors)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.task.after_step()
        return dict(zip(self._names, means.unbind(), strict=True))

    def _passes(self, batch: Batch) -> Tensor:
        """Compute the gradients and return the means of the metrics, float32 [M].

        The gradients of the capture are the tensors that each replay writes to.
        """
        self.optimizer.zero_grad(set_to_none=True)
        device = batch.inputs.device.type
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            output = self.model(batch)
        output.objective.backward()
        self._names = list(output.metrics)
        return torch.stack([samples.mean().float() for samples in output.metrics.values()])
