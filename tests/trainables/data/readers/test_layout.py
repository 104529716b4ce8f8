"""Layouts of folders: names of splits, unlabeled images, groups, and what is left out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainables.data import load_splits
from trainables.data.readers.layout import Parts, list_parts, split_of
from trainables.data.readers.walk import Walk
from trainables.data.request import FORMER
from trainables.errors import ConfigError, DataError

Write = Callable[..., Path]


def parts_of(folder: Path, pattern: str | None = None) -> Parts:
    return list_parts(Walk(folder.resolve(), "x"), pattern)


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train", "TRAIN", "Training", "training_set", "train-images", "TrainSet", "images_train"]),
        ("validation", ["val", "Valid", "validation", "dev", "validation set"]),
        ("test", ["test", "Testing", "test_set", "TEST"]),
        ("unlabeled", ["unlabeled", "Unlabeled_images", "unsup", "no_label"]),
        (None, ["trained", "invalid", "contest", "bus", "labels", "device"]),
    ],
)
def test_names_of_splits(split: str | None, names: list[str]) -> None:
    assert [split_of(name) for name in names] == [split] * len(names)


@pytest.mark.parametrize("inside", ["", "photos"])
def test_splits_have_any_common_name_also_one_folder_down(tmp_path: Path, write_classes: Write, inside: str) -> None:
    write_classes(tmp_path / inside / "Training", n=6)
    write_classes(tmp_path / inside / "TEST", n=3)
    parts = parts_of(tmp_path)
    assert (len(parts.train), len(parts.test), parts.test_is_drawn) == (12, 6, False)
    assert parts.train.class_names == ("cat", "dog")
    assert parts.notes == ((f"all images are in {inside}/",) if inside else ())


def test_a_class_may_be_called_train(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, ("Bus", "Car", "Train"), n=5)
    assert parts_of(tmp_path).train.class_names == ("Bus", "Car", "Train")


def test_studies_from_before_keep_a_class_that_is_named_as_a_split(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, n=5)
    write_classes(tmp_path / "val", n=2)
    with pytest.raises(DataError, match="has val/cat/ next to cat/"):
        parts_of(tmp_path)
    former = list_parts(Walk(tmp_path.resolve(), "x"), None, FORMER)
    assert former.train.class_names == ("cat", "dog", "val")


def test_class_folders_are_the_same_in_every_form_of_unicode(tmp_path: Path, write_classes: Write) -> None:
    decomposed, composed = "Zoe\u0308", "Zo\u00eb"
    write_classes(tmp_path / "train", ("Ana", decomposed), n=3)
    write_classes(tmp_path / "test", ("Ana", composed), n=2)
    parts = parts_of(tmp_path)
    assert parts.train.class_names == parts.test.class_names == ("Ana", decomposed)
    assert np.asarray(parts.test.labels).tolist() == [0, 0, 1, 1]


def test_a_validation_folder_is_the_validation_part_or_without_a_test_folder_the_test_part(
    tmp_path: Path, write_classes: Write
) -> None:
    write_classes(tmp_path / "train", n=6)
    write_classes(tmp_path / "valid", n=4)
    alone = parts_of(tmp_path)
    assert (len(alone.train), len(alone.validation), len(alone.test)) == (12, 0, 8)
    assert "are the test part" in alone.notes[0]
    write_classes(tmp_path / "test", n=3)
    given = parts_of(tmp_path)
    assert (len(given.train), len(given.validation), len(given.test)) == (12, 8, 6)
    assert not given.notes
    former = list_parts(Walk(tmp_path.resolve(), "x"), None, FORMER)
    assert (len(former.train), len(former.validation), len(former.test)) == (20, 0, 6)
    assert np.bincount(np.asarray(former.train.labels)).tolist() == [10, 10]
    assert "join the training images" in former.notes[0]


def test_a_validation_folder_validates_pretext_task_and_probe_alone(tmp_path: Path, write_classes: Write) -> None:
    for part, n in (("train", 8), ("val", 5), ("test", 4)):
        write_classes(tmp_path / part, n=n)
    shutil.copy(tmp_path / "test/cat/0.png", tmp_path / "val/cat/copy.png")
    shutil.copy(tmp_path / "val/dog/0.png", tmp_path / "train/dog/copy.png")
    splits = load_splits(f"folder:{tmp_path}", root=None, image_size=32)
    assert splits.probe_validation is splits.pretext_validation
    assert [len(table) for table in (splits.pretext_train, splits.pretext_validation, splits.test)] == [16, 10, 8]
    assert "16 train, 10 validation, 8 test" in str(splits.inventory and splits.inventory.line)


def test_without_labels_all_images_but_those_for_validation_are_trained_on(tmp_path: Path, write_photo: Write) -> None:
    for i in range(20):
        write_photo(tmp_path / "all" / f"{i}.png")
    alone = load_splits(f"folder:{tmp_path / 'all'}", root=None, image_size=32)
    assert [len(table) for table in (alone.pretext_train, alone.pretext_validation, alone.test)] == [16, 4, 0]
    assert "16 train, 4 validation, no test split, which needs labels" in str(alone.inventory and alone.inventory.line)
    for name, n in (("train", 9), ("val", 6), ("test", 5)):
        for i in range(n):
            write_photo(tmp_path / "split" / name / f"{i}.png")
    given = load_splits(f"folder:{tmp_path / 'split'}", root=None, image_size=32)
    assert [len(table) for table in (given.pretext_train, given.pretext_validation, given.test)] == [9, 6, 0]
    assert given.inventory is not None
    assert given.inventory.remarks[0].startswith("left out: 5 files of a test part, which nothing reads without labels")


def test_studies_from_before_keep_the_test_split_of_images_without_labels(tmp_path: Path, write_photo: Write) -> None:
    for i in range(20):
        write_photo(tmp_path / f"{i}.png")
    former = load_splits(f"folder:{tmp_path}", root=None, image_size=32, split_rules=FORMER)
    assert [len(table) for table in (former.pretext_train, former.pretext_validation, former.test)] == [13, 3, 4]


def test_no_more_images_without_labels_are_held_out_than_a_validation_uses(
    tmp_path: Path, write_photo: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.data.load.MOST_VALIDATION", 3)
    for i in range(30):
        write_photo(tmp_path / f"{i}.png")
    splits = load_splits(f"folder:{tmp_path}", root=None, image_size=32)
    assert (len(splits.pretext_train), len(splits.pretext_validation)) == (27, 3)


def test_a_class_folder_named_unlabeled_is_said(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, ("cat", "dog", "unlabeled"), n=10)
    parts = parts_of(tmp_path)
    assert parts.train.class_names == ("cat", "dog")
    assert parts.notes == ("unlabeled/ is read as 10 images without a label; rename it to make it a class",)


@pytest.mark.parametrize("where", ["Unsup", ""])
def test_unlabeled_images_are_for_pretext_training_only(
    tmp_path: Path, write_classes: Write, write_photo: Write, where: str
) -> None:
    write_classes(tmp_path, n=10)
    for i in range(7):
        write_photo(tmp_path / where / f"more{i}.png")
    splits = load_splits(f"folder:{tmp_path}", root=None, image_size=32)
    assert splits.probe_train is not None
    assert splits.pretext_train.class_names == ("cat", "dog")
    assert len(splits.pretext_train) == len(splits.probe_train) + 7
    assert not (np.asarray(splits.test.labels) < 0).any()


def test_what_other_programs_leave_is_left_out_and_images_are_known_by_content(
    tmp_path: Path, write_classes: Write, write_photo: Write
) -> None:
    write_classes(tmp_path, n=5)
    write_photo(tmp_path / "cat" / "@eaDir" / "0.png")
    write_photo(tmp_path / "$RECYCLE.BIN" / "1.png")
    (tmp_path / "cat" / "0.png").rename(tmp_path / "cat" / "0.whatever")
    (tmp_path / "dog" / "photo.heic").write_bytes(b"\0\0\0\x18ftypnone" + bytes(20))
    walk = Walk(tmp_path.resolve(), "x")
    parts = list_parts(walk)
    assert len(parts.train) + len(parts.test) == 10
    found = {each.reason: each.n_files for each in walk.left_out}
    assert found == {"left behind by other programs": 2, "without an image": 1}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (bytes(128) + b"DICM", "DICOM"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a", "JPEG XL"),
    ],
)
def test_formats_that_cannot_be_read_are_named(
    tmp_path: Path, write_classes: Write, content: bytes, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_classes(tmp_path, n=5)
    (tmp_path / "dog" / "scan").write_bytes(content + bytes(20))
    inventory = load_splits(f"folder:{tmp_path}", root=None, image_size=32).inventory
    assert inventory is not None
    expected = f"left out: 1 file in {name} format, which cannot be read; convert them to TIFF or "
    assert any(remark.startswith(expected) for remark in inventory.remarks)


def test_photographs_in_heic_are_read(tmp_path: Path, write_classes: Write) -> None:
    heif = pytest.importorskip("pillow_heif")
    write_classes(tmp_path, n=5)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    heif.from_bytes(mode="RGB", size=(64, 64), data=pixels.tobytes()).save(tmp_path / "cat" / "phone.heic")
    inventory = load_splits(f"folder:{tmp_path}", root=None, image_size=32).inventory
    assert inventory is not None
    assert inventory.n_images == 11


def test_a_text_folder_beside_images_is_no_class(tmp_path: Path, write_photo: Write) -> None:
    for i in range(10):
        write_photo(tmp_path / f"{i}.png")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.txt").write_text("plate 7")
    assert parts_of(tmp_path).train.labels is None


def test_groups_of_a_pattern_stay_together_wherever_the_folder_is(tmp_path: Path, write_photo: Write) -> None:
    held = []
    for copy in ("a", "b"):
        for plate in range(10):
            for i in range(4):
                write_photo(tmp_path / copy / ("cat", "dog")[plate % 2] / f"plate{plate}_{i}.png")
        parts = parts_of(tmp_path / copy, r"plate\d+")
        plates = [{path.name.split("_")[0] for path in part.paths} for part in (parts.train, parts.test)]
        assert not plates[0] & plates[1]
        assert plates[1]
        held.append(plates[1])
    assert held[0] == held[1]


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("(", ConfigError, "not a regular expression"),
        ("cat/[0-3]", DataError, r"does not match 7 images \(cat/4.png, dog/0.png, dog/1.png and 4 more\)"),
        ("png", DataError, "puts all images in one group, 'png'"),
    ],
)
def test_a_pattern_that_cannot_be_meant_is_refused(
    tmp_path: Path, write_classes: Write, pattern: str, error: type[Exception], message: str
) -> None:
    write_classes(tmp_path, n=5)
    (tmp_path / "dog" / "4.png").rename(tmp_path / "dog" / "5.png")
    (tmp_path / "dog" / "6.png").write_bytes((tmp_path / "dog" / "5.png").read_bytes())
    with pytest.raises(error, match=message):
        parts_of(tmp_path, pattern)


def test_small_images_are_enlarged_on_request(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, n=10)  # 48 x 40 px
    name = f"folder:{tmp_path}"
    with pytest.raises(DataError, match="on_small_image: enlarge"):
        load_splits(name, root=None, image_size=64)
    enlarged = load_splits(name, root=None, image_size=64, on_small_image="enlarge")
    assert enlarged.test.image_size == 64
    assert enlarged.inventory is not None
    assert "20 images are enlarged to 64 px" in enlarged.inventory.remarks
