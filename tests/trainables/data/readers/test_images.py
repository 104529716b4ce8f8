"""Every kind of image file becomes the right uint8 square, or an error that says why not."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data.readers.images import BadImage, read_image, resize_arrays
from trainables.data.readers.masks import MaskedReader
from trainables.data.readers.pixels import read_all
from trainables.errors import DataError

read_at_16 = functools.partial(read_image, image_size=16)


def test_the_short_side_is_resized_and_the_center_square_kept(tmp_path: Path) -> None:
    stripes = np.zeros((32, 96, 3), np.uint8)
    stripes[:, :32, 0], stripes[:, 32:64, 1], stripes[:, 64:, 2] = 200, 200, 200
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    image = read_at_16(tmp_path / "wide.png")
    assert image.shape == (3, 16, 16)
    assert image.dtype == np.uint8
    assert (image[1, :, 1:-1] == 200).all()
    assert (image[0, :, 1:-1] == 0).all()


def test_making_smaller_is_antialiased(tmp_path: Path) -> None:
    checks = (np.indices((128, 128)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(checks).save(tmp_path / "checks.png")
    image = read_at_16(tmp_path / "checks.png")
    assert np.abs(image.astype(int) - 127).max() <= 3


def _transparent_red() -> Image.Image:
    return Image.new("RGBA", (20, 20), (255, 0, 0, 0))


def _palette_with_transparency() -> Image.Image:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.info["transparency"] = 0
    return image


@pytest.mark.parametrize(
    ("suffix", "image", "expected"),
    [
        ("png", Image.new("L", (20, 20), 77), (77, 77, 77)),
        ("png", Image.new("1", (20, 20), 1), (255, 255, 255)),
        ("png", _transparent_red(), (255, 255, 255)),
        ("png", Image.new("LA", (20, 20), (9, 255)), (9, 9, 9)),
        ("png", _palette_with_transparency(), (10, 200, 30)),
        ("tif", Image.new("CMYK", (20, 20), (0, 255, 255, 0)), (255, 0, 0)),
        ("jpg", Image.new("CMYK", (20, 20), (0, 255, 255, 0)), (255, 0, 0)),
    ],
)
def test_every_mode_becomes_the_rgb_that_a_viewer_shows(
    tmp_path: Path, suffix: str, image: Image.Image, expected: tuple[int, int, int]
) -> None:
    path = tmp_path / f"image.{suffix}"
    image.save(path)
    pixels = read_at_16(path)
    assert np.abs(pixels.reshape(3, -1).T.astype(int) - expected).max() <= 3


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ((250, 0, 0), (0, 250, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_at_16(tmp_path / "a.gif")[:, 0, 0].tolist() == [250, 0, 0]


def test_exif_orientation_is_applied_so_that_up_is_up(tmp_path: Path) -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[:10] = 250  # bright above
    exif = Image.Exif()
    exif[0x0112] = 3  # to be shown upside down
    Image.fromarray(pixels).save(tmp_path / "phone.jpg", exif=exif)
    image = read_at_16(tmp_path / "phone.jpg")
    assert image[:, :6].max() < 30
    assert image[:, 10:].min() > 220


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no image at all", "cannot identify"), (b"", "cannot identify"), (b"\x89PNG\r\n\x1a\n broken", ".")],
)
def test_what_is_no_image_is_called_bad(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(BadImage, match=reason) as caught:
        read_at_16(path)
    assert str(tmp_path) not in str(caught.value)


def test_a_truncated_file_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:800])
    with pytest.raises(BadImage, match="truncated"):
        read_at_16(path)


def test_a_decompression_bomb_is_refused_at_pillows_own_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (50, 50)).save(tmp_path / "fine.png")
    Image.new("L", (60, 50)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2500)
    read_at_16(tmp_path / "fine.png")
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(BadImage, match="decompression bomb"):
        read_at_16(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(BadImage, match="decompression bomb"):
        read_at_16(tmp_path / "bomb.png")


def test_a_small_image_is_enlarged_only_where_allowed(tmp_path: Path) -> None:
    Image.new("RGB", (40, 12)).save(tmp_path / "x.png")
    with pytest.raises(BadImage, match="40 x 12 pixels, too small for image_size 16"):
        read_at_16(tmp_path / "x.png")
    assert read_at_16(tmp_path / "x.png", upscale=True).shape == (3, 16, 16)


def test_a_squashed_image_keeps_what_a_crop_cuts_off(tmp_path: Path) -> None:
    image = Image.new("RGB", (96, 32))
    image.paste((255, 0, 0), (0, 0, 24, 32))
    image.save(tmp_path / "x.png")
    red = read_image(tmp_path / "x.png", 16, squash=True)[0]
    assert (red[:, :3] > 200).all(), "the left quarter is still there, a quarter wide"
    assert (red[:, 5:] < 50).all()
    assert not read_at_16(tmp_path / "x.png").any(), "the center square has none of it"


def _pair(folder: Path, mask: np.ndarray | Image.Image, size: tuple[int, int] = (40, 60)) -> tuple[Path, Path]:
    image = Image.new("RGB", size)
    image.paste((255, 0, 0), (10, 20, 30, 40))
    image.save(folder / "image.png")
    (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(folder / "mask.png")
    return folder / "image.png", folder / "mask.png"


def read_pair(image: Path, mask: Path, squash: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Read an image with its mask of up to 21 classes, [3, 20, 20] and [20, 20]."""
    reader = MaskedReader(20, upscale=True, squash=squash, masks={image: mask}, n_classes=21)
    return reader(image), reader.masks_of([image])[0]


def test_image_and_mask_are_cut_alike_and_masks_stay_class_ids(tmp_path: Path) -> None:
    mask = np.zeros((60, 40), np.uint8)
    mask[20:40, 10:30] = 7
    mask[0:15] = 255
    image, cut = read_pair(*_pair(tmp_path, mask))
    assert (image.shape, cut.shape) == ((3, 20, 20), (20, 20))
    assert set(np.unique(cut)) == {0, 7, 255}
    assert ((image[0] > 128) == (cut == 7)).all()


def test_a_squashed_mask_still_fits_its_image(tmp_path: Path) -> None:
    mask = np.zeros((60, 40), np.uint8)
    mask[20:40, 10:30] = 7
    image, cut = read_pair(*_pair(tmp_path, mask), squash=True)
    assert ((image[0] > 128) == (cut == 7)).mean() > 0.9, "but for pixels on the border"
    assert (cut == 7).mean() == pytest.approx(20 * 20 / (60 * 40), abs=0.02)


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.zeros((40, 40), np.uint8), "40 x 60 pixels, but its mask has 40 x 40"),
        (np.full((60, 40), 33, np.uint8), "class id 33"),
        (Image.new("RGB", (40, 60)), "its mask is a RGB image"),
    ],
)
def test_a_mask_that_does_not_fit_is_bad(tmp_path: Path, mask: np.ndarray | Image.Image, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        read_pair(*_pair(tmp_path, mask))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("deep", [False, True])
def test_an_image_that_is_not_stored_upright_is_refused_beside_a_mask(tmp_path: Path, suffix: str, deep: bool) -> None:
    """Pillow turns TIFF files and leaves others as they are, whatever the mask is drawn on."""
    _, mask = _pair(tmp_path, np.zeros((60, 40), np.uint8))
    exif = Image.Exif()
    for orientation in (0, 1, 3, 6):
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.{suffix}"
        options = {"tiffinfo": {274: orientation}} if suffix == "tif" else {"exif": exif}
        pixels = np.zeros((60, 40), np.uint16) if deep and suffix != "jpg" else np.zeros((60, 40, 3), np.uint8)
        Image.fromarray(pixels).save(path, **options)
        if orientation < 2:
            read_pair(path, mask)
            continue
        with pytest.raises(BadImage, match=f"its EXIF orientation is {orientation}, .* save both upright"):
            read_pair(path, mask)


def test_a_color_tiff_of_16_bits_is_refused_beside_a_mask_as_well(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    _, mask = _pair(tmp_path, np.zeros((60, 40), np.uint8))
    for name, n_channels in (("rgb", 3), ("minisblack", 5)):
        stored, tag = np.zeros((60, 40, n_channels), np.uint16), (274, "H", 1, 6, True)
        tifffile.imwrite(tmp_path / "x.tif", stored, photometric=name, planarconfig="contig", extratags=[tag])
        with pytest.raises(BadImage, match="its EXIF orientation is 6"):
            read_pair(tmp_path / "x.tif", mask)


def test_a_missing_mask_is_named_as_the_fault(tmp_path: Path) -> None:
    image, mask = _pair(tmp_path, np.zeros((60, 40), np.uint8))
    mask.unlink()
    with pytest.raises(BadImage, match="its mask: No such file"):
        read_pair(image, mask)


@pytest.fixture
def five_broken(tmp_path: Path, write_photo: Callable[..., Path]) -> list[Path]:
    paths = [write_photo(tmp_path / f"{i:02d}.png") for i in range(12)]
    for i in (2, 3, 5, 7, 11):
        paths[i].write_bytes(b"broken")
    return paths


def test_all_broken_images_are_counted_and_the_first_named(tmp_path: Path, five_broken: list[Path]) -> None:
    with pytest.raises(DataError) as caught:
        read_all(five_broken, read_at_16, name="photos", root=tmp_path, on_bad_image="stop")
    message = str(caught.value)
    assert message.startswith(
        f"photos: 5 of 12 images in {tmp_path} cannot be used: 02.png (cannot identify image file)"
    )
    assert "05.png" in message
    assert "07.png" not in message
    assert "and 2 more" in message
    assert message.endswith("on_bad_image: skip")
    assert "\n" not in message


def test_skipping_leaves_them_out_and_warns_with_the_count(
    tmp_path: Path, five_broken: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        blocks, kept = read_all(five_broken, read_at_16, name="photos", root=tmp_path, on_bad_image="skip")
    assert kept.tolist() == [0, 1, 4, 6, 8, 9, 10]
    np.testing.assert_array_equal(blocks[2], read_at_16(five_broken[4]))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "5 of 12 images" in caplog.text


def test_skipping_everything_is_still_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"broken")
    with pytest.raises(DataError, match="1 of 1 images"):
        read_all([tmp_path / "x.png"], read_at_16, name="photos", root=tmp_path, on_bad_image="skip")


def test_too_small_images_say_how_far_image_size_would_have_to_go_down(
    tmp_path: Path, write_photo: Callable[..., Path]
) -> None:
    sizes = [(40, 40), (15, 40), (40, 11), (14, 14), (13, 30), (99, 99)]
    paths = [write_photo(tmp_path / f"{i}.png", size) for i, size in enumerate(sizes)]
    with pytest.raises(DataError, match=r"2\.png \(40 x 11 pixels.*lower image_size to 11"):
        read_all(paths, read_at_16, name="photos", root=tmp_path, on_bad_image="stop")


def test_photographs_are_read_in_threads_to_the_same_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (100, 100, 3), dtype=np.uint8)).save(path)
    assert paths[0].stat().st_size > 16_384
    blocks, _ = read_all(paths, read_at_16, name="photos", root=tmp_path, on_bad_image="stop")
    np.testing.assert_array_equal(blocks, [read_at_16(path) for path in paths])


def test_arrays_are_made_smaller_but_never_larger() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resize_arrays(images, 32, "x"), images.transpose(0, 3, 1, 2))
    halved = resize_arrays(images, 16, "x")
    assert halved.shape == (5, 3, 16, 16)
    assert abs(halved.mean() - images.mean()) < 1
    with pytest.raises(DataError, match="image_size = 64, but its images have 32"):
        resize_arrays(images, 64, "x")
