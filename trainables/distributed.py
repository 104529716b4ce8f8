"""Statistics, besides gradients, that the workers of a trial share, so that several train exactly as one."""

from __future__ import annotations

import torch
import torch.distributed
import torch.distributed.nn
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm as SyncBatchNormFunction
from torch.nn.modules.batchnorm import _BatchNorm


def several_workers() -> bool:
    """Return whether this process is one of several that train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def worker_rank() -> int:
    """Return the rank of this process among the workers that train together; 0 for one alone."""
    return torch.distributed.get_rank() if several_workers() else 0


def gathered(values: Tensor) -> Tensor:
    """Return the rows of all workers in the order of their ranks, [N, ...], with gradients; every worker must call it.

    If every worker computes one loss from all rows, the mean of their gradients, which DistributedDataParallel takes,
    is the gradient that one worker alone would compute.

    Args:
        values: Rows of this worker, [n, ...], as many on each worker.
    """
    return torch.cat(torch.distributed.nn.all_gather(values)) if several_workers() else values


def mean_over_workers(values: Tensor) -> Tensor:
    """Return the mean over all workers of each value, without gradient; every worker must call it."""
    if not several_workers():
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


class CrossWorkerBatchNorm(_BatchNorm):
    """BatchNorm with statistics over the images of all workers.

    On a GPU it computes the same as PyTorch's SyncBatchNorm, which does not run on a CPU. All workers must call it at
    the same time with the same number of images. Modules inside it, such as the activation in a BatchNorm of timm, are
    applied to its output.

    Attributes:
        shared: Whether the statistics are shared in training mode. Set it to False for a plain BatchNorm where one
            worker runs alone.
    """

    shared = True

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept the inputs of BatchNorm1d and BatchNorm2d."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return inputs [N, C, ...] normalized per channel, after the modules inside."""
        outputs = self._normalized(inputs)
        for module in self.children():
            outputs = module(outputs)
        return outputs

    def _normalized(self, inputs: Tensor) -> Tensor:
        if not (self.training and self.shared and several_workers()):
            return super().forward(inputs)
        momentum = 0.0 if self.momentum is None else self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            if self.momentum is None:  # the average over all batches, as in PyTorch
                momentum = 1 / float(self.num_batches_tracked)
        workers, statistics = torch.distributed.get_world_size(), (self.running_mean, self.running_var)
        if inputs.is_cuda:
            settings = (self.eps, momentum, torch.distributed.group.WORLD, workers)
            return SyncBatchNormFunction.apply(inputs, self.weight, self.bias, *statistics, *settings)
        return self._on_cpu(inputs, workers, momentum)

    def _on_cpu(self, inputs: Tensor, workers: int, momentum: float) -> Tensor:
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        variance, mean = torch.var_mean(inputs, axes, correction=0)
        # Double precision: in single precision, the square of a mean far from 0 would cancel the variance.
        moments = torch.stack([mean, variance]).double()
        moments = torch.stack([moments[0], moments[1] + moments[0].square()])
        moments = torch.distributed.nn.all_reduce(moments) / workers
        mean, variance = moments[0].float(), (moments[1] - moments[0].square()).float()
        if self.running_mean is not None and self.running_var is not None:
            count = workers * inputs.numel() // inputs.shape[1]
            self.running_mean.lerp_(mean.detach(), momentum)
            self.running_var.lerp_(variance.detach() * count / (count - 1), momentum)
        shape = (1, -1, *[1] * (inputs.ndim - 2))
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        normalized = (inputs - mean.view(shape)) * scale.view(shape)
        return normalized if self.bias is None else normalized + self.bias.view(shape)


def synchronize_batchnorm(module: nn.Module) -> nn.Module:
    """Replace every BatchNorm inside a module by a CrossWorkerBatchNorm with the same parameters; return the module."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, _cross_worker(child))
        else:
            synchronize_batchnorm(child)
    return module


def _cross_worker(norm: _BatchNorm) -> CrossWorkerBatchNorm:
    replaced = CrossWorkerBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(replaced, name, getattr(norm, name))  # not copies: the optimizer refers to the parameters
    for name, child in norm.named_children():
        replaced.add_module(name, child)
    return replaced.train(norm.training)
