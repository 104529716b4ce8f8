"""Encoders: shapes of the stages, stems, seeds, and statistics of the probed images."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainables.data.table import to_float
from trainables.encoders import Encoder, build_encoder, recalibrated
from trainables.errors import ConfigError
from trainables.rng import generator


def pictures(n: int, side: int = 16, seed: int = 0) -> Tensor:
    return torch.randint(256, (n, 3, side, side), dtype=torch.uint8, generator=generator("cpu", seed, "pictures"))


def trained(width: int = 4) -> Encoder:
    """Return an encoder whose statistics are of other images, as after a pretext task."""
    encoder = build_encoder("conv4", width=width)
    for seed in range(3):
        encoder(0.2 * to_float(pictures(32, seed=100 + seed)))
    return encoder.train()


@pytest.mark.parametrize(
    ("name", "side", "widths", "sides"),
    [
        ("conv4", 32, [6, 12, 24, 48], [32, 16, 8, 4]),
        ("resnet18", 32, [64, 128, 256, 512], [32, 16, 8, 4]),  # the stem keeps the resolution of a small image
        ("resnet18", 63, [64, 128, 256, 512], [63, 32, 16, 8]),
        ("resnet18", 64, [64, 128, 256, 512], [16, 8, 4, 2]),  # but not the resolution of a larger one
        ("resnet50", 32, [256, 512, 1024, 2048], [32, 16, 8, 4]),
    ],
)
def test_stages_have_the_widths_and_sides_of_the_paper(name: str, side: int, widths: list, sides: list) -> None:
    encoder = build_encoder(name, width=6, image_size=side).eval()
    with torch.no_grad():
        stages = encoder.stages(torch.rand(1, 3, side, side))
        features = encoder(torch.rand(2, 3, side, side))
    assert [tuple(stage.shape) for stage in stages] == [(1, w, s, s) for w, s in zip(widths, sides, strict=True)]
    assert encoder.widths == tuple(widths)
    assert features.shape == (2, encoder.feature_dim) == (2, widths[-1])


@pytest.mark.parametrize("side", [8, 9, 20, 33, 96])
@pytest.mark.parametrize("name", ["conv4", "resnet18"])
def test_an_encoder_takes_images_of_any_side(name: str, side: int) -> None:
    with torch.no_grad():
        features = build_encoder(name, width=4).eval()(torch.rand(2, 3, side, side))
    assert features.shape[0] == 2
    assert torch.isfinite(features).all()


def test_features_are_the_last_stage_averaged_over_space() -> None:
    encoder, images = build_encoder("conv4", width=4).eval(), torch.rand(3, 3, 20, 20)
    torch.testing.assert_close(encoder(images), encoder.stages(images)[-1].mean(dim=(2, 3)))


def test_an_encoder_normalizes_its_images_itself() -> None:
    seen: list[Tensor] = []
    encoder = build_encoder("conv4", width=4)
    encoder.blocks[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    encoder(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 8, 8))
    assert seen[0][:, 0, 0, 0].tolist() == [-2, 0, 2]


@pytest.mark.parametrize("name", ["conv4", "resnet18"])
def test_weights_follow_the_seed_and_nothing_else(name: str) -> None:
    torch.manual_seed(1)
    first = build_encoder(name, seed=3).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, other = build_encoder(name, seed=3).state_dict(), build_encoder(name, seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(again[key], first[key]) for key in first)
    key = next(key for key, weight in first.items() if weight.ndim == 4)
    assert not torch.equal(other[key], first[key])


def test_activations_keep_their_scale_through_the_untrained_layers() -> None:
    encoder = build_encoder("conv4", width=16)  # in training mode, as at step 0
    for stage in encoder.stages(torch.rand(64, 3, 32, 32)):
        assert 0.3 < stage.std() < 1.5


def test_an_unknown_encoder_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        ConfigError,
        match=r"encoder.name = 'vit': no such encoder; known: conv4, resnet18, resnet50, timm/NAME or module:Class",
    ):
        build_encoder("vit")


# --- recalibration -----------------------------------------------------------------------------------------------


def test_statistics_become_those_of_the_images() -> None:
    encoder, images = trained(), pictures(100)
    calibrated = recalibrated(encoder, images)
    hidden = (to_float(images) - 0.5) / 0.25
    for block, original in zip(calibrated.blocks, encoder.blocks, strict=True):
        assert isinstance(original, nn.Sequential)
        convolved, norm = original[0](hidden), block[1]
        torch.testing.assert_close(norm.running_mean, convolved.mean(dim=(0, 2, 3)), rtol=5e-3, atol=1e-4)
        torch.testing.assert_close(norm.running_var, convolved.var(dim=(0, 2, 3)), rtol=5e-3, atol=1e-4)
        hidden = block(hidden)


def test_a_recalibrated_encoder_sees_images_as_one_batch_of_training_would() -> None:
    encoder, images = trained(), pictures(100)
    with torch.no_grad():
        found = recalibrated(encoder, images)(to_float(images))
        expected = encoder(to_float(images))
    torch.testing.assert_close(found, expected, rtol=5e-3, atol=5e-3)


def test_the_original_is_left_as_it_was() -> None:
    encoder = trained()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    calibrated = recalibrated(encoder, pictures(40))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())
    assert encoder.training
    assert not any(module.training for module in calibrated.modules())
    weights = zip(encoder.parameters(), calibrated.parameters(), strict=True)
    assert all(torch.equal(mine, copied) and mine is not copied for mine, copied in weights)


def test_what_was_seen_before_does_not_matter() -> None:
    images = pictures(40)
    from_trained, from_fresh = recalibrated(trained(), images), recalibrated(build_encoder("conv4", width=4), images)
    for key, value in from_trained.state_dict().items():
        assert torch.equal(value, from_fresh.state_dict()[key])


@pytest.mark.parametrize("n", [65, 70, 128])
def test_every_image_counts_alike_whatever_the_batches(n: int) -> None:
    images = pictures(n)
    images[64:] //= 4  # were these few dark ones a batch of their own, they would count for half
    at_once, in_batches = (recalibrated(trained(), images, batch_size=size) for size in (n, 64))
    expected, found = at_once.blocks[0][1].running_mean, in_batches.blocks[0][1].running_mean
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.02)


def test_an_encoder_up_to_a_stage_gives_that_stages_features() -> None:
    encoder = build_encoder("conv4", width=4).eval()
    images = torch.rand(3, 3, 16, 16)
    for stage, features in enumerate(encoder.stages(images), start=1):
        part = encoder.up_to(stage)
        assert part.feature_dim == features.shape[1]
        assert not part.training
        torch.testing.assert_close(part(images), features.mean(dim=(2, 3)), rtol=0, atol=0)


def test_dropout_is_off_while_an_encoder_is_recalibrated() -> None:
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state, images = torch.get_rng_state(), pictures(40)
    first, second = (recalibrated(network, images)[2].running_var for _ in range(2))  # type: ignore[arg-type,index]
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state), "a probe must not change the random numbers of training"
