"""A class folder on disk in which one class has nine tenths of the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data import Splits, load_splits

SIDE = 16  # px
COMMON, RARE = "common", "rare"
N_TRAIN, N_TEST = 200, 100
SHARE = 0.9  # of the images of every part


def write_folder(root: Path) -> Path:
    """Write noise images to ROOT/{train,test}/CLASS, the rare class with a faint bright square, and return ROOT."""
    rng = np.random.default_rng(0)
    for part, total in (("train", N_TRAIN), ("test", N_TEST)):
        for name, count in ((COMMON, round(SHARE * total)), (RARE, round((1 - SHARE) * total))):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(60, 200, (SIDE, SIDE, 3))
                pixels[4:12, 4:12] += 40 if name == RARE else 0
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root


def imbalanced_splits(root: Path) -> Splits:
    """Write the folder and return its splits, whose name is `folder:ROOT`."""
    return load_splits(f"folder:{write_folder(root)}", root=None, image_size=SIDE)
