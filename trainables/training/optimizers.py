"""Optimizers and the learning-rate schedule, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trainables.trial import TrialConfig


def build_optimizer(task: nn.Module, trial: TrialConfig) -> torch.optim.Optimizer:
    """Return the trial's optimizer, without weight decay on biases and normalization."""
    decayed = [weight for weight in task.parameters() if weight.requires_grad and weight.ndim > 1]
    undecayed = [weight for weight in task.parameters() if weight.requires_grad and weight.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": trial.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    if trial.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=trial.lr)
    if trial.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=trial.lr, momentum=0.9, nesterov=True)
    groups[1]["adapt"] = False
    return LARS(groups, lr=trial.lr)


def lr_at(trial: TrialConfig, step: int) -> float:
    """Return the learning rate of a step in 0 .. budget_steps - 1: linear warm-up, then cosine decay to 0."""
    warmup = round(trial.warmup_fraction * trial.budget_steps)
    if step < warmup:
        return trial.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, trial.budget_steps - warmup)
    return trial.lr * 0.5 * (1 + math.cos(math.pi * progress))


class LARS(torch.optim.Optimizer):
    """SGD with momentum and layer-wise adaptive rates (You 2017, arXiv:1708.03888), which PyTorch does not have.

    As in SimCLR's code, the trust ratio uses the norm of the sum of gradient and decay, where the paper adds their
    norms. Groups with `adapt=False` (biases, normalization) take plain SGD steps, as in SimCLR.

    Args:
        groups: Parameters or parameter groups.
        lr: Learning rate.
        momentum: Momentum.
        trust: Trust coefficient.
    """

    def __init__(self, groups: Iterable[Any], lr: float, momentum: float = 0.9, trust: float = 1e-3) -> None:
        defaults = {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0, "adapt": True}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step. `closure` is not called."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                update = weight.grad.add(weight, alpha=group["weight_decay"])
                if group["adapt"]:
                    update = update * trust_ratio(weight, update, group["trust"])
                momentum = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
                momentum.mul_(group["momentum"]).add_(update, alpha=group["lr"])
                weight.sub_(momentum)


def trust_ratio(weight: Tensor, update: Tensor, trust: float, dim: int | None = None) -> Tensor:
    """Return trust * |w| / |u|, or 1 if either norm is zero, as a tensor, to avoid waiting for the device.

    Args:
        weight: Weights.
        update: Their update, of the same shape.
        trust: Trust coefficient.
        dim: Dimension of the norms, which is kept; None for those of the whole tensors.
    """
    weight_norm, update_norm = (each.norm(dim=dim, keepdim=dim is not None) for each in (weight, update))
    ratio = trust * weight_norm / update_norm
    return torch.where((weight_norm > 0) & (update_norm > 0), ratio, 1.0)
