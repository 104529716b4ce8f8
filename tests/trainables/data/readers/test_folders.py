"""Folders of images: every layout, a fixed order, a test part in any case, and one clear line for each error."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainables.data.readers.folders import load_folder
from trainables.data.readers.layout import list_parts
from trainables.data.readers.listing import Listing, hold_out
from trainables.data.readers.walk import Walk, list_images
from trainables.data.request import Request
from trainables.errors import DataError

Write = Callable[..., Path]


def request_for(folder: Path, **options: object) -> Request:
    return Request(**{"name": f"folder:{folder}", "root": None, "image_size": 32, **options})  # type: ignore[arg-type]


def listed(folder: Path, **options: str) -> tuple[Listing, Listing]:
    parts = list_parts(Walk(folder.resolve(), "x"), **options)
    return parts.train, parts.test


def test_class_folders_with_train_and_test(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "train", n=6)
    write_classes(tmp_path / "test", n=3)
    (tmp_path / "README.md").write_text("about")
    tables = load_folder(request_for(tmp_path), tmp_path)
    assert tables.train.class_names == ("cat", "dog")
    assert tables.train.labels is not None
    assert tables.train.labels.tolist() == [0] * 6 + [1] * 6
    assert tables.test.labels is not None
    assert tables.test.labels.tolist() == [0] * 3 + [1] * 3
    assert tables.train.images.shape == (12, 3, 32, 32)
    assert tables.train.labels.dtype == np.int64


def test_images_and_labels_belong_together_also_when_one_is_skipped(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "train", n=6)
    write_classes(tmp_path / "test", n=3)
    whole = load_folder(request_for(tmp_path), tmp_path)
    (tmp_path / "train" / "cat" / "2.png").write_bytes(b"broken")
    (tmp_path / "test" / "cat" / "0.png").write_bytes(b"broken")
    skipped = load_folder(request_for(tmp_path, on_bad_image="skip"), tmp_path)
    for part, lost in ((0, 2), (1, 0)):
        np.testing.assert_array_equal(skipped[part].images, np.delete(whole[part].images, lost, axis=0))  # type: ignore[union-attr]
        np.testing.assert_array_equal(skipped[part].labels, np.delete(whole[part].labels, lost))  # type: ignore[union-attr,arg-type]


def test_class_folders_without_test_hold_out_a_fifth_of_each_class(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, ("cat", "dog", "emu"), n=10)
    train, test = listed(tmp_path)
    assert np.bincount(np.asarray(test.labels)).tolist() == [2, 2, 2]
    assert np.bincount(np.asarray(train.labels)).tolist() == [8, 8, 8]
    assert not set(train.paths) & set(test.paths)


def test_a_train_folder_alone_holds_out_too(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "train", n=5)
    train, test = listed(tmp_path)
    assert (len(train.paths), len(test.paths)) == (8, 2)


def test_a_flat_folder_has_no_labels(tmp_path: Path, write_photo: Write) -> None:
    for i in range(10):
        write_photo(tmp_path / f"{i}.jpg")
    tables = load_folder(request_for(tmp_path), tmp_path)
    assert (len(tables.train), len(tables.test)) == (10, 0)
    assert tables.train.labels is None
    assert tables.train.class_names == ()


def test_the_held_out_part_does_not_move_with_the_folder_or_with_new_classes(
    tmp_path: Path, write_classes: Write
) -> None:
    write_classes(tmp_path / "a", n=20)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    write_classes(tmp_path / "b", ("ant",), n=7)
    held = [
        {path.relative_to(tmp_path / name).as_posix() for path in listed(tmp_path / name)[1].paths}
        for name in ("a", "b")
    ]
    assert held[0] == {path for path in held[1] if not path.startswith("ant")}


def test_the_order_is_that_of_the_paths_not_of_the_file_system(tmp_path: Path, write_photo: Write) -> None:
    for name in ("b/2.png", "b/10.png", "a/z.png", "c/d/1.png"):
        write_photo(tmp_path / name)
    assert [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path, "x")[0]] == [
        "a/z.png",
        "b/10.png",
        "b/2.png",
        "c/d/1.png",
    ]


def test_fewer_training_images_leave_the_test_part_alone_and_are_nested(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, n=20)
    few, more, every = (load_folder(request_for(tmp_path, max_train=n), tmp_path) for n in (5, 12, None))
    assert (len(few.train), len(more.train), len(every.train)) == (5, 12, 32)
    assert few.test.fingerprint == every.test.fingerprint
    images = [{image.tobytes() for image in tables.train.images} for tables in (few, more, every)]
    assert images[0] < images[1] < images[2]
    assert set(np.asarray(few.train.labels)) == {0, 1}


def test_hidden_and_other_files_are_left_out(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, n=5)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / ".hidden.png").write_text("x")
    (tmp_path / ".git").mkdir()
    train, test = listed(tmp_path)
    assert len(train.paths) + len(test.paths) == 10


def test_a_class_of_two_is_in_both_parts_and_a_class_of_one_is_trained_on(tmp_path: Path, write_photo: Write) -> None:
    for name in ("pair/0.png", "pair/1.png", "single/0.png"):
        write_photo(tmp_path / name)
    train, test = listed(tmp_path)
    assert train.labels is not None
    assert test.labels is not None
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1], [0])
    assert hold_out(train, tmp_path)[1].paths == ()


def test_one_class_is_refused_with_the_way_out(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, ("cat",))
    with pytest.raises(DataError, match=r"single class folder 'cat'.*folder:.*/cat"):
        load_folder(request_for(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has no images"),
        (["notes.txt"], "has no images"),
        (["a/1.png", "b/notes.txt"], "class folder b of .* has no images"),
        (["a/1.png", "1.png"], r"has images \(1.png\) next to a folder with images \(a\)"),
        (["train/a/1.png", "train/b/1.png", "more/a/1.png"], "has more next to train/"),
        (["train/a/1.png", "train/b/1.png", "1.png"], "has 1.png next to train/"),
        (["Train/a/1.png", "training/a/1.png"], "has two train folders, Train and training"),
        (["Train/1.png", "Test/1.png", "Bus/1.png"], "has Bus next to Test/"),
        (["test/a/1.png", "test/b/1.png"], "has a test folder but no train folder"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "class folder c of .* is not among the training"),
        (["train/a/1.png", "train/b/1.png", "test/1.png"], "only one of train and test has class folders"),
        (["train/a/1.png", "train/b/1.png", "test/a/notes.txt"], "test has no images"),
        (["a/1.png", "b/1.png"], "no test part can be held out of .*: no class has two images; add images"),
        (["a/1.png", "b/1.png", "val/a/1.png", "val/b/1.png"], "has val/a/ next to a/: move the class folders into"),
        (["a/1.png", "b/1.png", "TEST/b/1.png"], "has TEST/b/ next to b/: move the class folders into .*/train/, or"),
        (["Zoe\u0308/1.png", "Zo\u00eb/1.png"], "has two class folders named .* join them"),
    ],
)
def test_a_layout_that_cannot_be_meant_is_refused(
    tmp_path: Path, write_photo: Write, files: list[str], message: str
) -> None:
    for name in files:
        if name.endswith(".png"):
            write_photo(tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=message):
        load_folder(request_for(tmp_path), tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path / 'nowhere'} is not a folder"):
        load_folder(request_for(tmp_path / "nowhere"), tmp_path / "nowhere")


@pytest.mark.parametrize("link", ["cat/out.png", "emu"])
def test_links_that_lead_out_are_refused(tmp_path: Path, write_classes: Write, write_photo: Write, link: str) -> None:
    folder = write_classes(tmp_path / "photos")
    outside = write_photo(tmp_path / "elsewhere" / "secret.png")
    (folder / link).symlink_to(outside if link.endswith(".png") else outside.parent)
    with pytest.raises(DataError, match=f"the link .*{link} leads out of"):
        load_folder(request_for(folder), folder)


def test_links_within_the_folder_are_read_but_never_followed_into_folders(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, n=5)
    (tmp_path / "cat" / "twin.png").symlink_to(tmp_path / "cat" / "0.png")
    train, test = listed(tmp_path)
    assert len(train.paths) + len(test.paths) == 11
    (tmp_path / "dog" / "loop").symlink_to(tmp_path)
    with pytest.raises(DataError, match="loop is a link to a folder"):
        listed(tmp_path)


def test_the_folder_itself_may_be_reached_by_a_link(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path / "disk", n=5)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert len(load_folder(request_for(tmp_path), tmp_path / "link").train) == 8


def test_a_link_to_itself_is_a_broken_image(tmp_path: Path, write_classes: Write) -> None:
    write_classes(tmp_path, n=5)
    (tmp_path / "cat" / "self.png").symlink_to(tmp_path / "cat" / "self.png")
    with pytest.raises(DataError, match=r"cat/self\.png"):
        load_folder(request_for(tmp_path), tmp_path)
