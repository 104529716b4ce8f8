"""Small data sets on disk, in the layouts that users have, written by the tests themselves."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainables.data.torchvision_sets import VOC_CLASSES

WritePhoto = Callable[..., Path]


@pytest.fixture(scope="session")
def write_photo() -> WritePhoto:
    """Write an image that differs from every other one, as a function of its path alone, and return the path."""

    def write(path: Path, size: tuple[int, int] = (48, 40)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = int.from_bytes(hashlib.sha256("/".join(path.parts[-3:]).encode()).digest()[:4], "big")
        coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR).save(path)
        return path

    return write


@pytest.fixture(scope="session")
def write_classes(write_photo: WritePhoto) -> Callable[..., Path]:
    """Write FOLDER/CLASS/0.png ... for each class and return the folder."""

    def write(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), n: int = 10, **options: Any) -> Path:
        for label in classes:
            for i in range(n):
                write_photo(folder / label / f"{i}.png", **options)
        return folder

    return write


@pytest.fixture(scope="session")
def write_fashion_mnist() -> Callable[..., np.ndarray]:
    """Write ROOT/FashionMNIST/raw in IDX format and return the training images."""

    def write(root: Path, n_train: int = 60, n_test: int = 20) -> np.ndarray:
        raw = root / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        rng = np.random.default_rng(0)
        written = []
        for prefix, n in (("train", n_train), ("t10k", n_test)):
            images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
            labels = (np.arange(n) % 10).astype(np.uint8)
            (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, n, 28, 28) + images.tobytes())
            (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, n) + labels.tobytes())
            written.append(images)
        return written[0]

    return write


@pytest.fixture(scope="session")
def write_cifar10_batches() -> Callable[..., dict[str, str]]:
    """Write ROOT/cifar-10-batches-py as pickles and return the MD5 sum of each file."""

    def write(root: Path, n: int = 20) -> dict[str, str]:
        folder = root / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        rng = np.random.default_rng(0)
        names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
        files: dict[str, Any] = {"batches.meta": {"label_names": names}}
        for name in ("data_batch_1", "test_batch"):
            pixels = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
            files[name] = {"data": pixels, "labels": [i % 10 for i in range(n)]}
        sums = {}
        for name, content in files.items():
            (folder / name).write_bytes(pickle.dumps(content))
            sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
        return sums

    return write


@pytest.fixture(scope="session")
def write_voc(write_photo: WritePhoto) -> Callable[..., Path]:
    """Write ROOT/VOCdevkit/VOCyear and return it: parts with masks by name, and JPEGs without."""

    def write(root: Path, year: str = "2012", n_unannotated: int = 5, **parts: int) -> Path:
        base = root / "VOCdevkit" / f"VOC{year}"
        sets = base / "ImageSets" / "Segmentation"
        sets.mkdir(parents=True)
        for part, n in (parts or {"train": 12, "val": 6}).items():
            names = [f"{part}_{i:02d}" for i in range(n)]
            (sets / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
            for i, name in enumerate(names):
                size = (150, 110) if i % 2 else (110, 150)
                write_photo(base / "JPEGImages" / f"{name}.jpg", size)
                mask = np.zeros((size[1], size[0]), np.uint8)
                mask[30:80, 30:80] = 1 + i % (len(VOC_CLASSES) - 1)
                mask[30:80, 78:82] = 255
                write_mask(base / "SegmentationClass" / f"{name}.png", mask)
        for i in range(n_unannotated):
            write_photo(base / "JPEGImages" / f"other_{i}.jpg", (150, 110))
        return base

    return write


def write_mask(path: Path, classes: np.ndarray) -> None:
    """Write a palette image of class ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(classes)
    image.putpalette([i % 256 for i in range(768)])
    image.save(path)
