"""Copies of an image are found and kept on one side; different images are not taken for copies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainables.data.copies import N_COPIES, N_SCENES, SIDE, parts, photographs, scenes
from trainables.data import load_splits, shapes
from trainables.data.near_duplicates import near_duplicates
from trainables.data.splits import make_splits
from trainables.data.table import ImageTable, Splits
from trainables.errors import ConfigError, DataError


def scene_of(table: ImageTable, every: ImageTable) -> set[int]:
    """Return the scenes of a split's images."""
    rows = {image.tobytes(): row for row, image in enumerate(every.images)}
    return {rows[image.tobytes()] // N_COPIES for image in table.images}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: np.roll(image, (1, 1), axis=(-2, -1)), id="shifted"),
        pytest.param(lambda image: image * 1.2, id="brighter"),
        pytest.param(lambda image: image + np.random.default_rng(0).normal(0, 0.005, image.shape), id="noisy"),
    ],
)
@pytest.mark.parametrize(("channels", "dtype", "white"), [(3, "uint8", 255), (5, "uint16", 65_535), (1, "float32", 1)])
def test_a_copy_is_found_in_any_channels_and_depth(
    change: Callable[[np.ndarray], np.ndarray], channels: int, dtype: str, white: float
) -> None:
    images = scenes(40, channels=channels)
    copies = np.clip(change(images[:10]), 0, 1)
    found = near_duplicates((copies * white).astype(dtype), (images * white).astype(dtype))
    assert found.tolist() == [[row, row] for row in range(10)]


def test_different_images_are_not_copies() -> None:
    every = shapes.generate(1200, image_size=32, seed=0, split="train").images
    assert not len(near_duplicates(every[:200], every[200:]))
    flat = np.full((5, 3, 32, 32), 7, np.uint8)
    assert not len(near_duplicates(flat, flat)), "an image without contrast resembles nothing"


def test_move_keeps_copies_on_one_side_of_all_splits() -> None:
    every = photographs()
    splits = make_splits(*parts(every), leak="move", test_fraction=0.2)
    tables = splits.pretext_train, splits.pretext_validation, splits.test
    first, second, third = (scene_of(table, every) for table in tables)
    assert not first & second | first & third | second & third
    assert sum(map(len, tables)) == len(every), "nothing is lost"
    assert all((np.bincount(np.asarray(table.labels), minlength=3) > 0).all() for table in tables)
    assert splits.leaks is not None
    assert not splits.leaks.found
    assert splits.leaks.n_moved


def test_move_leaves_copies_of_a_given_test_split_out_of_training(caplog: pytest.LogCaptureFixture) -> None:
    every = photographs()
    train, test = parts(every)
    with caplog.at_level(logging.WARNING):
        splits = make_splits(train, test, leak="move")
    assert splits.test is test
    assert not scene_of(test, every) & (
        scene_of(splits.pretext_train, every) | scene_of(splits.pretext_validation, every)
    )
    assert "near duplicates of held-out ones and are left out" in caplog.text


def test_extra_images_that_are_copies_of_held_out_ones_are_left_out() -> None:
    every = photographs()
    train, test = every.take(np.arange(0, len(every), N_COPIES)), photographs(seed=1).take(np.arange(9) * N_COPIES)
    extra = ImageTable("extra", every.images[1::N_COPIES])
    splits = make_splits(train, test, extra_pretext=extra, leak="move")
    assert not scene_of(splits.pretext_train, every) & scene_of(splits.pretext_validation, every)


@pytest.mark.parametrize("policy", ["move", "stop"])
def test_without_copies_nothing_changes(policy: str) -> None:
    every = photographs()
    single = every.take(np.arange(0, len(every), N_COPIES))
    plain = make_splits(single.take(np.arange(24)), single.take(np.arange(24, 30)))
    other = make_splits(single.take(np.arange(24)), single.take(np.arange(24, 30)), leak=policy, test_fraction=0.2)
    assert other.fingerprint == plain.fingerprint
    assert other.leaks is not None
    assert not other.leaks.n_moved


def test_allow_counts_them_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    every = photographs()
    train, test = parts(every)
    with caplog.at_level(logging.WARNING):
        splits = make_splits(train, test)
    assert splits.leaks is not None
    shared = scene_of(splits.pretext_train, every)
    rows = {image.tobytes(): row for row, image in enumerate(every.images)}
    expected = [rows[image.tobytes()] // N_COPIES in shared for image in test.images]
    assert splits.leaks.test.tolist() == expected
    assert splits.without_masks().leaks is splits.leaks
    assert [record.message.count("near duplicates") for record in caplog.records] == [1]


def test_stop_names_the_files() -> None:
    train, test = parts(photographs())
    files = [f"train/{row}.png" for row in range(len(train))], [f"test/{row}.png" for row in range(len(test))]
    with pytest.raises(DataError, match=r"near duplicates.*test/\d+\.png \(test\) and train/\d+\.png.*leak: move"):
        make_splits(train, test, leak="stop", files=files)
    with pytest.raises(ConfigError, match="leak = 'ignore': must be one of stop, move, allow"):
        make_splits(train, test, leak="ignore")


def grouped_splits() -> Splits:
    train, test = photographs(), photographs(seed=1)
    groups = np.repeat(np.arange(N_SCENES), N_COPIES)
    extra = ImageTable("extra", (scenes(30, seed=2) * 255).astype(np.uint8), groups=np.arange(30))
    own = ImageTable(**{**vars(train), "groups": groups})
    return make_splits(own, ImageTable(**{**vars(test), "groups": groups + 25}), extra_pretext=extra)


def test_groups_stay_together_in_all_splits(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        splits = grouped_splits()
    tables = splits.pretext_train, splits.pretext_validation, splits.test
    groups = [set(np.asarray(table.groups).tolist()) for table in tables]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert "20 training images are in groups that are also held out" in caplog.text
    assert splits.probe_train is not None
    assert set(np.asarray(splits.probe_train.groups)) <= groups[0]
    assert np.bincount(np.asarray(splits.pretext_validation.labels)).min() >= N_COPIES
    assert grouped_splits().fingerprint == splits.fingerprint


def test_a_class_in_one_group_is_named(caplog: pytest.LogCaptureFixture) -> None:
    images = scenes(30)
    labels, groups = np.repeat([0, 1], 15), np.where(np.arange(30) < 15, 0, np.arange(30))
    table = ImageTable("one", (images * 255).astype(np.uint8), labels, class_names=("lone", "other"), groups=groups)
    test = ImageTable(
        "one", (scenes(4, seed=5) * 255).astype(np.uint8), np.array([0, 1, 0, 1]), class_names=("lone", "other")
    )
    with caplog.at_level(logging.WARNING):
        make_splits(table, test)
    assert "one: no validation image of class lone" in caplog.text
    with pytest.raises(DataError, match="in one group"):
        make_splits(table.take(np.arange(15)), test)


def test_a_class_of_near_duplicates_is_named_on_the_side_that_lacks_it(caplog: pytest.LogCaptureFixture) -> None:
    every = photographs()
    labels = np.where(np.arange(len(every)) < N_COPIES, 0, 1)  # the copies of one scene are a class
    train = ImageTable("plates", every.images, labels, class_names=("lone", "other"))
    given = train.take(np.array([0, N_COPIES]))
    for test, part in ((photographs(seed=1).take(np.arange(8)), "validation"), (given, "training")):
        own = ImageTable("plates", test.images, np.arange(len(test)) % 2, class_names=("lone", "other"))
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            make_splits(train, own, leak="move")
        assert f"no {part} image of class lone: all its images are in other splits" in caplog.text


def write_copies(folder: Path) -> Path:
    """Write four copies of each of 30 scenes to FOLDER/CLASS and return the folder."""
    every = photographs()
    for row, image in enumerate(every.images):
        path = folder / "abc"[np.asarray(every.labels)[row]] / f"scene{row // N_COPIES:02d}_{row % N_COPIES}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return folder


def test_a_folder_is_split_without_leaks_unless_the_user_allows_them_or_gives_the_test_split(tmp_path: Path) -> None:
    name = f"folder:{write_copies(tmp_path / 'drawn')}"
    moved, allowed = (load_splits(name, root=None, image_size=SIDE, leak=leak) for leak in (None, "allow"))
    assert moved.leaks is not None
    assert allowed.leaks is not None
    assert (moved.leaks.policy, moved.leaks.found, allowed.leaks.found) == ("move", False, True)
    grouped = load_splits(name, root=None, image_size=SIDE, leak="allow", group_pattern=r"scene\d+")
    assert grouped.leaks is not None
    assert not grouped.leaks.found
    with pytest.raises(DataError, match=r"\w/scene\d+_\d\.png \(test\) and \w/scene\d+_\d\.png"):
        load_splits(name, root=None, image_size=SIDE, leak="stop")
    for part in ("train", "test"):
        write_copies(tmp_path / "given" / part)
        for image in (tmp_path / "given" / part).rglob("*_[01].png" if part == "train" else "*_[23].png"):
            image.unlink()
    given = load_splits(f"folder:{tmp_path / 'given'}", root=None, image_size=SIDE)
    assert given.leaks is not None
    assert (given.leaks.policy, given.leaks.found, given.leaks.n_moved) == ("allow", True, 0)


def test_stop_names_the_files_of_unlabeled_images(tmp_path: Path) -> None:
    folder = write_copies(tmp_path / "photos")
    (folder / "unlabeled").mkdir()
    for image in [*folder.rglob("*_[123].png")]:
        image.rename(folder / "unlabeled" / image.name)
    with pytest.raises(DataError, match=r"\w/scene\d+_0\.png \(test\) and unlabeled/scene\d+_\d\.png"):
        load_splits(f"folder:{folder}", root=None, image_size=SIDE, leak="stop")


def test_probes_have_the_labeled_images_and_pretext_tasks_all_without_one_on_both_sides() -> None:
    every = photographs()
    labeled, test = every.take(np.arange(0, 60, N_COPIES)), every.take(np.arange(60, 90, N_COPIES))
    unlabeled = ImageTable("more", np.concatenate([every.images[90:], labeled.images[:4], test.images[:4]]))
    splits = make_splits(labeled, test, extra_pretext=unlabeled, leak="move")
    assert splits.probe_train is not None
    assert splits.probe_validation is not None
    assert len(splits.probe_train) + len(splits.probe_validation) == len(labeled)
    held_out = {image.tobytes() for table in (splits.pretext_validation, splits.test) for image in table.images}
    trained = [image.tobytes() for image in splits.pretext_train.images]
    assert not held_out & set(trained)
    assert len(trained) >= len(splits.probe_train) + 30, "all other images are trained on"


def test_copies_of_another_side_and_other_channels_are_found() -> None:
    images = (scenes(5) * 255).astype(np.uint8)
    larger = images.repeat(3, axis=2).repeat(3, axis=3)[:, :1]
    smaller = images.reshape(5, 3, SIDE // 2, 2, SIDE // 2, 2).mean((3, 5)).astype(np.uint8)
    for other in (larger, smaller):
        assert near_duplicates(other, images).tolist() == [[row, row] for row in range(5)]
