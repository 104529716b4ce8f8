"""Augmentation of images that are not RGB: color ops are off or work per channel, and all others are the same."""

from __future__ import annotations

import pytest
import torch

from tests.trainables.smooth_images import seeded, smooth_images
from trainables.augmentation import OPS, Augmentation
from trainables.data.table import to_float


def of_channels(n_channels: int) -> torch.Tensor:
    """Return smooth images with equal channels, uint16 [N, C, S, S]."""
    gray = smooth_images()[:, :1].int() * 257
    return gray.expand(-1, n_channels, -1, -1).to(torch.uint16)


@pytest.mark.parametrize("n_channels", [1, 2, 5])
@pytest.mark.parametrize("op", OPS)
def test_every_op_takes_any_number_of_channels(op: str, n_channels: int) -> None:
    images = of_channels(n_channels)
    views = Augmentation({op: 1.0})(images, seeded())
    assert views.shape == images.shape
    assert views.min() >= 0
    assert views.max() <= 1
    assert torch.equal(views, to_float(images)) == (op == "gray")


def test_geometry_is_that_of_color_images() -> None:
    policy = {"crop_resize": 1.0, "flip": 1.0, "translate": 0.5, "blur": 1.0}
    three, five = (Augmentation(policy)(of_channels(n), seeded()) for n in (3, 5))
    assert torch.equal(five[:, :3], three)


def test_jitter_changes_brightness_and_contrast_of_all_channels_together() -> None:
    views = Augmentation({"color_jitter": 1.0})(of_channels(5), seeded())
    assert torch.allclose(views, views[:, :1].expand_as(views), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_a_view_is_the_same_whatever_the_type_of_the_image(dtype: torch.dtype) -> None:
    policy = dict.fromkeys(OPS, 0.5)
    images = smooth_images() if dtype == torch.uint8 else (smooth_images().int() * 257).to(dtype)
    views = Augmentation(policy)(images, seeded())
    assert torch.allclose(views, Augmentation(policy)(to_float(images), seeded()), atol=1e-6)
    assert torch.allclose(views, Augmentation(policy)(smooth_images(), seeded()), atol=1e-5)
