"""The contract of encoders as tests."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from trainables.encoders import build_encoder, recalibrated
from trainables.rng import generator

SIDE = 32  # px


def pictures(n: int, side: int = SIDE, n_channels: int = 3) -> Tensor:
    """Return random images, uint8 [n, n_channels, side, side]."""
    return torch.randint(256, (n, n_channels, side, side), dtype=torch.uint8, generator=generator("cpu", 0, "pictures"))


class EncoderConformance:
    """Tests of the encoder called `name`, a registered one or `module:Class`."""

    @pytest.mark.parametrize("side", [SIDE, 48])
    def test_gives_one_finite_vector_per_image(self, name: str, side: int) -> None:
        encoder = build_encoder(name, width=4, image_size=side).eval()
        with torch.no_grad():
            features = encoder(pictures(2, side) / 255)
        assert features.shape == (2, encoder.feature_dim)
        assert features.dtype == torch.float32
        assert torch.isfinite(features).all()

    def test_treats_the_images_of_a_batch_separately_in_evaluation(self, name: str) -> None:
        encoder, images = build_encoder(name, width=4).eval(), pictures(3) / 255
        with torch.no_grad():
            torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]), rtol=1e-3, atol=1e-4)

    def test_gives_different_images_different_features(self, name: str) -> None:
        with torch.no_grad():
            features = recalibrated(build_encoder(name, width=4), pictures(32))(pictures(32) / 255)
        assert (features.std(dim=0) > 0).any()

    def test_is_initialized_by_its_seed_alone(self, name: str) -> None:
        torch.manual_seed(1)
        first = build_encoder(name, width=4, seed=3).state_dict()
        torch.manual_seed(2)
        before = torch.get_rng_state()
        again, other = (build_encoder(name, width=4, seed=seed).state_dict() for seed in (3, 4))
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(again[key], first[key]) for key in first)
        assert not all(torch.equal(other[key], first[key]) for key in first)

    def test_is_whole_in_its_state(self, name: str) -> None:
        trained, other = build_encoder(name, width=4, seed=1), build_encoder(name, width=4, seed=2)
        trained(pictures(8) / 255)  # moves the statistics of BatchNorm
        other.load_state_dict(trained.state_dict())
        with torch.no_grad():
            assert torch.equal(trained.eval()(pictures(2) / 255), other.eval()(pictures(2) / 255))

    def test_passes_a_gradient_to_every_parameter(self, name: str) -> None:
        encoder = build_encoder(name, width=4)
        encoder(pictures(8) / 255).square().sum().backward()
        untouched = [key for key, weight in encoder.named_parameters() if weight.requires_grad and weight.grad is None]
        assert not untouched, "DistributedDataParallel waits for every parameter"

    def test_can_be_copied_and_exported_for_any_number_of_images(self, name: str) -> None:
        encoder = copy.deepcopy(build_encoder(name, width=4)).eval()
        n_images = torch.export.Dim("n_images")
        program = torch.export.export(encoder, (torch.zeros(2, 3, SIDE, SIDE),), dynamic_shapes=({0: n_images},))
        images = pictures(5) / 255
        with torch.no_grad():
            torch.testing.assert_close(program.module()(images), encoder(images), rtol=1e-4, atol=1e-5)

    def test_describes_its_stages_if_it_has_any(self, name: str) -> None:
        encoder, images = build_encoder(name, width=4).eval(), pictures(2) / 255
        if not encoder.widths:
            pytest.skip("has no stages")
        with torch.no_grad():
            maps = encoder.stages(images)
            assert [each.shape[1] for each in maps] == list(encoder.widths)
            assert all(each.ndim == 4 for each in maps)
            for stage, expected in enumerate(maps, start=1):
                part = encoder.up_to(stage)
                assert part.feature_dim == expected.shape[1]
                torch.testing.assert_close(part(images), expected.mean(dim=(2, 3)))
