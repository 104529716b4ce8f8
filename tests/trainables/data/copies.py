"""Images with near duplicates for tests."""

from __future__ import annotations

import numpy as np
from PIL import Image

from trainables.data.table import ImageTable

N_SCENES, N_COPIES, SIDE = 30, 4, 32


def scenes(n: int, *, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Return different smooth images, float64 [n, channels, SIDE, SIDE] in 0.1 .. 0.8."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(size=(n, 4, 4)).astype(np.float32)
    fine = [np.asarray(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for each in coarse]
    return rng.uniform(0.5, 1, (n, channels, 1, 1)) * (0.2 + 0.6 * np.clip(fine, 0, 1)[:, None])


def photographs(seed: int = 0) -> ImageTable:
    """Return N_COPIES brighter and shifted copies of each scene, of three classes, scene after scene."""
    copies = [
        np.roll(scene, copy % 2, axis=-1) + 0.03 * copy
        for scene in scenes(N_SCENES, seed=seed)
        for copy in range(N_COPIES)
    ]
    labels = np.repeat(np.arange(N_SCENES) % 3, N_COPIES)
    return ImageTable("plates", (np.stack(copies) * 255).astype(np.uint8), labels, class_names=("a", "b", "c"))


def parts(table: ImageTable) -> tuple[ImageTable, ImageTable]:
    """Return four fifths and one fifth of a table, in random order."""
    order = np.random.default_rng(1).permutation(len(table))
    return table.take(order[24:]), table.take(order[:24])
