"""Folders as people have them: mixed microscope images without labels, and unequal classes in groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 48
BITS = (8, 12, 16)
CLASSES = {"round": 140, "long": 70, "pair": 40, "many": 25, "rare": 10}
N_PLATES = 12


def write_microscope_images(folder: Path, n: int = 300) -> Path:
    """Write 8-bit JPEG, some turned by EXIF, 12-bit TIFF and 16-bit PNG, the last one broken, next to a text."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(n):
        values, bits = _cells(rng, int(rng.integers(2, 7))), BITS[i % len(BITS)]
        stored = np.rint(values * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
        path = folder / f"field {i:03}{('.jpg', '.tif', '.png')[i % 3]}"
        exif = Image.Exif()
        exif[274] = 6  # turned by a quarter
        Image.fromarray(stored).save(path, **({"exif": exif} if bits == 8 and i % 2 else {}))
    last = folder / f"field {n - 1:03}.png"
    last.write_bytes(last.read_bytes()[:200])
    (folder / "notes").mkdir()
    (folder / "notes" / "read me.txt").write_text("taken on a Monday", encoding="utf-8")
    return folder


def write_plates(folder: Path) -> Path:
    """Write five classes of 140 to 10 images, whose names begin with one of twelve plates."""
    rng = np.random.default_rng(1)
    for label, (name, n) in enumerate(CLASSES.items()):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            color = np.stack(
                [_cells(rng, label + 1) * share for share in (0.3 + 0.15 * label, 0.6, 0.9 - 0.15 * label)], -1
            )
            Image.fromarray(np.uint8(255 * color)).save(
                folder / name / f"plate{(i + 3 * label) % N_PLATES:02}_{i:03}.png"
            )
    return folder


def _cells(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return n bright ellipses on a dark, noisy ground, [SIDE, SIDE] in [0, 1]."""
    y, x = np.mgrid[:SIDE, :SIDE]
    values = 0.1 + rng.normal(0, 0.02, (SIDE, SIDE))
    for _ in range(n):
        (cy, cx), (a, b), angle = rng.uniform(6, SIDE - 6, 2), rng.uniform(2, 7, 2), rng.uniform(0, np.pi)
        along, across = (
            (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle),
            (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle),
        )
        values += rng.uniform(0.3, 0.7) * ((along / a) ** 2 + (across / b) ** 2 < 1)
    return values.clip(0, 1)
