"""Pages as images: each page is read, the pages of a file stay on one side, and what does not fit is named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from trainables.data import load_splits
from trainables.data.readers.folders import load_folder
from trainables.data.readers.walk import list_images
from trainables.data.request import Request, Tables
from trainables.data.table import Splits
from trainables.errors import DataError

SIDE, N_PAGES = 16, 4


def stored(file: int, page: int) -> np.ndarray:
    """The values of a page, uint16 [SIDE, SIDE], which no other page has."""
    return np.random.default_rng([file, page]).integers(0, 4096, (SIDE, SIDE), dtype=np.uint16)


def write_pages(path: Path, pages: list[np.ndarray], **first_page: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = map(Image.fromarray, pages)
    first.save(path, save_all=True, append_images=others, **first_page)
    return path


@pytest.fixture
def stacks(tmp_path: Path) -> Path:
    """Two classes of six files, each of N_PAGES pages."""
    root = tmp_path / "stacks"
    for file in range(12):
        write_pages(root / "ab"[file % 2] / f"{file}.tif", [stored(file, page) for page in range(N_PAGES)])
    return root


def read(folder: Path, **options: object) -> Tables:
    options = {"window": (0, 65535), "stack": "pages"} | options
    return load_folder(Request(f"folder:{folder}", None, SIDE, **options), folder)  # type: ignore[arg-type]


def load(folder: Path, **options: object) -> Splits:
    return load_splits(f"folder:{folder}", root=None, image_size=SIDE, leak="allow", **options)  # type: ignore[arg-type]


def test_every_page_is_an_image_with_the_label_of_its_file(stacks: Path) -> None:
    tables = read(stacks)
    assert tables.files is not None
    of_page = {}
    for table, names in ((tables.train, tables.files[0]), (tables.test, tables.files[1])):
        assert table.labels is not None
        for image, label, name in zip(table.images, table.labels, names, strict=True):
            of_page[name] = image, table.class_names[label]
    assert len(of_page) == 12 * N_PAGES
    for file in range(12):
        for page in range(N_PAGES):
            image, label = of_page[f"{'ab'[file % 2]}/{file}.tif/page {page + 1}"]
            assert (image == stored(file, page)).all()
            assert label == "ab"[file % 2]


def test_pages_of_a_file_are_on_one_side_of_every_split(stacks: Path) -> None:
    splits = load(stacks, stack="pages")
    sides = (splits.pretext_train, splits.pretext_validation, splits.test)
    groups = [set(np.asarray(table.groups).tolist()) for table in sides]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 12
    assert [len(table) for table in sides] == [N_PAGES * len(own) for own in groups]
    assert splits.inventory is not None
    assert "12 files, 48 pages" in splits.inventory.line
    assert "the pages of a file are one group, on one side of every split" in splits.inventory.remarks


def test_files_of_one_page_are_read_as_without_the_setting(tmp_path: Path, write_classes: Callable[..., Path]) -> None:
    folder = write_classes(tmp_path / "photos")
    assert load(folder, stack="pages").fingerprint == load(folder).fingerprint


def test_pages_can_be_grouped_by_their_paths(stacks: Path) -> None:
    tables = read(stacks, group_pattern=r"page \d")
    sides = [np.unique(np.asarray(table.groups)).tolist() for table in (tables.train, tables.test)]
    assert sorted(sides[0] + sides[1]) == [*range(N_PAGES)]


def test_smaller_copies_and_masks_of_a_page_are_left_out(stacks: Path) -> None:
    whole = TiffImagePlugin.ImageFileDirectory_v2()
    page, small = stored(99, 0), stored(99, 1)[::2, ::2]
    with TiffImagePlugin.AppendingTiffWriter(stacks / "a" / "pyramid.tif", True) as file:
        Image.fromarray(page).save(file, format="TIFF", tiffinfo=whole)
        file.newFrame()
        reduced = TiffImagePlugin.ImageFileDirectory_v2()
        reduced[254] = 1
        Image.fromarray(small).save(file, format="TIFF", tiffinfo=reduced)
    tables = read(stacks)
    assert tables.found is not None
    left_out = {each.reason: each.names for each in tables.found.left_out}
    assert left_out["that are smaller copies or masks of other pages"] == ("a/pyramid.tif/page 2",)
    assert tables.files is not None
    assert "a/pyramid.tif" in tables.files[0] + tables.files[1]
    assert tables.found.pages == (13, 12 * N_PAGES + 1)


def test_a_broken_page_is_named_and_skipped_alone(stacks: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = stacks / "a" / "0.tif"
    with Image.open(path) as image:
        image.seek(2)
        offset = image.tag_v2[273][0]  # type: ignore[attr-defined]
        image.tag_v2[273] = ()  # type: ignore[attr-defined]
    content = path.read_bytes()
    needle = offset.to_bytes(4, "little")
    path.write_bytes(content.replace(needle, (2**31 - 1).to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"1 of 48 images .* \(?a/0.tif/page 3"):
        read(stacks)
    with caplog.at_level(logging.WARNING):
        tables = read(stacks, on_bad_image="skip")
    assert tables.found is not None
    assert tables.found.pages == (12, 12 * N_PAGES - 1)
    assert [each.names for each in tables.found.left_out] == [("a/0.tif/page 3",)]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_stack_that_is_cut_off_is_named_and_not_read_in_part(stacks: Path) -> None:
    path = stacks / "a" / "0.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"1 of 45 images .* a/0.tif \("):
        read(stacks)
    skipped = read(stacks, on_bad_image="skip")
    assert len(skipped.train) + len(skipped.test) == 44
    (stacks / "manifest.csv").write_text("path,page\na/0.tif,2\na/2.tif,2\nb/1.tif,3\n")
    with pytest.raises(DataError, match=r"1 of 3 images .* a/0.tif \("):
        read(stacks)


def test_arrays_of_four_axes_are_images_of_their_own(stacks: Path) -> None:
    np.save(stacks / "b" / "many.npy", np.stack([[stored(50, page)] * 3 for page in range(5)]))
    tables = read(stacks)
    assert tables.found is not None
    assert tables.found.pages == (13, 12 * N_PAGES + 5)
    with pytest.raises(DataError, match=r"many.npy \(an array of shape .* four axes with stack: pages"):
        read(stacks, stack="first")


def test_pages_of_a_single_file_cannot_be_split(tmp_path: Path) -> None:
    write_pages(tmp_path / "only" / "x.tif", [stored(0, page) for page in range(20)])
    with pytest.raises(DataError, match=r"all 20 images are pages of x.tif, .* add other files"):
        load(tmp_path / "only", stack="pages")


def test_a_manifest_names_a_page_or_all_of_them(stacks: Path) -> None:
    lines = [f"{'ab'[i % 2]}/{i}.tif,{'xy'[i % 2]}," for i in range(10)]
    lines += ["a/10.tif,x,2", "a/10.tif,y,4"]
    (stacks / "manifest.csv").write_text("\n".join(["path,label,page", *lines]))
    tables = read(stacks)
    assert tables.files is not None
    labels = np.concatenate([np.asarray(table.labels) for table in (tables.train, tables.test)])
    of_page = dict(zip(tables.files[0] + tables.files[1], labels.tolist(), strict=True))
    assert len(of_page) == 10 * N_PAGES + 2
    assert (of_page["a/10.tif/page 2"], of_page["a/10.tif/page 4"], of_page["b/3.tif/page 1"]) == (0, 1, 1)


@pytest.mark.parametrize(
    ("text", "stack", "message"),
    [
        ("path,page\na/0.tif,5\n", "pages", "line 2: page 5, but a/0.tif has the pages 1 to 4"),
        ("path,page\na/0.tif,1\na/0.tif,\n", "pages", "line 3: a/0.tif/page 1 is already in line 2"),
        ("path,page\na/0.tif,1\n", "first", "has a column page; set stack: pages"),
        ("path,mask\na/0.tif,mask.tif\n", "pages", "line 2: 4 pages, but the mask mask.tif has 3"),
    ],
)
def test_faults_of_pages_are_named_with_their_line(stacks: Path, text: str, stack: str, message: str) -> None:
    write_pages(stacks / "mask.tif", [np.zeros((SIDE, SIDE), np.uint8)] * 3)
    (stacks / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read(stacks, stack=stack)


def test_a_mask_has_a_page_for_each_page_of_its_image(stacks: Path) -> None:
    rows = []
    for i in range(12):
        classes = [np.full((SIDE, SIDE), page, np.uint8) for page in range(N_PAGES)]
        write_pages(stacks / "masks" / f"{i}.tif", classes)
        rows.append(f"{'ab'[i % 2]}/{i}.tif,masks/{i}.tif")
    (stacks / "manifest.csv").write_text("\n".join(["path,mask", *rows]))
    train = read(stacks).train
    assert train.masks is not None
    for image, mask in zip(train.images, train.masks, strict=True):
        (page,) = {page for i in range(12) for page in range(N_PAGES) if (image == stored(i, page)).all()}
        assert (mask == page).all()


def test_the_frames_of_an_animation_are_images(tmp_path: Path) -> None:
    frames = [np.full((SIDE, SIDE, 3), value, np.uint8) for value in (0, 120, 240)]
    write_pages(tmp_path / "x.gif", frames)
    paths, pages = list_images(tmp_path, "x", by_page=True)
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [f"x.gif/page {i}" for i in (1, 2, 3)]
    assert [pages[path].number for path in paths] == [0, 1, 2]
