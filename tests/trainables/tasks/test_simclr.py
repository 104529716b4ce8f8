"""SimCLR: NT-Xent is equation 1 of Chen 2020, on one worker and on several."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.trainables.two_workers import run_both
from trainables.rng import generator
from trainables.tasks.simclr import nt_xent_logits
from trainables.testing.tasks import images, new_task, sample_batch


def projections(n: int, dim: int = 16) -> tuple[Tensor, Tensor]:
    stream = generator("cpu", 0, "projections")
    return torch.randn(n, dim, generator=stream), torch.randn(n, dim, generator=stream)


def nt_xent(first: Tensor, second: Tensor, temperature: float = 0.5) -> Tensor:
    logits, positives = nt_xent_logits(first, second, temperature, gather=False)
    return F.cross_entropy(logits, positives, reduction="none")


def equation_1(first: Tensor, second: Tensor, temperature: float) -> list[float]:
    """Return l(i, j) of Chen 2020, equation 1, for every view i and its partner j, one number at a time."""
    views = [*first.double(), *second.double()]
    n = len(first)

    def similarity(i: int, j: int) -> float:
        return float(views[i] @ views[j] / (views[i].norm() * views[j].norm()))

    losses = []
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = sum(math.exp(similarity(i, k) / temperature) for k in range(2 * n) if k != i)
        losses.append(-math.log(math.exp(similarity(i, partner) / temperature) / others))
    return losses


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_is_equation_1(temperature: float) -> None:
    first, second = projections(6)
    assert nt_xent(first, second, temperature).tolist() == pytest.approx(
        equation_1(first, second, temperature), rel=1e-5
    )


def test_a_view_is_never_compared_with_itself() -> None:
    logits, positives = nt_xent_logits(*projections(5), 0.5, gather=False)
    assert torch.equal(logits == -torch.inf, torch.eye(10, dtype=torch.bool))
    assert positives.tolist() == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]


def test_the_two_views_play_the_same_part() -> None:
    first, second = projections(6)
    torch.testing.assert_close(nt_xent(second, first), nt_xent(first, second).roll(6))


def test_only_directions_count() -> None:
    first, second = projections(6)
    torch.testing.assert_close(nt_xent(3 * first, 0.2 * second), nt_xent(first, second))


def test_projections_that_tell_nothing_stand_at_chance() -> None:
    chance = new_task("simclr").chance(4, training=True)
    assert chance == {"loss": pytest.approx(math.log(7)), "accuracy": pytest.approx(1 / 7)}
    orthogonal = torch.eye(8)
    torch.testing.assert_close(nt_xent(orthogonal[:4], orthogonal[4:]), torch.full((8,), math.log(7)))
    identical = torch.ones(4, 8)
    torch.testing.assert_close(nt_xent(identical, identical), torch.full((8,), math.log(7)))


def test_matching_views_are_found() -> None:
    task = new_task("simclr")
    task.encoder.forward = lambda views: views  # type: ignore[method-assign]
    task.projection_head = torch.nn.Identity()
    batch = sample_batch(task)
    perfect = batch._replace(inputs=torch.eye(8), targets=torch.eye(8))
    assert task(perfect).metrics["accuracy"].mean() == 1
    torn = perfect._replace(targets=torch.eye(8).roll(1, dims=0))
    assert task(torn).metrics["accuracy"].mean() == 0


def test_similarities_are_float32_under_autocast() -> None:
    first, second = projections(6)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = nt_xent_logits(first, second, 0.1, gather=False)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, nt_xent_logits(first, second, 0.1, gather=False)[0])


def test_views_are_two_different_draws_of_one_image() -> None:
    batch = sample_batch(new_task("simclr"))
    assert (batch.inputs != batch.targets).flatten(1).any(dim=1).all()
    shift = (batch.inputs - images()[:8] / 255).flatten(1)
    assert shift.abs().mean() < (batch.inputs - images()[:8].roll(1, dims=0) / 255).flatten(1).abs().mean()


def test_validation_views_leave_blur_out() -> None:
    assert new_task("simclr").validation_policy.keys() == {"crop_resize", "flip", "color_jitter", "gray"}


def test_workers_together_minimise_the_loss_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [view.requires_grad_() for view in projections(6)]
    expected = nt_xent(*whole).mean()
    gradients = torch.autograd.grad(expected, whole)

    parts = [F.normalize(view, dim=1).chunk(2) for view in whole]
    losses = []
    for rank in (0, 1):
        gathered = iter(parts)
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(torch.distributed.nn, "all_gather", lambda view, gathered=gathered: next(gathered))
        mine = [view.chunk(2)[rank] for view in whole]
        losses.append(F.cross_entropy(*nt_xent_logits(*mine, 0.5, gather=True)))
    total = (losses[0] + losses[1]) / 2  # DistributedDataParallel averages the workers' gradients
    torch.testing.assert_close(total, expected)
    for ours, theirs in zip(torch.autograd.grad(total, whole), gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


GATHERING = """
    import os
    import sys
    import torch
    import torch.distributed as dist
    from torch.nn import functional as F
    from trainables.tasks.simclr import nt_xent_logits

    rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    first, second = (view.chunk(2)[rank].clone().requires_grad_() for view in torch.load(sys.argv[4]))
    logits, positives = nt_xent_logits(first, second, 0.5, gather=True)
    loss = F.cross_entropy(logits, positives)
    (loss / 2).backward()  # DistributedDataParallel averages the workers' gradients
    torch.save({"loss": loss.detach(), "gradients": [first.grad, second.grad]}, f"{out}/{rank}.pt")
    dist.destroy_process_group()
    os._exit(0)  # as in tests.trainables.two_workers
"""


@pytest.mark.slow
def test_two_workers_see_each_others_negatives_with_gradients(tmp_path: Path) -> None:
    first, second = projections(6)
    torch.save((first, second), tmp_path / "views.pt")
    run_both(GATHERING, str(tmp_path / "store"), str(tmp_path), str(tmp_path / "views.pt"))
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]

    whole = [first.clone().requires_grad_(), second.clone().requires_grad_()]
    loss = nt_xent(*whole).mean()
    loss.backward()
    assert float((parts[0]["loss"] + parts[1]["loss"]) / 2) == pytest.approx(loss.item(), rel=1e-6)
    for view in (0, 1):
        gathered = torch.cat([part["gradients"][view] for part in parts])
        torch.testing.assert_close(gathered, whole[view].grad)
