"""Features of the user's own images from an encoder of a study: `python -m study embed`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch

from study.export.encoders import LoadedEncoder
from trainables import files
from trainables.data.readers.decode import PAGES
from trainables.data.readers.images import ImageReader
from trainables.data.readers.pixels import read_scaled
from trainables.data.readers.walk import list_images
from trainables.data.table import to_float
from trainables.errors import ConfigError, DataError

BATCH_SIZE = 256
WRITERS: Mapping[str, Callable[..., None]] = {".parquet": pq.write_table, ".csv": pyarrow.csv.write_csv}  # by suffix

logger = logging.getLogger(__name__)


def embed(encoder: LoadedEncoder, folder: Path, output: Path, *, on_bad_image: str = "stop") -> tuple[int, int]:
    """Write the features of all images in a folder to a Parquet or CSV file.

    Its columns are `path` (relative to `folder`, sorted, as `written_path` spells it) and f0, f1, ... as float32, so
    that `frame.set_index("path")` is the matrix [N, D]. Of a study with `stack: pages`, the path of a page is
    `scan.tif/page 3`. Images are read as in the study: the short side is resized to the encoder's image size, up or
    down, and the center square is cropped, or the whole image is squashed. Those of more than 8 bits are scaled as the
    encoder's training images were, or by their own percentiles if it has seen only 8 bits.

    Args:
        encoder: Encoder to apply.
        folder: Folder of images, searched recursively.
        output: File to write, NAME.parquet or NAME.csv.
        on_bad_image: `stop` to raise for broken images, `skip` to leave them out.

    Returns:
        Number of images, and dimension of the features.

    Raises:
        ConfigError: `output` has another suffix.
        DataError: The folder is missing or has no images, they have other channels than the encoder takes, or one is
            broken and `on_bad_image` is `stop`.
        StorageError: `output` cannot be written.
    """
    write = writer_of(output)
    root = files.expanded(folder).resolve()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder of images")
    reading = encoder.reading
    paths, pages = list_images(root, root.name, by_page=reading.stack == PAGES)
    images, kept, intensity = read_scaled(
        paths,
        ImageReader(encoder.image_size, True, squash=reading.resize == "squash", stack=reading.stack, pages=pages),
        n_train=len(paths),
        known=reading.intensity,
        n_channels=encoder.in_channels,
        name=root.name,
        root=root,
        on_bad_image=on_bad_image,
    )
    of = "these images" if reading.intensity is None else "the encoder's training images"
    if intensity is not None and (windows := intensity.describe(of)):
        logger.warning("%s: %s", root.name, windows)
    with torch.no_grad():
        batches = torch.from_numpy(images).split(BATCH_SIZE)
        features = torch.cat(
            [encoder.features(to_float(batch, torch.channels_last)).float() for batch in batches]
        ).numpy()
    names = [paths[index].relative_to(root).as_posix() for index in kept]
    columns: dict[str, Any] = {"path": [written_path(name) for name in names]}
    if odd := sum(written != name for written, name in zip(columns["path"], names, strict=True)):
        logger.warning(
            r"%d file names have a backslash or bytes that are not UTF-8; %s has them as \\ and \xHH", odd, output
        )
    columns |= {f"f{index}": features[:, index] for index in range(features.shape[1])}
    content = pa.BufferOutputStream()
    write(pa.table(columns), content)
    files.write(output, content.getvalue().to_pybytes())
    return len(features), features.shape[1]


def writer_of(output: Path) -> Callable[..., None]:
    """Return the function that writes a table in the format that the suffix of a file names.

    Raises:
        ConfigError: No format has this suffix.
    """
    if output.suffix.lower() not in WRITERS:
        raise ConfigError(f"--output {output}: must end with {' or '.join(WRITERS)}, the formats that can be written")
    return WRITERS[output.suffix.lower()]


def written_path(path: str) -> str:
    r"""Return a path as UTF-8: other bytes become `\xHH` and backslashes `\\`, so that no two paths coincide."""
    return os.fsencode(path.replace("\\", r"\\")).decode(errors="backslashreplace")
