"""Which copies the search for near duplicates finds, what it takes for one, and its time.

`python -m tests.benchmarks.near_duplicates DATA_ROOT` prints both tables for shapes, Fashion-MNIST and CIFAR-10, as far
as they are in DATA_ROOT. `trainables.data.near_duplicates` has the thresholds, docs/studies.md the result.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from trainables.data import load_splits
from trainables.data.near_duplicates import near_duplicates
from trainables.errors import UserError

DATASETS = ("shapes", "fashion_mnist", "cifar10")
N_COPIED = 500

Change = Callable[[np.ndarray], np.ndarray]


def jpeg(images: np.ndarray) -> np.ndarray:
    """Return images [N, 3, S, S] after JPEG compression at quality 75."""
    read = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "JPEG", quality=75)
        read.append(np.asarray(Image.open(buffer)).transpose(2, 0, 1))
    return np.stack(read)


def enlarged(images: np.ndarray) -> np.ndarray:
    """Return images without a border of one pixel, enlarged to their size."""
    inner = torch.from_numpy(images[:, :, 1:-1, 1:-1]).float()
    size = images.shape[-1]
    return F.interpolate(inner, size=size, mode="bilinear").round().byte().numpy()


def noisy(images: np.ndarray) -> np.ndarray:
    """Return images with Gaussian noise of a standard deviation of 5% of white."""
    noise = np.random.default_rng(0).normal(0, 0.05 * 255, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "shift by 1 px": lambda images: np.roll(images, 1, axis=3),
    "shift by 2 px": lambda images: np.roll(images, 2, axis=3),
    "10% brighter": lambda images: np.clip(images * 1.1, 0, 255).astype(np.uint8),
    "JPEG at 75": jpeg,
    "noise of 5%": noisy,
    "border of 1 px cut": enlarged,
}


def main(root: Path) -> None:
    """Print the share of copies found, and the test images with a near duplicate among the training images."""
    for name in DATASETS:
        try:
            splits = load_splits(name, root=root)
        except UserError as error:
            print(f"{name}: left out, {error}")
            continue
        train, test = splits.pretext_train, splits.test
        began = time.perf_counter()
        pairs = near_duplicates(test.images, train.images)
        seconds = time.perf_counter() - began
        assert train.labels is not None
        assert test.labels is not None
        n_found, same = len(np.unique(pairs[:, 0])), np.sum(test.labels[pairs[:, 0]] == train.labels[pairs[:, 1]])
        print(f"{name}: {n_found} of {len(test)} test images have one among {len(train)} images, in {seconds:.1f} s")
        print(f"  {same} of {len(pairs)} pairs are of one class")
        own = test.images[:N_COPIED]
        for change, apply in CHANGES.items():
            found = near_duplicates(apply(own), own)
            print(f"  {change}: {np.sum(found[:, 0] == found[:, 1]) / len(own):.0%} found")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
