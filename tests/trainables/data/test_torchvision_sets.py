"""CIFAR-10, Fashion-MNIST and VOC in torchvision's layouts, written small by the tests."""

from __future__ import annotations

import logging
import urllib.error
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from trainables.data.request import Request
from trainables.data.torchvision_sets import VOC_CLASSES, load_cifar10, load_fashion_mnist, load_voc
from trainables.errors import DataError

Write = Callable[..., Path]


def request_for(name: str, root: Path, **options: object) -> Request:
    size = 96 if name.startswith("voc") else 32
    return Request(**{"name": name, "root": root, "image_size": size, **options})  # type: ignore[arg-type]


@pytest.fixture
def official_cifar10(tmp_path: Path, write_cifar10_batches: Callable, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with small batches that torchvision takes for the official ones."""
    sums = write_cifar10_batches(tmp_path)
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]})
    return tmp_path


def test_cifar10_batches_are_read_by_torchvision(official_cifar10: Path) -> None:
    train, test, unannotated, *_ = load_cifar10(request_for("cifar10", official_cifar10))
    reference = datasets.CIFAR10(official_cifar10, train=True)
    np.testing.assert_array_equal(train.images.transpose(0, 2, 3, 1), reference.data)
    assert train.labels is not None
    assert train.labels.tolist() == reference.targets
    assert train.labels.dtype == np.int64
    assert train.class_names[0] == "airplane"
    assert len(test) == 20
    assert unannotated is None
    smaller = load_cifar10(request_for("cifar10", official_cifar10, image_size=16, max_train=7)).train
    assert smaller.images.shape == (7, 3, 16, 16)


def test_cifar10_batches_with_other_checksums_are_refused(tmp_path: Path, write_cifar10_batches: Callable) -> None:
    write_cifar10_batches(tmp_path)
    with pytest.raises(DataError, match=r"cifar10: cannot read it in .*corrupted.*fetch them again with --download"):
        load_cifar10(request_for("cifar10", tmp_path))


def test_cifar10_falls_back_on_class_folders_and_says_so(
    tmp_path: Path, write_cifar10_batches: Callable, write_classes: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_cifar10_batches(tmp_path)
    write_classes(tmp_path / "cifar10" / "train", size=(32, 32))
    write_classes(tmp_path / "cifar10" / "test", n=3, size=(32, 32))
    with caplog.at_level(logging.WARNING):
        tables = load_cifar10(request_for("cifar10", tmp_path))
    assert (len(tables.train), len(tables.test)) == (20, 6)
    assert "class folders in" in caplog.text


def test_fashion_mnist_is_padded_to_32_and_gray_in_all_channels(
    tmp_path: Path, write_fashion_mnist: Callable[..., np.ndarray]
) -> None:
    written = write_fashion_mnist(tmp_path)
    train, test, *_ = load_fashion_mnist(request_for("fashion_mnist", tmp_path))
    assert train.images.shape == (60, 3, 32, 32)
    for channel in range(3):
        np.testing.assert_array_equal(train.images[:, channel, 2:30, 2:30], written)
    border = np.ones((32, 32), bool)
    border[2:30, 2:30] = False
    assert (train.images[..., border] == 0).all()
    assert train.class_names[9] == "Ankle boot"
    assert len(test) == 20


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "fewer_labels", "label_10"])
def test_a_damaged_fashion_mnist_is_one_clear_line(tmp_path: Path, write_fashion_mnist: Callable, damage: str) -> None:
    write_fashion_mnist(tmp_path)
    images, labels = (
        tmp_path / "FashionMNIST" / "raw" / f"train-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")
    )
    if damage == "truncated":
        images.write_bytes(images.read_bytes()[:-100])
    elif damage == "empty":
        images.write_bytes(b"")
    elif damage == "missing":
        labels.unlink()
    elif damage == "fewer_labels":
        labels.write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x05" + bytes(5))
    else:
        labels.write_bytes(labels.read_bytes()[:-1] + b"\x0a")
    with pytest.raises(DataError, match="fashion_mnist") as caught:
        load_fashion_mnist(request_for("fashion_mnist", tmp_path))
    assert "\n" not in str(caught.value)
    assert "--download" in str(caught.value)


def test_fashion_mnist_files_that_link_out_of_the_root_are_refused(
    tmp_path: Path, write_fashion_mnist: Callable
) -> None:
    write_fashion_mnist(tmp_path / "root")
    file = tmp_path / "root" / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    file.rename(tmp_path / "outside")
    file.symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="leads out of"):
        load_fashion_mnist(request_for("fashion_mnist", tmp_path / "root"))


def test_voc_has_masks_where_annotated_and_every_other_jpeg_without(tmp_path: Path, write_voc: Write) -> None:
    write_voc(tmp_path)
    train, test, unannotated, *_ = load_voc(request_for("voc2012", tmp_path), "2012")
    assert (len(train), len(test)) == (12, 6)
    assert train.labels is None
    assert train.masks is not None
    assert set(np.unique(train.masks)) == {0, *range(1, 13), 255}
    assert train.mask_names == VOC_CLASSES
    assert train.images.shape == (12, 3, 96, 96)
    assert unannotated is not None
    assert (len(unannotated), unannotated.masks) == (5, None)


def test_voc_2007_is_tested_on_its_test_set_where_that_is_there(tmp_path: Path, write_voc: Write) -> None:
    write_voc(tmp_path, "2007", train=4, val=3, trainval=7, test=5)
    train, test, unannotated, *_ = load_voc(request_for("voc2007", tmp_path), "2007")
    assert (len(train), len(test)) == (7, 5)
    assert unannotated is not None
    assert len(unannotated) == 5 + 7  # the helper names trainval images apart from those of train and val


def test_voc_images_that_are_not_chosen_do_not_come_back_as_unannotated(tmp_path: Path, write_voc: Write) -> None:
    write_voc(tmp_path)
    few, _, others, *_ = load_voc(request_for("voc2012", tmp_path, max_train=10), "2012")
    assert (len(few), others) == (10, None)
    every, _, some, *_ = load_voc(request_for("voc2012", tmp_path, max_train=15), "2012")
    assert some is not None
    assert (len(every), len(some)) == (12, 3)


def test_small_voc_images_are_enlarged(tmp_path: Path, write_voc: Write) -> None:
    write_voc(tmp_path)
    assert load_voc(request_for("voc2012", tmp_path, image_size=128), "2012").train.image_size == 128


def test_a_broken_voc_mask_stops_or_is_skipped(tmp_path: Path, write_voc: Write) -> None:
    base = write_voc(tmp_path)
    (base / "SegmentationClass" / "train_03.png").write_bytes(b"broken")
    (base / "JPEGImages" / "val_01.jpg").unlink()
    with pytest.raises(DataError, match=r"2 of 18 images .*train_03\.jpg \(its mask: cannot identify.*val_01"):
        load_voc(request_for("voc2012", tmp_path), "2012")
    train, test, *_ = load_voc(request_for("voc2012", tmp_path, on_bad_image="skip"), "2012")
    assert (len(train), len(test)) == (11, 5)


def test_a_voc_list_that_leads_out_of_the_root_is_refused(tmp_path: Path, write_voc: Write) -> None:
    base = write_voc(tmp_path / "root")
    (base / "ImageSets" / "Segmentation" / "train.txt").write_text("../../../../secret\n")
    with pytest.raises(DataError, match="leads out of the data root"):
        load_voc(request_for("voc2012", tmp_path / "root"), "2012")


def test_a_voc_without_its_lists_is_one_clear_line(tmp_path: Path, write_voc: Write) -> None:
    base = write_voc(tmp_path)
    (base / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(DataError, match="voc2012: cannot read it in"):
        load_voc(request_for("voc2012", tmp_path), "2012")


LOADERS: dict[str, Callable] = {
    "cifar10": load_cifar10,
    "fashion_mnist": load_fashion_mnist,
    "voc2012": lambda request: load_voc(request, "2012"),
    "voc2007": lambda request: load_voc(request, "2007"),
}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make every download fail, and record that it was tried."""
    tried: list[str] = []

    def fail(url: str, *args: object, **options: object) -> None:
        tried.append(url)
        raise urllib.error.URLError("no route to host")

    for module in (datasets.cifar, datasets.mnist, datasets.voc):
        monkeypatch.setattr(module, "download_and_extract_archive", fail)
    return tried


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_set_says_where_it_looked_and_what_to_type(tmp_path: Path, name: str, no_network: list[str]) -> None:
    with pytest.raises(DataError, match=f"{name} is not in {tmp_path}: looked for .*--data-root DIR.*--download"):
        LOADERS[name](request_for(name, tmp_path))
    assert no_network == []


@pytest.mark.parametrize("name", LOADERS)
def test_only_a_wanted_download_is_tried_and_its_failure_is_one_clear_line(
    tmp_path: Path, name: str, no_network: list[str]
) -> None:
    with pytest.raises(DataError, match=f"{name}: cannot download or read it in") as caught:
        LOADERS[name](request_for(name, tmp_path, download=True))
    assert "\n" not in str(caught.value)
    assert no_network


@pytest.mark.parametrize("name", LOADERS)
def test_what_is_there_is_not_downloaded_again(
    tmp_path: Path,
    name: str,
    no_network: list[str],
    write_voc: Write,
    write_fashion_mnist: Callable,
    write_classes: Write,
) -> None:
    write_voc(tmp_path, name.removeprefix("voc") if name.startswith("voc") else "2012")
    write_fashion_mnist(tmp_path)
    write_classes(tmp_path / "cifar10", size=(32, 32))
    LOADERS[name](request_for(name, tmp_path, download=True))
    assert no_network == []
