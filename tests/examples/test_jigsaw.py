"""Jigsaw puzzles: the permutations of the paper, and tiles that are shown in their order."""

from __future__ import annotations

import pytest
import torch

from trainables.augmentation import Augmentation
from trainables.errors import ConfigError
from trainables.rng import generator
from trainables.testing.tasks import new_task


def test_permutations_are_distinct_and_far_apart() -> None:
    orders = new_task("jigsaw", grid=3, permutations=50).orders
    different = (orders[:, None] != orders[None]).sum(dim=2).float()
    assert (orders.sort(dim=1).values == torch.arange(9)).all()
    assert different[~torch.eye(50, dtype=torch.bool)].mean() > 8.1  # 8 for permutations drawn at random
    assert len(orders.unique(dim=0)) == 50
    assert len(new_task("jigsaw").orders.unique(dim=0)) == 24


def test_tiles_are_shown_in_the_order_of_the_target() -> None:
    task = new_task("jigsaw", normalize=False)
    half = task.image_size // 2
    levels = torch.tensor([0, 60, 120, 240], dtype=torch.uint8)  # of the four tiles, row by row
    picture = levels.view(2, 2).repeat_interleave(half, dim=0).repeat_interleave(half, dim=1)
    batch = task.draw(picture.expand(16, 3, -1, -1).contiguous(), Augmentation({}), generator("cpu", 0, "jigsaw"))
    shown = (batch.inputs.mean(dim=(1, 2, 3)) * 255).round().view(16, 4)
    inside = batch.inputs.flatten(1)
    assert torch.equal(shown, levels.float()[task.orders[batch.targets]])
    torch.testing.assert_close(inside.amax(dim=1), inside.amin(dim=1))  # no tile reaches into another cell


def test_its_options_are_refused_where_there_are_not_so_many_permutations() -> None:
    with pytest.raises(ConfigError, match=r"task_options\.jigsaw\.permutations = 25: 4 tiles have 24"):
        new_task("jigsaw", permutations=25)
