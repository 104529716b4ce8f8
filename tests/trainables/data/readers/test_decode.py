"""Images of other depths and channels: every stored value is read, and what cannot be read is named."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from trainables.data.readers.bad_image import BadImage
from trainables.data.readers.decode import decode
from trainables.data.readers.formats import is_image
from trainables.data.readers.images import ImageReader, read_image
from trainables.data.readers.pixels import read_all

SIDE = 16


def values(*shape: int, top: int = 4095, dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top + 1, shape).astype(dtype)


def read(path: Path, **options: str) -> np.ndarray:
    return ImageReader(SIDE, **options)(path)  # type: ignore[arg-type]


def write_png16(path: Path, color: np.ndarray, exif: bytes = b"") -> None:
    """Write uint16 [H, W, 3] as a PNG, which Pillow cannot."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = color.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in color)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    facts = chunk(b"IHDR", header) + (chunk(b"eXIf", exif) if exif else b"")
    parts = facts + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def shown(planes: np.ndarray, orientation: int) -> np.ndarray:
    """Return planes [C, H, W] as Pillow shows an image with this EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = []
    for plane in planes:
        image = Image.fromarray(plane.astype(np.int32))
        image.info["exif"] = exif.tobytes()
        turned.append(np.asarray(ImageOps.exif_transpose(image)))
    return np.stack(turned)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("top", [1023, 4095, 65535])
def test_gray_of_more_than_8_bits_keeps_every_value_in_three_channels(tmp_path: Path, suffix: str, top: int) -> None:
    stored = values(SIDE, SIDE, top=top)
    Image.fromarray(stored).save(tmp_path / f"x.{suffix}")
    image = read(tmp_path / f"x.{suffix}")
    assert image.dtype == np.uint16
    assert (image == stored).all()
    assert image.shape == (3, SIDE, SIDE)


def test_integers_of_32_bits_and_real_numbers_keep_their_values(tmp_path: Path) -> None:
    real = np.linspace(-1, 2, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    Image.fromarray(real).save(tmp_path / "real.tif")
    assert np.allclose(read(tmp_path / "real.tif"), real)
    whole = values(SIDE, SIDE, top=100_000, dtype=np.int32)
    Image.fromarray(whole).save(tmp_path / "whole.tif")
    assert (read(tmp_path / "whole.tif") == whole).all()


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        (values(SIDE, SIDE).astype(">u2"), np.uint16),
        (values(SIDE, SIDE, dtype=np.int16), np.float32),
        (values(SIDE, SIDE, dtype=np.int16) - 1000, np.float32),
        (values(SIDE, SIDE, top=255, dtype=np.int64), np.float32),
        (values(SIDE, SIDE, dtype=np.uint32), np.float32),
    ],
)
def test_the_stored_type_and_not_the_values_decides_how_integers_are_read(
    tmp_path: Path, stored: np.ndarray, dtype: type
) -> None:
    np.save(tmp_path / "x.npy", stored)
    image = read(tmp_path / "x.npy")
    assert image.dtype == dtype
    assert (image == stored).all()


@pytest.mark.parametrize(("signed", "dtype"), [(False, np.uint16), (True, np.float32)])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_integers_of_a_tiff_file_are_signed_as_it_says(
    tmp_path: Path, signed: bool, dtype: type, byteorder: str
) -> None:
    tifffile = pytest.importorskip("tifffile")
    stored = values(SIDE, SIDE, dtype=np.int16 if signed else np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", stored, byteorder=byteorder)
    image = read(tmp_path / "x.tif")
    assert image.dtype == dtype
    assert (image == stored).all()


def test_a_graymap_of_16_bits_is_unsigned(tmp_path: Path) -> None:
    stored = values(SIDE, SIDE, top=65535)
    (tmp_path / "x.pgm").write_bytes(b"P5 %d %d 65535\n" % (SIDE, SIDE) + stored.astype(">u2").tobytes())
    image = read(tmp_path / "x.pgm")
    assert image.dtype == np.uint16
    assert (image == stored).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("n_channels", [3, 5])
def test_what_pillow_cannot_read_in_full_is_turned_upright_as_well(
    tmp_path: Path, orientation: int, n_channels: int
) -> None:
    tifffile = pytest.importorskip("tifffile")
    stored = values(SIDE, SIDE + 2, n_channels)
    tag = (274, "H", 1, orientation, True)
    kind = "rgb" if n_channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric=kind, planarconfig="contig", extratags=[tag])
    expected = shown(stored.transpose(2, 0, 1), orientation)
    assert np.array_equal(decode(tmp_path / "x.tif")[0], expected)
    if n_channels == 3:
        exif = Image.Exif()
        exif[0x0112] = orientation
        write_png16(tmp_path / "x.png", stored, exif.tobytes().removeprefix(b"Exif\0\0"))
        assert np.array_equal(decode(tmp_path / "x.png")[0], expected)


def test_the_preview_of_a_raw_photograph_is_no_image(tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "x.nef", format="TIFF", tiffinfo={254: 1})
    for stack in ("first", "channels", "pages"):
        with pytest.raises(BadImage, match="only a preview, as in raw photographs"):
            decode(tmp_path / "x.nef", stack=stack)
    tifffile = pytest.importorskip("tifffile")
    kind = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "x.tif", values(SIDE, SIDE, 5), subfiletype=1, **kind)
    with pytest.raises(BadImage, match="only a preview"):
        decode(tmp_path / "x.tif")


def test_16_bit_color_keeps_its_lower_bits(tmp_path: Path) -> None:
    stored = values(SIDE, SIDE, 3)
    write_png16(tmp_path / "x.png", stored)
    assert (read(tmp_path / "x.png") == stored.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("last", [False, True])
def test_the_smaller_axis_of_an_array_is_its_channels(tmp_path: Path, last: bool, dtype: type) -> None:
    stored = values(5, SIDE, SIDE, top=255, dtype=dtype)
    np.save(tmp_path / "x.npy", stored.transpose(1, 2, 0) if last else stored)
    image = read(tmp_path / "x.npy")
    assert image.dtype == dtype
    assert (image == stored).all()


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (np.zeros((SIDE, SIDE, SIDE), np.uint8), "could both be its channels"),
        (np.zeros((70, 90, 80), np.uint8), "70 channels, more than the limit of 64"),
        (np.zeros(9, np.uint8), r"shape \(9,\)"),
        (np.full((SIDE, SIDE), np.nan), "not finite"),
        (np.zeros((SIDE, SIDE), complex), "complex128"),
        (np.array([["a"]]), "integers or real numbers"),
        (np.array([[None]]), "Python objects"),
    ],
)
def test_an_array_that_is_no_image_is_refused(tmp_path: Path, stored: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "x.npy", stored)
    with pytest.raises(BadImage, match=reason):
        read(tmp_path / "x.npy")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_tiff_file_has_any_number_of_channels(tmp_path: Path, planar: str, dtype: type) -> None:
    tifffile = pytest.importorskip("tifffile")
    for n_channels in (2, 5):
        stored = values(n_channels, SIDE, SIDE, top=255, dtype=dtype)
        written = stored if planar == "separate" else stored.transpose(1, 2, 0)
        tifffile.imwrite(tmp_path / "x.tif", written, photometric="minisblack", planarconfig=planar)
        assert (read(tmp_path / "x.tif") == stored).all()


def test_a_color_tiff_of_16_bits_keeps_its_lower_bits(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    stored = values(SIDE, SIDE, 3)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="rgb")
    assert (read(tmp_path / "x.tif") == stored.transpose(2, 0, 1)).all()


def test_a_broken_tiff_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(b"II*\0" + bytes(40))
    with pytest.raises(BadImage, match=r"^[^\n]+$"):
        read(tmp_path / "x.tif")


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "x.tif", values(SIDE, SIDE, 5), photometric="minisblack", planarconfig="contig")
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(BadImage, match=r"pip install \"pretext-study\[tiff\]\""):
        read(tmp_path / "x.tif")


def write_stack(path: Path, pages: np.ndarray) -> None:
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(path, save_all=True, append_images=others)


def test_pages_are_channels_on_request_and_counted_otherwise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pages = values(4, SIDE, SIDE)
    write_stack(tmp_path / "x.tif", pages)
    assert (read(tmp_path / "x.tif", stack="channels") == pages).all()
    reader = ImageReader(SIDE)
    assert (reader(tmp_path / "x.tif") == pages[0]).all()
    reader.warn_of_stacks("photos")
    assert "photos: 1 files have several pages or frames, and only the first is read" in caplog.text


def test_pages_that_pillow_cannot_open_are_counted_and_joined_as_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tifffile = pytest.importorskip("tifffile")
    many, gray = values(3, SIDE, SIDE, 5), values(3, SIDE, SIDE, dtype=np.float64)
    tifffile.imwrite(tmp_path / "many.tif", many, photometric="minisblack", planarconfig="contig")
    tifffile.imwrite(tmp_path / "gray.tif", gray, photometric="minisblack")
    reader = ImageReader(SIDE)
    assert (reader(tmp_path / "many.tif") == many[0].transpose(2, 0, 1)).all()
    reader.warn_of_stacks("photos")
    assert "photos: 1 files have several pages or frames" in caplog.text
    assert (read(tmp_path / "gray.tif", stack="channels") == gray).all()
    with pytest.raises(BadImage, match="page 1 has 5 channels; stack: channels needs pages in gray"):
        read(tmp_path / "many.tif", stack="channels")


def test_pages_in_color_are_no_channels(tmp_path: Path) -> None:
    write_stack(tmp_path / "x.tif", values(2, SIDE, SIDE, 3, top=255, dtype=np.uint8))
    with pytest.raises(BadImage, match="page 1 has mode RGB"):
        read(tmp_path / "x.tif", stack="channels")


def test_files_of_different_channels_are_named(tmp_path: Path) -> None:
    for name, n_channels in (("a", 5), ("b", 5), ("c", 4)):
        np.save(tmp_path / f"{name}.npy", values(n_channels, SIDE, SIDE))
    paths = sorted(tmp_path.iterdir())
    with pytest.raises(Exception, match=r"c.npy \(4 channels, but a.npy has 5"):
        read_all(paths, ImageReader(SIDE), name="photos", root=tmp_path, on_bad_image="stop")


def test_files_of_different_types_share_the_larger_one(tmp_path: Path) -> None:
    for name, dtype in (("a", np.uint8), ("b", np.uint16), ("c", np.float32), ("d", np.uint8)):
        np.save(tmp_path / f"{name}.npy", values(5, SIDE, SIDE, top=255, dtype=dtype))
    images, _ = read_all(
        sorted(tmp_path.iterdir()), ImageReader(SIDE), name="photos", root=tmp_path, on_bad_image="stop"
    )
    assert images.dtype == np.float32
    assert (images == images[0]).all()


def test_images_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    picture = Image.new("RGB", (SIDE, SIDE))
    for form in ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF", "AVIF"):
        path = tmp_path / f"{form}.txt"
        picture.save(path, format=form)
        assert is_image(path), form
        decode(path)
    np.save(tmp_path / "array.npy", values(SIDE, SIDE))
    assert is_image(tmp_path / "array.npy")
    for name, content in (("a.png", b""), ("b.jpg", b"hello, world"), ("c.bmp", b"BMW is not an image, you know")):
        (tmp_path / name).write_bytes(content)
        assert not is_image(tmp_path / name), name
    assert not is_image(tmp_path)


def test_reading_many_pixels_of_an_array_is_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", values(40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(BadImage, match="40 x 40 pixels, above the limit of 1,000"):
        read_image(tmp_path / "x.npy", SIDE)
