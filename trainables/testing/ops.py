"""The contract of augmentation ops as tests."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainables.augmentation import REGISTRY, Augmentation, policy
from trainables.data import shapes
from trainables.data.table import as_tensor, to_float
from trainables.rng import generator

SIDE, N = 32, 16


def scenes(n: int = N) -> Tensor:
    """Return scenes of the built-in data set, uint8 [n, 3, SIDE, SIDE]."""
    return as_tensor(shapes.generate(n, split="train", image_size=SIDE).images)


def views(magnitudes: dict[str, float], seed: int = 0, images: Tensor | None = None) -> Tensor:
    """Return the views that a policy makes of the scenes, or of other images."""
    return Augmentation(magnitudes)(scenes() if images is None else images, generator("cpu", seed, "op"))


class OpConformance:
    """Tests of the augmentation op called `name`."""

    def test_gives_views_of_the_same_form(self, name: str) -> None:
        found = views({name: 1.0})
        assert found.shape == (N, 3, SIDE, SIDE)
        assert found.dtype == torch.float32
        assert torch.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() <= 1

    def test_changes_nothing_at_magnitude_0_and_something_at_1(self, name: str) -> None:
        assert torch.equal(views({name: 0.0}), to_float(scenes()))
        assert any(not torch.equal(views({name: 1.0}, seed), to_float(scenes())) for seed in range(4))

    def test_changes_less_at_a_small_magnitude(self, name: str) -> None:
        original = to_float(scenes())
        change = {
            m: torch.stack([(views({name: m}, seed) - original).abs().mean() for seed in range(8)]).mean()
            for m in (0.1, 1.0)
        }
        assert change[0.1] < change[1.0]

    def test_draws_by_its_generator_alone(self, name: str) -> None:
        torch.manual_seed(1)
        first = views({name: 1.0})
        torch.manual_seed(2)
        before = torch.get_rng_state()
        assert torch.equal(views({name: 1.0}), first)
        assert torch.equal(torch.get_rng_state(), before)

    def test_draws_its_own_numbers_so_that_other_ops_are_as_without_it(self, name: str) -> None:
        generators = [generator("cpu", 0, "op") for _ in range(2)]
        for magnitudes, stream in zip(({}, {name: 1.0}), generators, strict=True):
            Augmentation(magnitudes)(scenes(), stream)
        assert torch.equal(*(stream.get_state() for stream in generators))
        assert name in REGISTRY.built_in or REGISTRY[name].shared == 0

    def test_treats_each_image_by_itself_whatever_the_chunks(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        in_chunks = []
        for size in (1, N):
            monkeypatch.setattr(policy, "_chunk_size", lambda images, size=size: size)
            in_chunks.append(views({name: 1.0}))
        torch.testing.assert_close(*in_chunks)

    def test_leaves_the_images_it_is_given_untouched(self, name: str) -> None:
        images = scenes()
        views({name: 1.0}, images=images)
        assert torch.equal(images, scenes())
