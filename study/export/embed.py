"""Features of the user's own images from an encoder of a study: `python -m study embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from study.export.encoders import LoadedEncoder
from trainables import files
from trainables.data.folders import list_images
from trainables.data.images import ImageReader
from trainables.data.pixels import read_scaled
from trainables.data.table import to_float
from trainables.errors import DataError

BATCH_SIZE = 256


def embed(encoder: LoadedEncoder, folder: Path, output: Path, *, on_bad_image: str = "stop") -> tuple[int, int]:
    """Write the features of all images in a folder to a parquet file.

    Its columns are `path` (relative to `folder`, sorted) and f0, f1, ... as float32, so that `frame.set_index("path")`
    is the matrix [N, D]. Images are read as in a study: the short side is resized to the encoder's image size, up or
    down, and the center square is cropped. Those of more than 8 bits are scaled as the encoder's training images were,
    or by their own percentiles if it has seen only 8 bits.

    Args:
        encoder: Encoder to apply.
        folder: Folder of images, searched recursively.
        output: Parquet file to write.
        on_bad_image: `stop` to raise for broken images, `skip` to leave them out.

    Returns:
        Number of images, and dimension of the features.

    Raises:
        DataError: The folder is missing or has no images, they have other channels than the encoder takes, or one is
            broken and `on_bad_image` is `stop`.
        StorageError: `output` cannot be written.
    """
    root = folder.expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder of images")
    paths = list_images(root, root, root.name)
    reading = encoder.reading
    images, kept, _ = read_scaled(
        paths,
        ImageReader(encoder.image_size, upscale=True, stack=reading.stack),
        n_train=len(paths),
        known=reading.intensity,
        n_channels=encoder.in_channels,
        name=root.name,
        root=root,
        on_bad_image=on_bad_image,
    )
    with torch.no_grad():
        batches = torch.from_numpy(images).split(BATCH_SIZE)
        features = torch.cat(
            [encoder.features(to_float(batch, torch.channels_last)).float() for batch in batches]
        ).numpy()
    columns: dict[str, Any] = {"path": [paths[index].relative_to(root).as_posix() for index in kept]}
    columns |= {f"f{index}": features[:, index] for index in range(features.shape[1])}
    content = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), content)
    files.write(output, content.getvalue().to_pybytes())
    return len(features), features.shape[1]
