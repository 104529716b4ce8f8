"""Manifests: every column does what it says, and every fault is named with its line."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.data import load_splits
from trainables.data.readers.folders import load_folder
from trainables.data.request import Request, Tables
from trainables.errors import ConfigError, DataError

Write = Callable[..., Path]
N = 12


@pytest.fixture
def folder(tmp_path: Path, write_photo: Write) -> Path:
    for i in range(N):
        write_photo(tmp_path / "scans" / f"{i}.png")
    return tmp_path


def read(folder: Path, text: str, **options: object) -> Tables:
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    return load_folder(Request(f"folder:{folder}", None, 32, **options), folder)  # type: ignore[arg-type]


def lines(header: str, line: Callable[[int], str], n: int = N) -> str:
    return "\n".join([header, *(f"scans/{i}.png,{line(i)}" for i in range(n))]) + "\n"


def test_labels_splits_and_images_without_either(folder: Path) -> None:
    rows = ["a,train"] * 3 + ["b,Training"] * 3 + ["a,test", "b,test", ",train", ",unlabeled", ",test"]
    tables = read(folder, lines("path,label,split", rows.__getitem__, 11))
    assert np.asarray(tables.train.labels).tolist() == [0] * 3 + [1] * 3
    assert tables.train.class_names == ("a", "b")
    assert len(tables.test) == 2
    assert tables.unannotated is not None
    assert len(tables.unannotated) == 2
    assert tables.found is not None
    left_out = {each.reason: each.names for each in tables.found.left_out}
    assert left_out["not listed in manifest.csv"] == ("scans/11.png",)
    assert left_out["held out from training, without a label"] == ("scans/10.png",)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_spreadsheet_s_separators_and_mark_are_read(folder: Path, delimiter: str) -> None:
    text = lines("path,label", lambda i: "ab"[i % 2]).replace(",", delimiter)
    tables = read(folder, "\ufeff" + text)
    assert len(tables.train) + len(tables.test) == N
    assert tables.test_is_drawn


def test_groups_stay_together_and_images_without_one_are_independent(folder: Path) -> None:
    read(folder, lines("path,label,group", lambda i: f"{'ab'[i % 2]},{'' if i > 7 else i // 2 // 2 * 2 + i % 2}"))
    splits = load_splits(f"folder:{folder}", root=None, image_size=32)
    tables = (splits.pretext_train, splits.pretext_validation, splits.test)
    groups = [set(np.asarray(table.groups).tolist()) for table in tables]
    assert sum(map(len, groups)) == len(set().union(*groups)) == 4 + 4
    assert splits.inventory is not None
    assert "8 groups" in splits.inventory.line


def test_masks_are_read_with_their_images(folder: Path) -> None:
    for i in range(N - 2):
        mask = np.full((40, 48), i % 3, np.uint8)
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    tables = read(folder, lines("path,mask", lambda i: f"masks/{i}.png" if i < N - 2 else ""))
    assert tables.train.masks is not None
    assert tables.train.mask_names == ("0", "1", "2")
    assert tables.train.labels is None
    assert set(np.unique(tables.train.masks)) <= {0, 1, 2}
    assert tables.unannotated is not None
    assert len(tables.unannotated) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 255), "the masks have the single class 0, .* 255 means void, which is not scored: write the object as 1"),
        ((255, 255), "the masks have no class, .* 255 means void"),
        ((3, 3), "the masks have the single class 3, .* correct them, or remove the column mask"),
    ],
)
def test_masks_of_a_single_class_are_refused(folder: Path, values: tuple[int, int], message: str) -> None:
    mask = np.full((40, 48), values[0], np.uint8)
    mask[:20] = values[1]
    Image.fromarray(mask).save(folder / "mask.png")
    with pytest.raises(DataError, match=message):
        read(folder, lines("path,mask", lambda i: "mask.png"))


def test_a_label_is_one_class_in_every_form_of_unicode(folder: Path) -> None:
    labels = [unicodedata.normalize(form, name) for name in ("Zoë", "Ana") for form in ("NFC", "NFD")]
    tables = read(folder, lines("path,label", lambda i: labels[i % 4]))
    assert tables.train.class_names == ("Ana", "Zoë")


@pytest.mark.parametrize(
    ("columns", "of_row", "message"),
    [
        ("path,label,group", lambda i: f"{'ab'[i % 2]},plate", "all images are in one group, and groups stay together"),
        ("path,label,group", lambda i: "ab"[i % 2] + f",plate {i % 2}", "every group has all images of a class"),
        ("path,mask,group", lambda i: "scans/0.png,plate", "all images are in one group"),
        ("path,mask", lambda i: "" if i else "scans/0.png", "only one image has a mask; add images"),
    ],
)
def test_why_no_test_part_can_be_held_out_is_said(
    folder: Path, columns: str, of_row: Callable[[int], str], message: str
) -> None:
    with pytest.raises(DataError, match=f"no test part can be held out of {folder}: {message}"):
        read(folder, lines(columns, of_row))


def test_masks_belong_to_images_of_any_depth(folder: Path) -> None:
    """A left half of 1 in the mask where the image is bright: they keep their place, and 12 bits their values."""
    for i in range(N):
        bright = np.zeros((40, 48), np.uint16)
        bright[:, :24] = 4000
        (folder / "deep").mkdir(exist_ok=True)
        Image.fromarray(bright).save(folder / "deep" / f"{i}.png")
        Image.fromarray((bright > 0).astype(np.uint8)).save(folder / "deep" / f"{i}-mask.png")
    rows = [f"deep/{i}.png,{f'deep/{i}-mask.png' if i < 10 else ''}" for i in range(N)]
    tables = read(folder, "\n".join(["path,mask", *rows]), window=(0.0, 4000.0))
    table, extra = tables.train, tables.unannotated
    assert table.masks is not None
    assert extra is not None
    assert table.images.dtype == extra.images.dtype == np.uint16
    assert table.intensity is not None
    assert extra.images.max() == table.images.max() == 0xFFFF
    inside = np.repeat(table.masks[:, None] == 1, 3, axis=1)
    assert table.images[inside].min() > 0x8000 > table.images[~inside].max()


def test_the_only_manifest_may_be_one_folder_below(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    text = lines("path,label", lambda i: "ab"[i % 2])
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    root = tmp_path_factory.mktemp("unpacked")
    (root / "archive.zip").write_bytes(b"PK")
    (root / "notes").mkdir()
    shutil.copytree(folder, root / "archive")
    found = load_splits(f"folder:{root}", root=None, image_size=32).inventory
    assert found is not None
    assert set(found.classes) == {"a", "b"}
    assert "manifest.csv is in archive/" in found.remarks
    (root / "notes").rmdir()
    shutil.copytree(folder, root / "more")
    both = load_splits(f"folder:{root}", root=None, image_size=32, leak="allow").inventory
    assert both is not None
    assert set(both.classes) == {"archive", "more"}
    assert both.remarks[0].startswith("archive/manifest.csv, more/manifest.csv not read: put one manifest.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line must name the columns"),
        ("file,label\n", r"column 'file': .*known: path, label"),
        ("path\n", "lists no image"),
        ("path\nscans/0.png\nscans/0.png\n", r"line 3: scans/0.png is already in line 2"),
        ("path\nscans/99.png\n", r"line 2: scans/99.png is not a file in"),
        ("path\n../x.png\n", r"line 2: ../x.png is not a path below"),
        ("path\n.\n", r"line 2: . is not a file in"),
        ("path,label\nscans/0.png\n", r"line 2: 1 values for 2 columns"),
        ("path,label\nscans/0.png,a\nscans/1.png,a\n", r"line 1: all training images have the label 'a'"),
        ("path,mask\nscans/0.png,\nscans/1.png,\n", r"line 1: no training image has a mask; name some, or remove"),
        (
            "path,mask,split\nscans/0.png,,train\nscans/1.png,scans/0.png,test\n",
            r"line 1: no training image has a mask; name some, or remove",
        ),
        ("path,split\nscans/0.png,train\nscans/1.png,\n", r"line 3: the split is empty"),
        ("path,split\nscans/0.png,train\nscans/1.png,tset\n", r"line 3: split 'tset'; write train"),
        (
            "path,label,split\nscans/0.png,a,train\nscans/1.png,b,train\nscans/2.png,c,test\n",
            r"line 4: no training image has the label 'c' of this test image",
        ),
        (
            "path,label,split\nscans/0.png,a,train\nscans/1.png,b,train\nscans/2.png,c,val\n",
            r"line 4: no training image has the label 'c' of this validation image",
        ),
        (
            "path,label,split\nscans/0.png,a,train\nscans/1.png,a,val\nscans/2.png,b,val\n",
            r"line 1: all training images have the label 'a'",
        ),
    ],
)
def test_a_fault_is_named_with_its_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(folder, text)


def test_all_faults_are_counted_and_the_first_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: .*; line 3: .*; line 4: .*; and 2 more faults"):
        read(folder, "path\n" + "".join(f"no{i}.png\n" for i in range(5)))


def test_a_pattern_beside_a_manifest_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="remove group_pattern"):
        read(folder, lines("path,label", lambda i: "ab"[i % 2]), group_pattern=r"\d")
