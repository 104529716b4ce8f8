"""Intensity windows: features tell content, not the bits of a camera, and new images are scaled like the old."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.intensity import LOW_16, Depth, Intensity, depth_of, find_intensity
from trainables.data.readers.images import ImageReader
from trainables.data.readers.pixels import Pixels, read_scaled
from trainables.errors import ConfigError

SIDE, N = 16, 40


def content(n: int = N, *shape: int) -> np.ndarray:
    """Return images with values in [0.05, 0.9] of very different brightness, float64 [n, *shape]."""
    rng = np.random.default_rng(0)
    shape = shape or (SIDE, SIDE)
    level = rng.uniform(0.05, 0.5, (n, *[1] * len(shape)))
    return level + rng.uniform(0, 0.4, (n, *shape))


def read(folder: Path, **options: object) -> Pixels:
    paths = sorted(folder.iterdir())
    given: dict = {"n_train": len(paths) * 3 // 4, "name": "photos", "root": folder, "on_bad_image": "stop"}
    return read_scaled(paths, ImageReader(SIDE), **given | options)


def in_unit_range(pixels: Pixels) -> np.ndarray:
    assert pixels.images.dtype == np.uint16
    return pixels.images / 65_535


@pytest.mark.parametrize(("bits", "levels"), [(10, 500), (12, 2000), (16, 5000)])
def test_the_range_of_the_set_is_used_with_all_its_levels(tmp_path: Path, bits: int, levels: int) -> None:
    for index, image in enumerate(content()):
        Image.fromarray((image * (2**bits - 1)).astype(np.uint16)).save(tmp_path / f"{index:02}.png")
    pixels = read(tmp_path)
    scaled = in_unit_range(pixels)
    assert pixels.intensity is not None
    assert [window.bits for window in pixels.intensity.windows] == [bits]
    assert scaled.min() == 0
    assert scaled.max() == 1
    assert len(np.unique(scaled)) > levels
    expected = content()
    assert np.corrcoef(scaled[:, 0].ravel(), expected.ravel())[0, 1] > 0.999


def test_files_of_two_depths_are_equal_where_their_content_is(tmp_path: Path) -> None:
    for index, image in enumerate(np.repeat(content(), 2, axis=0)):
        top = 4095 if index % 2 else 65535
        Image.fromarray((image * top).astype(np.uint16)).save(tmp_path / f"{index:02}.tif")
    pixels = read(tmp_path)
    scaled = in_unit_range(pixels)
    assert [window.bits for window in pixels.intensity.windows] == [12, 16]  # type: ignore[union-attr]
    assert np.abs(scaled[::2] - scaled[1::2]).max() < 0.01


def test_8_bit_gray_among_deeper_files_is_scaled_like_them_and_color_stays(tmp_path: Path) -> None:
    for index, image in enumerate(np.repeat(content(), 2, axis=0)):
        deep = np.uint8(image * 255) if index % 2 else np.uint16(image * 4095)
        Image.fromarray(deep).save(tmp_path / f"{index:02}.png")
    color = (255 * content(4, SIDE, SIDE, 3)).astype(np.uint8)
    for index, image in enumerate(color):
        Image.fromarray(image).save(tmp_path / f"x{index}.png")
    scaled = in_unit_range(read(tmp_path))
    assert np.abs(scaled[: 2 * N : 2] - scaled[1 : 2 * N : 2]).max() < 0.02
    assert np.array_equal(scaled[2 * N :], color.transpose(0, 3, 1, 2) / 255)


def test_dark_images_of_one_camera_stay_dark() -> None:
    images = np.full((N, 3, SIDE, SIDE), 0, np.uint16)
    images += np.geomspace(20, 60_000, N).astype(np.uint16)[:, None, None, None]
    colored = images.copy()
    colored[:, 0] //= 2
    for stored in (images, colored):
        depths = [depth_of(image) for image in stored]
        intensity = find_intensity(stored, depths, N)
        assert intensity is not None
        assert [window.bits for window in intensity.windows] == [16]
        intensity.apply(stored, depths)
        assert (np.diff(stored[:, 0, 0, 0].astype(int)) >= 0).all()
        assert stored[0].max() < 0.01 * 65_535


def test_a_new_dark_frame_of_a_known_camera_stays_dark() -> None:
    images = (content(N, 3, SIDE, SIDE) * 4095).astype(np.uint16)
    intensity = find_intensity(images, [depth_of(image) for image in images], N)
    assert intensity is not None
    for peak in (200, 300):
        dark = np.full((1, 3, SIDE, SIDE), peak, np.uint16)
        depths = [depth_of(dark[0])]
        known = intensity.completed_by(find_intensity(dark, depths, 0))
        assert known == intensity
        known.apply(dark, depths)
        assert dark.max() < 0.1 * 65_535


def test_8_bit_values_in_16_bit_files_are_scaled_as_8_bit_files_are(tmp_path: Path) -> None:
    gray, color = ((content(N, *shape) * 255).astype(np.uint8) for shape in ((SIDE, SIDE), (3, SIDE, SIDE)))
    for name, stored in (("gray", gray), ("color", color)):
        folder = tmp_path / name
        folder.mkdir()
        for index, image in enumerate(stored):
            np.save(folder / f"{index:02}.npy", image.astype(np.uint16))
    scaled, as_they_are = in_unit_range(read(tmp_path / "gray")), in_unit_range(read(tmp_path / "color"))
    assert (scaled.min(), scaled.max()) == (0, 1)
    assert np.allclose(as_they_are, color / 255)


def color_in_16_bits(n: int = N) -> np.ndarray:
    """Return color images of 8 bits as uint16 [n, 3, SIDE, SIDE]."""
    return (content(n, 3, SIDE, SIDE) * 255).astype(np.uint16)


def test_8_bit_color_in_16_bit_files_stays_beside_gray_files_of_8_bits(tmp_path: Path) -> None:
    color, gray = color_in_16_bits(N), (content(N, SIDE, SIDE) * 200).astype(np.uint8)
    for index in range(N):
        np.save(tmp_path / f"{index:02}.npy", color[index])
        Image.fromarray(gray[index]).save(tmp_path / f"x{index:02}.png")
    for window in (None, (50.0, 100.0)):
        scaled = in_unit_range(read(tmp_path, window=window))
        assert np.allclose(scaled[:N], color / 255, atol=1e-4)
        assert (scaled[N:].min(), scaled[N:].max()) == (0, 1)


@pytest.mark.parametrize("odd", ["none", "gray", "black"])
def test_8_bit_color_in_16_bit_files_stays_whatever_single_frames_are(odd: str) -> None:
    images = color_in_16_bits()
    if odd != "none":
        images[3] = images[3, 0] if odd == "gray" else 0
    stored, depths = images.copy(), [depth_of(image) for image in images]
    intensity = find_intensity(images, depths, N)
    assert intensity is not None
    assert not intensity.describe(), "there is nothing to say"
    intensity.apply(images, depths)
    assert np.allclose(images / 65_535, stored / 255, atol=1e-4)
    with pytest.raises(ConfigError, match="8 bits in color"):
        find_intensity(stored, depths, N, [0, 100])


def test_new_images_are_scaled_as_8_bit_color_in_16_bit_files_was() -> None:
    images = color_in_16_bits()
    known = find_intensity(images, [depth_of(image) for image in images], N)
    assert known is not None
    dim = np.repeat(images[:4, :1] // 2, 3, axis=1)  # all gray: alone, they would get a window
    expected, depths = dim / 255, [depth_of(image) for image in dim]
    completed = known.completed_by(find_intensity(dim, depths, 0))
    assert completed == known
    completed.apply(dim, depths)
    assert np.allclose(dim / 65_535, expected, atol=1e-4)
    deep = images * 16
    depths = [depth_of(image) for image in deep]
    completed = known.completed_by(find_intensity(deep, depths, 0))
    assert [window.bits for window in completed.windows] == [LOW_16, 12]
    completed.apply(deep, depths)
    assert 0 < np.median(deep) < 65_535, "deeper files are not taken for 8 bits"


def test_8_bit_images_are_returned_as_they_are(tmp_path: Path) -> None:
    for index, image in enumerate(content()):
        Image.fromarray((image * 255).astype(np.uint8)).save(tmp_path / f"{index:02}.png")
    pixels = read(tmp_path)
    assert pixels.intensity is None
    assert pixels.images.dtype == np.uint8
    assert np.array_equal(pixels.images[:, 0], (content() * 255).astype(np.uint8))


def test_channels_of_different_kinds_have_their_own_windows_and_colors_share_one() -> None:
    factors = np.array([1, 10, 100])[:, None, None]
    images = (content(N, 3, SIDE, SIDE) * factors * 100).astype(np.uint16)
    five = images[:, [0, 1, 2, 0, 1]]
    depths = [depth_of(image) for image in images]
    of_color, of_five = (find_intensity(each, depths, N) for each in (images, five))
    assert of_color is not None
    assert of_five is not None
    assert len(set(of_color.windows[0].high)) == 1
    assert of_five.windows[0].high[2] > 50 * of_five.windows[0].high[0]


def test_hot_pixels_do_not_move_the_window() -> None:
    images = (content(N, 3, SIDE, SIDE) * 1000).astype(np.uint16)
    images[:, :, 0, 0] *= np.arange(N)[:, None] < 2  # two dead pixels
    images[:3, :, 5, 5] = 1023
    intensity = find_intensity(images, [Depth(10, 1023)] * N, N)
    assert intensity is not None
    assert 850 < intensity.windows[0].high[0] < 950


def test_real_numbers_stay_float32() -> None:
    images = (content(N, 2, SIDE, SIDE) * 3 - 1).astype(np.float32)
    depths = [depth_of(image) for image in images]
    intensity = find_intensity(images, depths, N)
    assert intensity is not None
    intensity.apply(images, depths)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)


def test_the_users_window_is_used_per_channel() -> None:
    images = np.stack([np.full((4, SIDE, SIDE), value, np.uint16) for value in (100, 200)], axis=1)
    depths = [depth_of(image) for image in images]
    intensity = find_intensity(images, depths, 4, [[0, 200], [100, 500]])
    assert intensity is not None
    intensity.apply(images, depths)
    assert images[0, :, 0, 0].tolist() == [round(65_535 / 2), round(65_535 / 4)]


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ([200, 100], "the first below the second"),
        ([5], "must be two values"),
        ([], "must be two values"),
        ([[0, 1], [0, 1]], "2 pairs, but the images have 3 channels"),
    ],
)
def test_a_wrong_window_is_refused(window: list, message: str) -> None:
    images = np.ones((4, 3, SIDE, SIDE), np.uint16) * 1000
    with pytest.raises(ConfigError, match=message):
        find_intensity(images, [depth_of(image) for image in images], 4, window)


def test_a_window_for_color_images_of_8_bits_is_refused() -> None:
    images = (content(4, 3, SIDE, SIDE) * 255).astype(np.uint8)
    with pytest.raises(ConfigError, match="8 bits in color"):
        find_intensity(images, [depth_of(image) for image in images], 4, [0, 100])


def test_windows_survive_json() -> None:
    images = (content(N, 2, SIDE, SIDE) * 4000).astype(np.uint16)
    intensity = find_intensity(images, [depth_of(image) for image in images], N)
    assert intensity is not None
    assert Intensity.from_dict(json.loads(json.dumps(intensity.to_dict()))) == intensity


def test_one_line_says_which_values_become_black_and_white() -> None:
    images = (content(N, 3, SIDE, SIDE) * 4000).astype(np.uint16)
    depths = [depth_of(image) for image in images]
    found, given = (find_intensity(images, depths, N, window) for window in (None, [0, 4095]))
    assert found is not None
    assert given is not None
    low, high = round(found.windows[0].low[0]), round(found.windows[0].high[0])
    expected = "values that become black and white, percentiles 0.1 and 99.9 of the training images: 12 bits: "
    assert found.describe() == f"{expected}{low} to {high}"
    assert given.describe() == "values that become black and white, as configured: 12 bits: 0 to 4095"
