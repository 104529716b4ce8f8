"""Optimizers and schedule, compared with their formulas."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import nn

from tests.trainables.tiny import trial
from trainables.encoders import build_encoder
from trainables.training.optimizers import LARS, build_optimizer, lr_at

LR, MOMENTUM, TRUST = 2.0, 0.9, 1e-3


def stepped(
    weight: list[float], gradients: list[list[float]], *, weight_decay: float, adapt: bool = True
) -> list[float]:
    """Return a weight after LARS has taken one step for each gradient."""
    parameter = nn.Parameter(torch.tensor([weight], dtype=torch.float64))
    group = {"params": [parameter], "weight_decay": weight_decay, "adapt": adapt}
    optimizer = LARS([group], lr=LR, momentum=MOMENTUM, trust=TRUST)
    for gradient in gradients:
        parameter.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
    return parameter[0].tolist()


def test_lars_takes_the_step_of_the_paper() -> None:
    # You 2017, algorithm 1, without decay: v <- m v + lr * trust * |w| / |g| * g; w <- w - v.
    weight, velocity = [3.0, 4.0], [0.0, 0.0]
    gradients = [[0.0, 2.0], [1.0, 0.0]]
    for gradient in gradients:
        local_lr = TRUST * math.hypot(*weight) / math.hypot(*gradient)
        velocity = [MOMENTUM * v + LR * local_lr * g for v, g in zip(velocity, gradient, strict=True)]
        weight = [w - v for w, v in zip(weight, velocity, strict=True)]
    assert stepped([3.0, 4.0], gradients, weight_decay=0) == pytest.approx(weight, rel=1e-12)


def test_lars_decays_within_its_trust_as_simclr_does() -> None:
    weight, gradient, decay = [3.0, 4.0], [0.0, 2.0], 0.1
    update = [g + decay * w for g, w in zip(gradient, weight, strict=True)]
    local_lr = TRUST * math.hypot(*weight) / math.hypot(*update)
    expected = [w - LR * local_lr * u for w, u in zip(weight, update, strict=True)]
    assert stepped(weight, [gradient], weight_decay=decay) == pytest.approx(expected, rel=1e-12)


def test_the_step_of_lars_does_not_depend_on_the_scale_of_the_gradient() -> None:
    small, large = (stepped([3.0, 4.0], [[s, 2 * s]], weight_decay=0) for s in (1e-6, 1e6))
    assert small == pytest.approx(large, rel=1e-9)


def test_spared_weights_take_plain_sgd_steps() -> None:
    parameter = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    sgd = torch.optim.SGD([parameter], lr=LR, momentum=MOMENTUM)
    for _ in range(3):
        parameter.grad = torch.tensor([[0.0, 2.0]], dtype=torch.float64)
        sgd.step()
    assert stepped([3.0, 4.0], [[0.0, 2.0]] * 3, weight_decay=0, adapt=False) == pytest.approx(parameter[0].tolist())


def test_lars_starts_where_a_norm_is_zero() -> None:
    assert stepped([0.0, 0.0], [[1.0, 0.0]], weight_decay=0) == [-LR, 0.0]  # ratio 1, as at a head of zeros
    assert stepped([3.0, 4.0], [[0.0, 0.0]], weight_decay=0) == [3.0, 4.0]


def test_lars_leaves_weights_without_gradient_alone() -> None:
    parameter = nn.Parameter(torch.ones(2, 2))
    LARS([{"params": [parameter]}], lr=LR).step()
    assert torch.equal(parameter, torch.ones(2, 2))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_decay_spares_biases_and_normalization(name: str) -> None:
    model = nn.Sequential(build_encoder("conv4", width=4), nn.Linear(32, 4))
    optimizer = build_optimizer(model, trial(optimizer=name, weight_decay=0.3, lr=0.02))
    decay = {id(w): group["weight_decay"] for group in optimizer.param_groups for w in group["params"]}
    assert len(decay) == len(list(model.parameters()))
    for key, weight in model.named_parameters():
        spared = key.endswith("bias") or re.search(r"blocks\.\d\.1\.", key)  # a block's second module is its BatchNorm
        assert decay[id(weight)] == (0 if spared else 0.3), key
    assert all(group["lr"] == 0.02 for group in optimizer.param_groups)


def test_optimizers_are_those_that_are_asked_for() -> None:
    model = nn.Linear(3, 3)
    adamw, sgd, lars = (build_optimizer(model, trial(optimizer=name)) for name in ("adamw", "sgd", "lars"))
    assert type(adamw) is torch.optim.AdamW
    assert type(sgd) is torch.optim.SGD
    assert type(lars) is LARS
    assert all(group["momentum"] == 0.9 and group["nesterov"] for group in sgd.param_groups)
    assert [group["adapt"] for group in lars.param_groups] == [True, False]


def test_the_learning_rate_warms_up_and_falls_as_half_a_cosine() -> None:
    config = trial(lr=0.8, budget_steps=12, warmup_fraction=1 / 3)  # 4 steps up, 8 down
    expected = [0.2, 0.4, 0.6, 0.8] + [0.4 * (1 + math.cos(math.pi * i / 8)) for i in range(8)]
    assert [lr_at(config, step) for step in range(12)] == pytest.approx(expected)


@pytest.mark.parametrize(("fraction", "first", "last"), [(0.0, 1.0, 0.0245), (1.0, 0.1, 1.0)])
def test_the_schedule_holds_at_its_ends(fraction: float, first: float, last: float) -> None:
    config = trial(lr=1.0, budget_steps=10, warmup_fraction=fraction)
    assert lr_at(config, 0) == pytest.approx(first)
    assert lr_at(config, 9) == pytest.approx(last, abs=1e-3)
    assert all(0 < lr_at(config, step) <= 1 for step in range(10))
