"""Loaders of CIFAR-10, Fashion-MNIST and Pascal VOC, with torchvision's classes and folder layouts."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainables.data.readers.folders import load_folder
from trainables.data.readers.images import ImageReader, resize_arrays
from trainables.data.readers.masks import MaskedReader
from trainables.data.readers.pixels import read_all
from trainables.data.readers.walk import Walk
from trainables.data.request import Request, Tables
from trainables.data.table import ImageTable
from trainables.errors import DataError, first_line

# torchvision is imported where it is used: the import takes seconds, and `shapes` and class folders do not need it.

logger = logging.getLogger(__name__)

VOC_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def load_cifar10(request: Request) -> Tables:
    """Read ROOT/cifar-10-batches-py if it is intact, otherwise the class folders ROOT/cifar10/{train,test}/CLASS/*.

    torchvision reads the batches (pickles) only if their MD5 sums match the official files.

    Raises:
        DataError: Neither exists, or the existing one is broken.
    """
    from torchvision.datasets import CIFAR10

    root = request.data_root()
    batches, folder = resolve_within(root, CIFAR10.base_folder), resolve_within(root, request.name)
    if batches.is_dir() or (request.download and not folder.is_dir()):
        try:
            parts = [_open(CIFAR10, request, root, train=train) for train in (True, False)]
        except DataError as error:
            if not folder.is_dir():
                raise
            logger.warning("%s. Reading the class folders in %s instead", error, folder)
        else:
            return _array_tables(
                request, [part.data for part in parts], [part.targets for part in parts], parts[0].classes
            )
    if folder.is_dir():
        return load_folder(request, folder)
    raise request.missing(f"{CIFAR10.base_folder}/", "cifar10/train/CLASS/", downloadable=True)


def load_fashion_mnist(request: Request) -> Tables:
    """Read ROOT/FashionMNIST/raw/*-ubyte; 28 x 28 gray images become 32 x 32 RGB with a border of zeros.

    Raises:
        DataError: The files are missing or broken.
    """
    from torchvision.datasets import FashionMNIST

    root = request.data_root()
    folder = resolve_within(root, "FashionMNIST/raw")
    if folder.is_dir():
        for path in folder.iterdir():
            Walk(root, request.name).check_link(path)
    elif not request.download:
        raise request.missing("FashionMNIST/raw/", downloadable=True)
    parts = [_open(FashionMNIST, request, root, train=train) for train in (True, False)]
    images = [np.pad(part.data.numpy(), ((0, 0), (2, 2), (2, 2))) for part in parts]
    rgb = [np.broadcast_to(gray[..., None], (*gray.shape, 3)) for gray in images]
    return _array_tables(request, rgb, [part.targets.numpy() for part in parts], FashionMNIST.classes)


def load_voc(request: Request, year: str) -> Tables:
    """Read ROOT/VOCdevkit/VOCyear: the segmentation images with masks, and every other JPEG without.

    The training part is `train` and the test part `val`, since VOC 2012 publishes no test masks. For 2007, if its test
    set is present, they are `trainval` and `test`. `max_train` counts images with masks first, then the others.

    Raises:
        DataError: The data set is missing or broken.
    """
    root = request.data_root()
    base = resolve_within(root, f"VOCdevkit/VOC{year}")
    if not base.is_dir() and not request.download:
        raise request.missing(f"VOCdevkit/VOC{year}/", downloadable=True)
    if not base.is_dir():
        for image_set in ("trainval", "test") if year == "2007" else ("trainval",):
            _open_voc(request, root, year, image_set, download=True)
    has_test = year == "2007" and (base / "ImageSets" / "Segmentation" / "test.txt").is_file()
    train, test = (
        _open_voc(request, root, year, image_set)
        for image_set in (("trainval", "test") if has_test else ("train", "val"))
    )
    used = {path.stem for path in (*train, *test)}
    others = [path for path in Walk(root, request.name).images(base / "JPEGImages") if path.stem not in used]

    chosen = {path: train[path] for path in _take(list(train), request.choose(len(train)))}
    if request.max_train is not None:
        remaining = dataclasses.replace(request, max_train=request.max_train - len(chosen))
        others = _take(others, remaining.choose(len(others)))
    masks = {**chosen, **test}
    reader = MaskedReader(
        request.image_size, upscale=True, squash=request.squash, masks=masks, n_classes=len(VOC_CLASSES)
    )
    images, kept = read_all(list(masks), reader, name=request.name, root=root, on_bad_image=request.on_bad_image)
    paths = _take(list(masks), kept)
    border = sum(path in chosen for path in paths)
    if border in (0, len(paths)):
        raise DataError(
            f"{request.name}: no usable image is left in the {'test' if border else 'training'} part of {base}"
        )
    train_table, test_table = (
        ImageTable(request.name, images[rows], masks=reader.masks_of(paths[rows]), mask_names=VOC_CLASSES)
        for rows in (slice(border), slice(border, None))
    )
    return Tables(train_table, test_table, _read_unannotated(request, root, others))


def resolve_within(root: Path, relative: str) -> Path:
    """Return ROOT/relative with links resolved.

    Raises:
        DataError: The path is outside the data root.
    """
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise DataError(
            f"{root / relative} leads out of the data root, to {path}; use folder:{path}, or another --data-root"
        )
    return path


def _open(dataset: Callable[..., Any], request: Request, root: Path, **options: Any) -> Any:
    """Call one of torchvision's data set classes and turn its exceptions into a DataError."""
    try:
        return dataset(root, download=request.download, **options)
    except (OSError, RuntimeError, ValueError, TypeError, AssertionError) as error:
        verb = "download or read" if request.download else "read"
        hint = "fix or remove the files" + ("" if request.download else ", or fetch them again with --download")
        raise DataError(f"{request.name}: cannot {verb} it in {root}: {first_line(error)}; {hint}") from error


def _array_tables(
    request: Request, images: Sequence[np.ndarray], targets: Sequence[Any], class_names: Sequence[str]
) -> Tables:
    """Return the tables of a training and a test part: images uint8 [N, H, H, 3] and targets [N] each."""
    tables = []
    for is_train, part, labels in zip((True, False), images, map(np.asarray, targets), strict=True):
        if len(labels) != len(part):
            raise DataError(
                f"{request.name}: {len(part)} images, but {len(labels)} labels; fetch it again with --download"
            )
        if not len(part) or labels.min() < 0 or labels.max() >= len(class_names):
            raise DataError(
                f"{request.name}: labels must be 0 to {len(class_names) - 1}; fetch it again with --download"
            )
        rows = request.choose(len(part)) if is_train else np.arange(len(part))
        resized = resize_arrays(part[rows], request.image_size, request.name)
        tables.append(ImageTable(request.name, resized, labels[rows].astype(np.int64), class_names=tuple(class_names)))
    return Tables(tables[0], tables[1])


def _open_voc(request: Request, root: Path, year: str, image_set: str, *, download: bool = False) -> dict[Path, Path]:
    """Map each image file of one official part to its mask file, sorted by path."""
    from torchvision.datasets import VOCSegmentation

    # torchvision would unpack the archive at every call with download=True.
    own_request = dataclasses.replace(request, download=download)
    part = _open(VOCSegmentation, own_request, root, year=year, image_set=image_set)
    for path in (*part.images, *part.masks):
        resolve_within(root, str(Path(path).relative_to(root)))
    return dict(sorted(zip(map(Path, part.images), map(Path, part.masks), strict=True)))


def _read_unannotated(request: Request, root: Path, paths: list[Path]) -> ImageTable | None:
    if not paths:
        return None
    read = ImageReader(request.image_size, upscale=True, squash=request.squash)
    images, _ = read_all(paths, read, name=request.name, root=root, on_bad_image=request.on_bad_image)
    return ImageTable(request.name, images)


def _take(paths: list[Path], indices: np.ndarray) -> list[Path]:
    return [paths[i] for i in indices]
