"""Optimizer updates of several networks at once: matrices with a row per network, each with its own numbers.

The formulas are those of `torch.optim.AdamW`, `torch.optim.SGD` with Nesterov momentum and `optimizers.LARS`. Rows
never meet, so a network that diverges leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainables.training.optimizers import LARS, trust_ratio
from trainables.training.parameter_rows import ParameterRows


@dataclass(frozen=True)
class Rule:
    """Update of one kind of optimizer.

    Attributes:
        slots: Names of its moments in the optimizer's state.
        update: Takes one step of a group in place.
        counts_steps: Whether the optimizer's state has the number of steps.
    """

    slots: tuple[str, ...]
    update: Callable[[ParameterRows], None]
    counts_steps: bool = False


def _adamw(group: ParameterRows) -> None:
    first, second = group.states["exp_avg"], group.states["exp_avg_sq"]
    beta1, beta2 = group.setting("betas")
    group.steps += 1
    lrs, decays, steps = group.numbers("lr"), group.numbers("weight_decay"), group.steps[:, 0].tolist()
    kept, length, scale = group.columns(
        [1 - lr * decay for lr, decay in zip(lrs, decays, strict=True)],
        [lr / (1 - beta1**step) for lr, step in zip(lrs, steps, strict=True)],
        [(1 - beta2**step) ** -0.5 for step in steps],
    )
    first.lerp_(group.gradients, 1 - beta1)
    second.mul_(beta2).addcmul_(group.gradients, group.gradients, value=1 - beta2)
    denominator = second.sqrt().mul_(scale).add_(group.setting("eps"))
    group.weights.mul_(kept).sub_(first.mul(length).div_(denominator))


def _sgd(group: ParameterRows) -> None:
    momentum, factor = group.states["momentum_buffer"], group.setting("momentum")
    lr, decay = group.columns(group.numbers("lr"), group.numbers("weight_decay"))
    gradient = torch.addcmul(group.gradients, group.weights, decay)
    momentum.mul_(factor).add_(gradient)
    group.weights.sub_(gradient.add_(momentum, alpha=factor).mul_(lr))


def _lars(group: ParameterRows) -> None:
    momentum = group.states["momentum_buffer"]
    lr, decay = group.columns(group.numbers("lr"), group.numbers("weight_decay"))
    update = torch.addcmul(group.gradients, group.weights, decay)
    if group.setting("adapt"):
        for weight, part in zip(group.weights.split(group.sizes, 1), update.split(group.sizes, 1), strict=True):
            part.mul_(trust_ratio(weight, part, group.setting("trust"), dim=1))
    momentum.mul_(group.setting("momentum")).add_(update.mul_(lr))
    group.weights.sub_(momentum)


RULES: dict[type[torch.optim.Optimizer], Rule] = {
    torch.optim.AdamW: Rule(("exp_avg", "exp_avg_sq"), _adamw, counts_steps=True),
    torch.optim.SGD: Rule(("momentum_buffer",), _sgd),
    LARS: Rule(("momentum_buffer",), _lars),
}
