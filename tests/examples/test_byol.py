"""BYOL: the objective of Grill et al. 2020, and a target network that follows the online network and stays outside."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from tests.trainables.tiny import splits, trial
from trainables.encoders import build_encoder
from trainables.tasks import PretextTask
from trainables.testing.tasks import new_task, sample_batch, train
from trainables.training.loop import fit


def online(task: PretextTask) -> list[torch.Tensor]:
    return [weight.detach() for weight in (*task.encoder.parameters(), *task.projector.parameters())]


def target(task: PretextTask) -> list[torch.Tensor]:
    return [weight.detach() for weight in (*task.target_encoder.parameters(), *task.target_projector.parameters())]


def test_the_objective_is_equations_2_and_3_of_both_views() -> None:
    task = new_task("byol").eval()
    batch = sample_batch(task)
    q1, q2 = (task.predictor(task.projector(task.encoder(view))) for view in (batch.inputs, batch.targets))
    z1, z2 = (task.target_projector(task.target_encoder(view)) for view in (batch.inputs, batch.targets))
    expected = sum(
        (F.normalize(q, dim=1) - F.normalize(z, dim=1)).square().sum(dim=1).mean() for q, z in ((q1, z2), (q2, z1))
    )
    torch.testing.assert_close(task(batch).objective, expected)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_the_target_network_moves_by_what_the_momentum_leaves(momentum: float) -> None:
    task = new_task("byol", momentum=momentum)
    before = copy.deepcopy(target(task))
    assert all(torch.equal(one, other) for one, other in zip(before, online(task), strict=True))
    train(task, steps=1)
    for old, new, followed in zip(before, target(task), online(task), strict=True):
        torch.testing.assert_close(new, momentum * old + (1 - momentum) * followed)
    assert any(not torch.equal(old, followed) for old, followed in zip(before, online(task), strict=True))


def test_no_gradient_reaches_the_target_network() -> None:
    task = new_task("byol")
    task(sample_batch(task)).objective.backward()
    assert all(weight.grad is None for weight in task.target_encoder.parameters())
    assert all(weight.grad is not None for weight in task.predictor.parameters())


@pytest.mark.core
@pytest.mark.slow
def test_the_trained_encoder_is_the_online_network_alone() -> None:
    states = []
    config = trial("byol")
    trained = fit(config, splits(), lambda report: states.append(report.state()["task"]))
    bare = build_encoder("conv4", width=config.width, image_size=splits().pretext_train.image_size)
    assert trained.state_dict().keys() == bare.state_dict().keys()
    last = states[-1]
    for name, weight in trained.named_parameters():
        assert torch.equal(weight, last[f"encoder.{name}"])
        assert not torch.equal(weight, last[f"target_encoder.{name}"])


def test_a_constant_network_solves_the_objective_but_is_at_chance_in_every_metric() -> None:
    task = new_task("byol")
    for mlp in (task.target_projector, task.predictor):
        torch.nn.init.zeros_(mlp[-1].weight)
        torch.nn.init.ones_(mlp[-1].bias)
    output = task(sample_batch(task))
    assert output.objective.item() == pytest.approx(0, abs=1e-5)
    for name, level in task.chance(8, training=True).items():
        assert float(output.metrics[name].mean()) == pytest.approx(level, rel=1e-4)
