"""Features of the user's own images, by an encoder of a study: `python -m study embed`."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from study.export.encoders import Loaded
from trainables import files
from trainables.data.folders import list_images
from trainables.data.images import read_all, read_image
from trainables.data.table import to_float
from trainables.errors import DataError

BATCH = 256  # images
FEATURES_FILE = "features.parquet"


def embed(loaded: Loaded, folder: Path, output: Path, *, on_bad_image: str = "stop") -> tuple[int, int]:
    """Write the features of all images below `folder` to the parquet `output`; return their number and dimension.

    Columns: `path` (relative to `folder`, sorted), then f0, f1, ... as float32, so that `frame.set_index("path")` is
    the matrix [N, D]. Images are read as those of a study: short side resized to the encoder's image size, the center
    square cut out; smaller ones are enlarged.
    Raises DataError for a folder that is missing or empty and, with on_bad_image `stop`, for broken images,
    StorageError where `output` cannot be written.
    """
    root = folder.expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder of images")
    paths = list_images(root, root, root.name)
    read = functools.partial(read_image, image_size=loaded.image_size, upscale=True)
    images, kept = read_all(paths, read, name=root.name, root=root, on_bad_image=on_bad_image)
    with torch.no_grad():
        batches = torch.from_numpy(images).split(BATCH)
        features = torch.cat(
            [loaded.features(to_float(batch, torch.channels_last)).float() for batch in batches]
        ).numpy()
    columns: dict[str, Any] = {"path": [paths[index].relative_to(root).as_posix() for index in kept]}
    columns |= {f"f{index}": features[:, index] for index in range(features.shape[1])}
    content = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), content)
    files.write(output, content.getvalue().to_pybytes())
    return len(features), features.shape[1]
