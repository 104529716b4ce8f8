"""Memory of a training step: measured on a few images where it can only be estimated, or tried on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.augmentation import Augmentation
from trainables.devices import CUDA
from trainables.rng import generator
from trainables.tasks import Batch, PretextTask
from trainables.training.loop import build_task
from trainables.training.optimizers import build_optimizer, lr_at
from trainables.training.step import TrainingStep
from trainables.trial import TrialConfig

N_MEASURED = (2, 4)  # images whose memory is measured; a batch takes more in proportion
COPIES = 3  # values per trained weight: the weight, its gradient and a moment; AdamW has a second moment
FLOAT_BYTES = 4


def least_bytes(trial: TrialConfig, images: Tensor) -> int:
    """Return a lower bound of the memory that one optimizer step takes, in bytes.

    It counts the weights with their gradients and the optimizer's state, and what the forward pass saves for the
    backward pass, measured on a few images and continued as a line in the number of images. Intermediate results, the
    images of the data set and the process itself come on top.

    Args:
        trial: Configuration of the trial; its `batch_size` is the number of images of one worker.
        images: Some training images, [N, C, S, S].
    """
    task = _built(trial, images)
    few, more = (_saved_bytes(task, _drawn(trial, task, images[:count])) for count in N_MEASURED)
    activations = more + (trial.batch_size - N_MEASURED[1]) * (more - few) // (N_MEASURED[1] - N_MEASURED[0])
    copies = sum(weight.numel() * (COPIES if weight.requires_grad else 1) for weight in task.parameters())
    return FLOAT_BYTES * copies + activations


def _saved_bytes(task: PretextTask, batch: Batch) -> int:
    """Return how much the forward pass of a batch saves for the backward pass, besides the weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in (*task.parameters(), *task.buffers())}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        objective = task(batch).objective
    del objective  # until here, no storage has taken another one's place
    return sum(saved.values())


def try_step(trial: TrialConfig, images: Tensor, data_bytes: int, fraction: float) -> bool:
    """Return whether two optimizer steps fit on a GPU beside the images, on synthetic copies of a few of them.

    Args:
        trial: Configuration of the trial; its `batch_size` is the number of images of one worker.
        images: Some training images, [N, C, S, S], on the CPU.
        data_bytes: Size of the images that a trial keeps on the device, in bytes.
        fraction: Share of the GPU that the trial may use, in (0, 1].
    """
    device = torch.device(CUDA)
    torch.cuda.set_per_process_memory_fraction(fraction)
    try:
        kept = torch.empty(data_bytes, dtype=torch.uint8, device=device)
        batch = images[torch.arange(trial.batch_size) % len(images)].to(device)
        task = _built(trial, batch)
        take_step = TrainingStep(task, task, build_optimizer(task, trial), replay=True)
        for step in range(2):  # the second one has the optimizer's state, and is captured
            take_step(_drawn(trial, task, batch), lr_at(trial, step))
        torch.cuda.synchronize()
        del kept
    except torch.OutOfMemoryError:
        return False
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    return True


def _built(trial: TrialConfig, images: Tensor) -> PretextTask:
    task = build_task(trial, images.shape[-1], images.shape[1])
    return task.to(images.device).to(memory_format=torch.channels_last)


def _drawn(trial: TrialConfig, task: PretextTask, images: Tensor) -> Batch:
    augmentation = Augmentation(dict(trial.augmentation), trial.augmentation_strength)
    return task.draw(images, augmentation, generator(images.device, trial.seed, "augmentation", 0))
