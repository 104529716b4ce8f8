"""Conformance tests of every data set, built-in or user-written, and loading by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import CORE
from trainables.data import load_splits
from trainables.data.splits import content_keys
from trainables.data.table import UNLABELED, VOID, ImageTable, Splits
from trainables.errors import ConfigError, DataError

WRITTEN = ("shapes", "cifar10", "fashion_mnist", "voc2007", "voc2012", "birds", "folder:labeled", "folder:flat")
REAL = ("cifar10", "fashion_mnist", "voc2012")
MAX_TRAIN = 300


@pytest.fixture(scope="session")
def written_root(
    tmp_path_factory: pytest.TempPathFactory,
    write_classes: Callable,
    write_photo: Callable,
    write_fashion_mnist: Callable,
    write_voc: Callable,
) -> Path:
    root = tmp_path_factory.mktemp("data")
    for part in ("train", "test"):
        write_classes(root / "cifar10" / part, size=(32, 32))
    write_fashion_mnist(root)
    write_voc(root, "2012")
    write_voc(root, "2007", trainval=30, test=5)
    write_classes(root / "birds", ("emu", "gull", "wren"), n=8, size=(120, 100))
    write_classes(root / "labeled", size=(120, 100))
    for i in range(60):
        write_photo(root / "flat" / f"{i}.png", (100, 130))
    return root


def load(name: str, root: Path, **options: object) -> Splits:
    if name.startswith("folder:"):
        name, root = f"folder:{root / name.removeprefix('folder:')}", Path("unused")
    return load_splits(name, root=root, max_train=MAX_TRAIN, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session", params=[*WRITTEN, *(pytest.param(f"real {name}", marks=CORE) for name in REAL)])
def named_root(request: pytest.FixtureRequest, written_root: Path) -> tuple[str, Path]:
    if request.param.startswith("real "):
        return request.param.removeprefix("real "), request.getfixturevalue("data_root")
    return request.param, written_root


@pytest.fixture(scope="session")
def splits(named_root: tuple[str, Path]) -> Splits:
    return load(*named_root)


def tables(splits: Splits) -> list[ImageTable]:
    every = (splits.pretext_train, splits.pretext_validation, splits.probe_train, splits.probe_validation, splits.test)
    return [table for table in every if table is not None]


def test_loading_again_gives_the_same_fingerprint(named_root: tuple[str, Path], splits: Splits) -> None:
    assert load(*named_root).fingerprint == splits.fingerprint


def test_another_seed_draws_another_validation_split(named_root: tuple[str, Path], splits: Splits) -> None:
    other = load(*named_root, seed=1)
    assert other.pretext_validation.fingerprint != splits.pretext_validation.fingerprint
    if named_root[0] != "shapes":
        assert other.test.fingerprint == splits.test.fingerprint


def test_images_are_contiguous_uint8_squares_of_the_native_size(named_root: tuple[str, Path], splits: Splits) -> None:
    size = 32 if named_root[0] in ("shapes", "cifar10", "fashion_mnist") else 96
    for table in tables(splits):
        assert len(table) > 0 or (table is splits.test and not splits.annotated)
        assert table.images.shape[1:] == (3, size, size)
        assert table.images.flags.c_contiguous
        assert not len(table) or table.images.std() > 5


def test_splits_share_no_image(splits: Splits) -> None:
    train, validation, test = (
        set(content_keys(table)) for table in (splits.pretext_train, splits.pretext_validation, splits.test)
    )
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_probe_splits_are_the_annotated_part_of_the_pretext_splits(splits: Splits) -> None:
    for probe, pretext in (
        (splits.probe_train, splits.pretext_train),
        (splits.probe_validation, splits.pretext_validation),
    ):
        if probe is None:
            assert splits.test.labels is None
            assert splits.test.masks is None
            continue
        assert set(content_keys(probe)) <= set(content_keys(pretext))
        assert probe.labels is not None or probe.masks is not None
        if len(probe) == len(pretext):
            assert probe is pretext


def test_labels_and_masks_are_in_range(splits: Splits) -> None:
    for table in tables(splits):
        if table.labels is not None:
            assert table.labels.dtype == np.int64
            assert table.n_classes >= 2
            assert table.labels.min() >= UNLABELED
            assert table.labels.max() < table.n_classes
        if table.masks is not None:
            assert table.masks.dtype == np.uint8
            ids = np.unique(table.masks)
            assert (ids[ids != VOID] < len(table.mask_names)).all()


def test_subsets_are_nested(splits: Splits) -> None:
    n = len(splits.pretext_train)
    small, large = (splits.pretext_train.subset(size, seed=5) for size in (n // 3, n // 2))
    np.testing.assert_array_equal(small.images, large.images[: n // 3])


def test_a_smaller_image_size_is_obeyed(named_root: tuple[str, Path]) -> None:
    assert load(*named_root, image_size=24).test.image_size == 24


@pytest.mark.parametrize("name", REAL)
def test_the_real_samples_load_whole(data_root: Path, name: str) -> None:
    # cifar10 is read in part: its 12,000 files take seconds.
    counts = {"cifar10": (400, 100, 2000), "fashion_mnist": (8000, 2000, 2000), "voc2012": (214, 53, 133)}[name]
    splits = load_splits(name, root=data_root, max_train=500 if name == "cifar10" else None)
    found = (len(splits.pretext_train), len(splits.pretext_validation), len(splits.test))
    assert np.abs(np.subtract(found, counts)).max() <= 3
    assert splits.labeled == (name != "voc2012")


def test_shapes_has_its_default_counts_and_obeys_max_train() -> None:
    splits = load_splits("shapes", root=None)
    assert len(splits.pretext_train) + len(splits.pretext_validation) == 4000
    assert len(splits.test) == 1000
    few = load_splits("shapes", root=None, max_train=50)
    assert len(few.pretext_train) + len(few.pretext_validation) == 50


def test_an_unknown_name_gets_the_closest_match(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Did you mean cifar10"):
        load_splits("CIFAR-10", root=tmp_path)
    with pytest.raises(DataError, match=r"Did you mean fashion_mnist\?.*--data-root"):
        load_splits("fashionmnist", root=None)
    with pytest.raises(DataError, match=f"{tmp_path} has no folder of that name"):
        load_splits("zebras", root=tmp_path)


def test_a_set_that_needs_a_data_root_asks_for_one() -> None:
    with pytest.raises(DataError, match="add --data-root DIR"):
        load_splits("cifar10", root=None)
    with pytest.raises(DataError, match=r"data root .* is not a folder"):
        load_splits("cifar10", root=Path("no/such/folder"))


@pytest.mark.parametrize("name", ["../birds", "..", "/etc", "a/b", "a\\b", ".hidden", "", "folder:"])
def test_a_name_cannot_leave_the_data_root(tmp_path: Path, write_classes: Callable, name: str) -> None:
    write_classes(tmp_path / "birds")
    (tmp_path / "root").mkdir()
    with pytest.raises(ConfigError, match="must be a plain name or folder:PATH"):
        load_splits(name, root=tmp_path / "root")


def test_a_named_folder_that_links_out_of_the_data_root_is_refused(tmp_path: Path, write_classes: Callable) -> None:
    write_classes(tmp_path / "elsewhere")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "birds").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"leads out of the data root.*use folder:"):
        load_splits("birds", root=tmp_path / "root")


def test_small_photographs_are_refused_with_the_size_that_would_do(tmp_path: Path, write_classes: Callable) -> None:
    folder = write_classes(tmp_path, size=(48, 40))
    with pytest.raises(DataError, match=r"20 of 20 images .*lower image_size to 40"):
        load_splits(f"folder:{folder}", root=None)
    assert load_splits(f"folder:{folder}", root=None, image_size=40).labeled


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad_image": "ignore"}, "on_bad_image = 'ignore': must be one of stop, skip"),
        ({"resize": "stretch"}, "resize = 'stretch': must be one of crop, squash"),
        ({"image_size": 4}, "image_size = 4"),
        ({"max_train": 1}, "max_train = 1"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_impossible_values_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_splits("shapes", root=None, **options)


@pytest.mark.parametrize("name", ["voc2012", "birds", "folder:flat"])
def test_photographs_are_squashed_where_that_is_asked_for(name: str, written_root: Path) -> None:
    cropped, squashed = (load(name, written_root, image_size=24, resize=how) for how in ("crop", "squash"))
    assert cropped.pretext_train.images.shape == squashed.pretext_train.images.shape
    assert not np.array_equal(cropped.pretext_train.images, squashed.pretext_train.images)


def test_shapes_needs_neither_torchvision_nor_ray() -> None:
    code = (
        "import sys; from trainables.data import load_splits; load_splits('shapes', root=None, max_train=20);"
        "sys.exit(any(name in sys.modules for name in ('torchvision', 'ray', 'mlflow', 'pandas', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
