"""Each op, compared with torchvision's functional one."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torch import Tensor

from tests.trainables.smooth_images import SIDE, N, seeded, smooth_images, values
from trainables.augmentation import Augmentation, geometry, pixels
from trainables.data.table import to_float
from trainables.tasks.rotation import quarter_turns


def one_by_one(images: Tensor, function, *parameters: Tensor) -> Tensor:
    """Apply a torchvision function to each image with its own parameters."""
    rows = zip(images, *(parameter.tolist() for parameter in parameters), strict=True)
    return torch.stack([function(image, *arguments) for image, *arguments in rows])


def test_crop_resize_is_torchvisions_resized_crop() -> None:
    images = to_float(smooth_images())
    top, left = values(0, 3, 10, 31, 0, 7), values(0, 5, 2, 0, 31, 1)
    height, width = values(32, 20, 22, 1, 32, 9), values(32, 12, 30, 32, 1, 2)
    plain = geometry.identity_positions(N, SIDE)
    ours = geometry.resample(images, geometry.crop(plain, top, height, SIDE), geometry.crop(plain, left, width, SIDE))

    def theirs(antialias: bool) -> Tensor:
        def crop(image: Tensor, *box: float) -> Tensor:
            return tv.resized_crop(image, *map(int, box), [SIDE, SIDE], antialias=antialias)

        return one_by_one(images, crop, top, left, height, width)

    torch.testing.assert_close(ours, theirs(antialias=False), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours, theirs(antialias=True), atol=1e-5, rtol=0)


def test_flip_is_torchvisions_to_the_bit_and_only_where_asked() -> None:
    images = to_float(smooth_images())
    plain = geometry.identity_positions(N, SIDE)
    flipped = torch.tensor([True, False, True, False, False, True])
    ours = geometry.resample(images, plain, geometry.flip(plain, flipped, SIDE))
    assert torch.equal(ours[flipped], tv.horizontal_flip(images[flipped]))
    assert torch.equal(ours[~flipped], images[~flipped])


def test_translate_is_torchvisions_affine_with_reflected_borders() -> None:
    images = to_float(smooth_images())
    down, right = values(0, 8, -8, 3, -1, 5), values(0, -8, 8, -2, 7, 5)
    plain = geometry.identity_positions(N, SIDE)
    ours = geometry.resample(images, geometry.translate(plain, down, SIDE), geometry.translate(plain, right, SIDE))

    def shift(image: Tensor, dy: float, dx: float) -> Tensor:
        padded = tv.pad(image, [8, 8, 8, 8], padding_mode="reflect")
        moved = tv.affine(padded, angle=0, translate=[int(dx), int(dy)], scale=1, shear=[0, 0])
        return tv.center_crop(moved, [SIDE, SIDE])

    reference = one_by_one(images, shift, down, right)
    inner = slice(8, -8)
    assert torch.equal(ours[:, :, inner, inner], reference[:, :, inner, inner])
    for image, view, dy, dx in zip(images, ours, down.int().tolist(), right.int().tolist(), strict=True):
        padded = tv.pad(image, [8, 8, 8, 8], padding_mode="reflect")
        assert torch.equal(view, tv.crop(padded, 8 - dy, 8 - dx, SIDE, SIDE))


def test_geometry_composes_in_the_order_crop_flip_translate() -> None:
    images = to_float(smooth_images(1))
    plain = geometry.identity_positions(1, SIDE)
    columns = geometry.translate(plain, values(4), SIDE)
    columns = geometry.flip(columns, torch.tensor([True]), SIDE)
    columns = geometry.crop(columns, values(6), values(16), SIDE)
    ours = geometry.resample(images, plain, columns)
    step_by_step = tv.horizontal_flip(tv.resized_crop(images, 0, 6, SIDE, 16, [SIDE, SIDE], antialias=False))
    step_by_step = tv.crop(tv.pad(step_by_step, [4, 0, 4, 0], padding_mode="reflect"), 0, 0, SIDE, SIDE)
    torch.testing.assert_close(ours, step_by_step, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (pixels.adjust_brightness, tv.adjust_brightness),
        (pixels.adjust_contrast, tv.adjust_contrast),
        (pixels.adjust_saturation, tv.adjust_saturation),
    ],
    ids=["brightness", "contrast", "saturation"],
)
def test_color_factors_are_torchvisions(ours, theirs) -> None:
    images = to_float(smooth_images())
    factor = values(0, 0.2, 0.7, 1, 1.4, 1.8)
    torch.testing.assert_close(ours(images, factor), one_by_one(images, theirs, factor), atol=1e-6, rtol=0)


def test_hue_is_torchvisions() -> None:
    images = to_float(smooth_images())
    images[0, :, :8] = 0.5  # gray, black and pure colors have a hue of their own
    images[0, :, 8:16] = 0
    images[1, 1:, :8] = 0
    images[1, :2, 8:16] = 1
    shift = values(0.25, -0.5, 0.5, 0, -0.1, 0.2)
    torch.testing.assert_close(
        pixels.adjust_hue(images, shift), one_by_one(images, tv.adjust_hue, shift), atol=1e-5, rtol=0
    )


def test_gray_is_torchvisions_and_only_where_asked() -> None:
    images = to_float(smooth_images())
    grayed = torch.tensor([True, False, True, False, False, True])
    ours = pixels.to_gray(images, grayed)
    torch.testing.assert_close(ours[grayed], tv.rgb_to_grayscale(images[grayed], 3), atol=1e-6, rtol=0)
    assert torch.equal(ours[~grayed], images[~grayed])


@pytest.mark.parametrize("side", [16, 32])
def test_blur_is_torchvisions_with_reflected_borders(side: int) -> None:
    images = to_float(smooth_images(side=side))
    sigma = values(0.1, 0.3, 0.8, 1.5, 2, 4)
    radius = 15  # the largest that the smaller image allows

    def blur(image: Tensor, s: float) -> Tensor:
        return tv.gaussian_blur(image, kernel_size=[2 * radius + 1] * 2, sigma=[s, s])

    torch.testing.assert_close(
        pixels.gaussian_blur(images, sigma, radius), one_by_one(images, blur, sigma), atol=1e-5, rtol=0
    )
    assert torch.equal(pixels.gaussian_blur(images, torch.zeros(N), radius), images)


def test_erase_is_torchvisions_and_a_box_of_no_height_erases_nothing() -> None:
    images = to_float(smooth_images())
    top, left = values(0, 3, 10, 31, 0, 7), values(0, 5, 2, 0, 31, 1)
    height, width = values(32, 20, 22, 1, 32, 0), values(32, 12, 30, 32, 1, 2)
    color = torch.rand(N, 3, generator=seeded())
    ours = pixels.erase(images, top, left, height, width, color)

    def erase(image: Tensor, y: float, x: float, h: float, w: float, rgb: list[float]) -> Tensor:
        return tv.erase(image, int(y), int(x), int(h), int(w), torch.tensor(rgb)[:, None, None])

    assert torch.equal(ours, one_by_one(images, erase, top, left, height, width, color))


def test_noise_has_the_given_deviation_and_stays_within_range() -> None:
    images = torch.full((2, 3, 64, 64), 0.5)
    field = torch.randn(images.shape, generator=seeded())
    noisy = pixels.add_noise(images, field, values(0, 0.1))
    assert torch.equal(noisy[0], images[0])
    assert noisy[1].std().item() == pytest.approx(0.1, rel=0.03)
    assert pixels.add_noise(images, 100 * field, values(1, 1)).aminmax() == (0, 1)


def test_a_vertical_flip_is_torchvisions_to_the_bit_and_happens_with_half_the_magnitude() -> None:
    images = smooth_images(1).expand(2000, -1, -1, -1)
    views = Augmentation({"vertical_flip": 0.5})(images, seeded())
    plain = to_float(images[:1])
    flipped = (views == tv.vertical_flip(plain)).flatten(1).all(dim=1)
    assert torch.equal(views[~flipped], plain.expand(int((~flipped).sum()), -1, -1, -1))
    assert flipped.float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_quarter_turns_are_those_of_the_rotation_task_each_with_a_quarter_of_the_magnitude() -> None:
    images = smooth_images(1).expand(4000, -1, -1, -1)
    views = Augmentation({"quarter_turn": 0.8})(images, seeded())
    turns = torch.cat(quarter_turns(to_float(images[:1])))
    is_turn = (views[:, None] == turns).flatten(2).all(dim=2).float()
    assert is_turn.sum(dim=1).eq(1).all()
    torch.testing.assert_close(is_turn.mean(dim=0), values(0.4, 0.2, 0.2, 0.2), atol=0.03, rtol=0)


def test_a_displacement_that_is_the_same_everywhere_is_a_translation() -> None:
    images = to_float(smooth_images())
    nodes = torch.zeros(N, 2, 5, 5)
    nodes[:, 0], nodes[:, 1] = 3, -2
    inner = geometry.deform(images, nodes)[:, :, 4:-4, 4:-4]
    torch.testing.assert_close(inner, images[:, :, 7 : SIDE - 1, 2 : SIDE - 6], atol=1e-4, rtol=0)


def test_elastic_deformation_is_smooth_and_moves_pixels_as_far_as_it_says() -> None:
    ramp = torch.linspace(0, 1, SIDE).expand(SIDE, SIDE)  # a pixel's value is its column
    images = (255 * ramp).round().to(torch.uint8).expand(500, 3, -1, -1)
    moved = (Augmentation({"elastic": 1.0})(images, seeded())[:, 0] - images[:, 0] / 255) * (SIDE - 1)
    inner = moved[:, 8:-8, 8:-8]
    node = inner[:, 16 - 8 - 1 : 16 - 8 + 1, 16 - 8 - 1 : 16 - 8 + 1].mean(dim=(1, 2))  # the middle of the grid
    assert node.std().item() == pytest.approx(0.04 * SIDE, rel=0.15)
    assert (inner.diff(dim=2) > -1).float().mean() > 0.999  # neighbors keep their order: nothing is folded


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("op", ["vertical_flip", "quarter_turn", "elastic"])
def test_ops_without_an_upright_side_take_images_of_any_number_of_channels(op: str, channels: int) -> None:
    one = smooth_images(16)[:, :1]
    views = Augmentation({op: 1.0})(one.expand(-1, channels, -1, -1), seeded())
    assert views.shape == (16, channels, SIDE, SIDE)
    torch.testing.assert_close(views, Augmentation({op: 1.0})(one, seeded()).expand_as(views))


@pytest.mark.parametrize("op", ["vertical_flip", "quarter_turn", "elastic"])
def test_ops_without_an_upright_side_go_further_the_same_way_at_twice_the_strength(op: str) -> None:
    images = smooth_images(400)
    weak, strong = (Augmentation({op: 1.0}, strength)(images, seeded()) for strength in (0.5, 1.0))
    moved = [(views != images / 255).flatten(1).any(dim=1) for views in (weak, strong)]
    if op != "elastic":  # the images that are changed already are changed in the same way
        assert torch.equal(strong[moved[0]], weak[moved[0]])
        assert 1.6 < moved[1].sum() / moved[0].sum() < 2.5
    else:
        assert (strong - images / 255).abs().mean() > 1.5 * (weak - images / 255).abs().mean()
