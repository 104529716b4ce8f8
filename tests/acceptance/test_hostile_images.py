"""A folder of images from anywhere: each is read right, or refused with its path; nothing hangs, runs or is hidden."""

from __future__ import annotations

import logging
import os
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import Splits, load_splits
from trainables.errors import DataError

SIZE = 16
CLASSES = ("cat", "dog")
N_GOOD = 6  # of each class

pytestmark = pytest.mark.timeout(120)  # an image that is waited for without end is a failure


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Class folders of noise, no two images alike."""
    rng = np.random.default_rng(0)
    for label in CLASSES:
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(N_GOOD):
            noise = rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "photos" / label / f"{index}.png")
    return tmp_path / "photos"


def loaded(folder: Path, **options: str) -> Splits:
    return load_splits(f"folder:{folder}", root=None, image_size=SIZE, **options)  # type: ignore[arg-type]


def images_of(splits: Splits) -> list[np.ndarray]:
    """Return every image of every split, uint8 [3, S, S]."""
    return [image for table in (splits.pretext_train, splits.pretext_validation, splits.test) for image in table.images]


def refusal(folder: Path) -> str:
    """Return the one line that refuses a folder."""
    with pytest.raises(DataError) as refused:
        loaded(folder)
    assert str(refused.value).isprintable()
    return str(refused.value)


# --- read right ----------------------------------------------------------------------------------------------------


def saved(image: Image.Image, kind: str, **options: object) -> Callable[[Path], None]:
    return lambda path: image.save(path, kind, **options)


def palette_with_transparency() -> Image.Image:
    image = Image.new("P", (20, 20), 0)
    image.putpalette([9, 9, 9, 10, 200, 30])
    image.paste(1, (0, 10, 20, 20))
    return image


def half_transparent() -> Image.Image:
    return Image.new("RGBA", (20, 20), (200, 0, 0, 128))


RED, GREEN = Image.new("RGB", (20, 20), (250, 0, 0)), Image.new("RGB", (20, 20), (0, 250, 0))
READ_RIGHT = {
    "cmyk.jpg": (saved(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG"), (255, 0, 0)),
    "alpha.png": (saved(half_transparent(), "PNG"), (227, 127, 127)),
    "png_named.jpg": (saved(GREEN, "PNG"), (0, 250, 0)),
    "jpg_named.gif": (saved(RED, "JPEG", quality=95), (250, 0, 0)),
    "animated.gif": (saved(RED, "GIF", save_all=True, append_images=[GREEN]), (250, 0, 0)),
    "animated.webp": (saved(RED, "WEBP", save_all=True, append_images=[GREEN], lossless=True), (250, 0, 0)),
    "UPPER.PNG": (saved(GREEN, "PNG"), (0, 250, 0)),
    unicodedata.normalize("NFC", "café 🐈.png"): (saved(RED, "PNG"), (250, 0, 0)),
    unicodedata.normalize("NFD", "café 🐈.png"): (saved(GREEN, "PNG"), (0, 250, 0)),
    "two\nlines.png": (saved(RED, "PNG"), (250, 0, 0)),
    "-rf; $(touch ran) %s {x}.png": (saved(GREEN, "PNG"), (0, 250, 0)),
    "n" * 251 + ".png": (saved(RED, "PNG"), (250, 0, 0)),
}


@pytest.mark.parametrize("name", READ_RIGHT)
def test_an_unusual_image_or_name_is_read_right(photos: Path, name: str):
    write, color = READ_RIGHT[name]
    write(photos / "cat" / name)
    found = images_of(loaded(photos))
    assert len(found) == len(CLASSES) * N_GOOD + 1
    near = [np.abs(image.reshape(3, -1).T.astype(int) - color).max() <= 4 for image in found]
    assert sum(near) == 1


def test_transparent_parts_of_a_palette_image_are_white(photos: Path):
    palette_with_transparency().save(photos / "cat" / "palette.png", transparency=0)
    expected = np.full((SIZE, SIZE), 255)
    expected[SIZE // 2 :] = 10
    assert any(np.abs(image[0].astype(int) - expected)[[0, -1]].max() <= 2 for image in images_of(loaded(photos)))


def test_a_link_within_the_folder_is_read(photos: Path):
    GREEN.save(photos / "cat" / "green.png")
    (photos / "dog" / "twin.png").symlink_to(photos / "cat" / "green.png")
    greens = [image for image in images_of(loaded(photos)) if (image[1] == 250).all()]
    assert greens  # twice in the folder, but never in two splits


# --- refused -------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side: int, extra: bytes = b"") -> bytes:
    """Return a whole PNG of side x side black pixels, a bit each, in some kilobytes."""
    row, packer = bytes(1 + (side + 7) // 8), zlib.compressobj(9)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg(folder: Path) -> bytes:
    Image.effect_noise((64, 64), 99).save(folder / "whole.jpg")
    content = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    return content


REFUSED: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "truncated.jpg": (lambda folder: jpeg(folder)[:900], "truncated"),
    "zero_bytes.png": (lambda _: b"", "cannot identify image file"),
    "text_named.png": (lambda _: b"<html><script>alert(1)</script>", "cannot identify image file"),
    "pickle.png": (lambda _: b"\x80\x04\x95cposix\nsystem\n", "cannot identify image file"),
    "one_pixel.png": (lambda _: bomb(1), "1 x 1 pixels, too small for image_size 16"),
    "bomb.png": (lambda _: bomb(20_000), "decompression bomb"),
    "half_a_bomb.png": (lambda _: bomb(10_000), "10000 x 10000 pixels, above the limit of 89,478,485"),
    "text_bomb.png": (
        lambda _: bomb(20, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80_000_000)))),
        "Decompressed data too large",
    ),
    "svg.png": (
        lambda _: b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "cannot",
    ),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_or_dangerous_image_is_refused_with_its_path(photos: Path, name: str):
    content, reason = REFUSED[name]
    (photos / "dog" / name).write_bytes(content(photos))
    message = refusal(photos)
    assert f"1 of {len(CLASSES) * N_GOOD + 1} images in {photos} cannot be used: dog/{name} (" in message
    assert reason in message
    assert "on_bad_image: skip" in message


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_skipping_counts_every_one_of_them_and_reads_all_others(photos: Path, caplog: pytest.LogCaptureFixture):
    before = {image.tobytes() for image in images_of(loaded(photos))}
    for name, (content, _) in REFUSED.items():
        (photos / "dog" / name).write_bytes(content(photos))
    os.mkfifo(photos / "cat" / "pipe.png")
    (photos / "cat" / "self.png").symlink_to("self.png")
    with caplog.at_level(logging.WARNING):
        after = images_of(loaded(photos, on_bad_image="skip"))
    assert {image.tobytes() for image in after} == before
    n_bad = len(REFUSED) + 2
    (warning,) = [record.getMessage() for record in caplog.records if "cannot be used" in record.getMessage()]
    assert f"{n_bad} of {len(CLASSES) * N_GOOD + n_bad} images in {photos} cannot be used: " in warning
    assert f"and {n_bad - 3} more" in warning


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_what_is_no_file_is_refused_and_not_waited_for(photos: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(photos / "cat")  # a socket's path may not be long
    if kind == "pipe":
        os.mkfifo("x.png")
    else:
        import socket

        socket.socket(socket.AF_UNIX).bind("x.png")
    assert "cat/x.png (not a regular file)" in refusal(photos)


def test_a_folder_named_like_an_image_is_a_folder(photos: Path):
    (photos / "cat" / "more.png").mkdir()
    GREEN.save(photos / "cat" / "more.png" / "green.png")
    assert any((image[1] == 250).all() for image in images_of(loaded(photos)))


def test_links_out_of_the_folder_and_in_circles_are_refused(photos: Path):
    (photos / "cat" / "out.png").symlink_to("/etc/passwd")
    assert f"the link {photos}/cat/out.png leads out of {photos}" in refusal(photos)
    (photos / "cat" / "out.png").unlink()
    (photos / "cat" / "there.png").symlink_to(photos / "cat" / "back.png")
    (photos / "cat" / "back.png").symlink_to(photos / "cat" / "there.png")
    assert "cat/back.png (Too many levels of symbolic links)" in refusal(photos)


def test_no_program_is_started_for_postscript_that_calls_itself_an_image(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Pillow would hand it to Ghostscript, which runs what it reads."""
    (tmp_path / "bin").mkdir()
    interpreter = tmp_path / "bin" / "gs"
    interpreter.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    head = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n"
    (photos / "cat" / "x.png").write_text(head + "(%pipe%touch ran) (w) file\nshowpage\n%%EOF\n")
    assert "cat/x.png (cannot identify image file)" in refusal(photos)
    assert not (tmp_path / "ran").exists()


def test_an_image_that_may_not_be_read_is_refused(photos: Path):
    """As another user, since the superuser may read everything."""
    secret = photos / "cat" / "0.png"
    secret.chmod(0)
    for folder in (photos, *photos.parents[:3]):  # those that pytest has made
        folder.chmod(folder.stat().st_mode | 0o055)
    Image.init()  # all of its modules, which another user may not be allowed to read
    superuser = os.geteuid() == 0
    if superuser:
        os.seteuid(65534)
    try:
        message = refusal(photos)
    finally:
        if superuser:
            os.seteuid(0)
    assert f"1 of {len(CLASSES) * N_GOOD} images in {photos} cannot be used: cat/0.png (Permission denied)" in message


@pytest.mark.parametrize("label", [b"two\nlines", b"\x1b[31mred", b"not-utf8-\xff"])
def test_a_class_whose_name_cannot_be_printed_is_refused(photos: Path, label: bytes):
    os.rename(photos / "dog", os.path.join(os.fsencode(photos), label))
    assert "has a name that no report can print" in refusal(photos)


def test_a_file_whose_name_is_no_text_is_read(photos: Path):
    os.rename(photos / "dog" / "0.png", os.path.join(os.fsencode(photos), b"dog", b"\xff\xfe.png"))
    assert len(images_of(loaded(photos))) == len(CLASSES) * N_GOOD


def test_the_annotations_of_a_data_set_cannot_name_files_outside_its_root(tmp_path: Path):
    """A list of names is data too: a line `../../../secret` must not be followed."""
    base = tmp_path / "root" / "VOCdevkit" / "VOC2012"
    for folder in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"):
        (base / folder).mkdir(parents=True)
    RED.save(tmp_path / "secret.jpg")
    Image.new("L", (20, 20)).save(tmp_path / "secret.png")
    for part in ("train", "val"):
        (base / "ImageSets" / "Segmentation" / f"{part}.txt").write_text("../../../../secret\n")
    with pytest.raises(DataError, match=r"leads out of the data root|cannot read"):
        load_splits("voc2012", root=tmp_path / "root")
