"""The online probe's Newton path: the minima and the choice of L-BFGS, in less time."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.probes.linear import WEIGHT_DECAYS, Standardizer, lbfgs_path, linear_probe
from trainables.probes.newton import NewtonPath

Samples = tuple[Tensor, Tensor]


@functools.cache
def samples(*, classes: int = 10, dim: int = 96, spread: float = 3.0) -> tuple[Samples, Samples]:
    """Training and validation samples: correlated features of overlapping classes, like those of an encoder."""
    draw = torch.Generator().manual_seed(classes + dim)
    centers = torch.randn(classes, dim, generator=draw)
    mix = torch.randn(dim, dim, generator=draw) / dim**0.5

    def split(count: int) -> Samples:
        y = torch.arange(count) % classes
        return (centers[y] + spread * torch.randn(count, dim, generator=draw)) @ mix, y

    return split(1500), split(1000)


def objective(x: Tensor, y: Tensor, weight_decay: float, weight: Tensor, bias: Tensor) -> float:
    penalty = 0.5 * weight_decay * weight.double().square().sum()
    return float(F.cross_entropy(F.linear(x, weight, bias).double(), y) + penalty)


def test_each_solution_is_within_a_thousandth_of_a_nat_of_l_bfgs() -> None:
    (x, y), _ = samples()
    z = Standardizer(x)(x)
    for newton, lbfgs in zip(NewtonPath()(z, y, 10), lbfgs_path(z, y, 10), strict=True):
        assert newton[0] == lbfgs[0]
        assert objective(z, y, *newton) == pytest.approx(objective(z, y, *lbfgs), abs=1e-3)


@pytest.mark.parametrize(
    "shape", [{}, {"spread": 1.0}, {"dim": 400, "spread": 6.0}, {"classes": 2}, {"classes": 40, "dim": 20}]
)
def test_the_accuracy_is_within_one_prediction_of_l_bfgs(shape: dict) -> None:
    train, validation = samples(**shape)
    fitted = [
        linear_probe(*train, *validation, n_classes=shape.get("classes", 10), path=path).validation.top1
        for path in (lbfgs_path, NewtonPath())
    ]
    assert abs(fitted[0] - fitted[1]) * len(validation[1]) <= 1.001


def test_separable_data_and_constant_features_have_finite_solutions() -> None:
    y = torch.arange(200) % 2
    x = F.pad(100.0 * (2.0 * y - 1)[:, None], (0, 3), value=5.0)
    solutions = list(NewtonPath()(Standardizer(x)(x), y, 2))
    assert [weight_decay for weight_decay, *_ in solutions] == list(WEIGHT_DECAYS)
    for _, weight, bias in solutions:
        assert torch.isfinite(weight).all()
        assert torch.isfinite(bias).all()
        assert torch.equal(F.linear(Standardizer(x)(x), weight, bias).argmax(dim=1), y)
