"""A study's encoders as ordinary networks: to fine-tune, or as one part of another network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from analysis.records import ENCODERS
from study.export.encoders import METADATA, Reading, read_encoder, read_metadata
from trainables.data.intensity import REAL, depth_of
from trainables.data.readers.bad_image import BadImage
from trainables.data.readers.decode import pixels_of
from trainables.data.readers.images import fit_image
from trainables.data.readers.pixels import scaled
from trainables.data.table import to_float
from trainables.encoders import Encoder
from trainables.errors import ConfigError, DataError

ImageLike = Image.Image | np.ndarray | Tensor


class ImageTransform(nn.Module):
    """Preprocessing of images for an encoder: the same as in the study that trained it.

    The short side is resized to `image_size` and the center square is cropped, or the image is squashed, as the study
    did. Values of more than 8 bits are scaled by the study's windows. The encoder itself normalizes.

    Args:
        image_size: Side S of the result in px.
        in_channels: Channels C of the result.
        reading: How the study's files became images.
    """

    def __init__(self, image_size: int, in_channels: int, reading: Reading) -> None:
        super().__init__()
        self.image_size, self.in_channels, self.reading = image_size, in_channels, reading

    def forward(self, images: ImageLike) -> Tensor:
        """Return images as float32 in [0, 1].

        Args:
            images: A PIL image; or an array or tensor [C, H, W] or [N, C, H, W] of stored values, uint8 or uint16, or
                float32 in [0, 1] for an encoder of 8-bit images. One channel becomes three equal ones where the encoder
                takes three.

        Returns:
            [C, S, S] of one image, [N, C, S, S] of several.

        Raises:
            DataError: The images have other channels or values than the encoder takes.
        """
        if isinstance(images, Image.Image):
            return self._one(pixels_of(images))
        values = images.detach().cpu().numpy() if isinstance(images, Tensor) else images
        if values.ndim == 3:
            return self._one(values)
        if values.ndim != 4 or not len(values):
            raise DataError(f"images of shape {list(values.shape)}: must be [C, H, W] or [N, C, H, W] with N > 0")
        return torch.stack([self._one(image) for image in values])

    def _one(self, image: Image.Image | np.ndarray) -> Tensor:
        if isinstance(image, np.ndarray) and image.dtype not in (np.uint8, np.uint16, np.float32):
            raise DataError(f"images of type {image.dtype}: must be uint8, uint16 or float32")
        try:
            square = fit_image(image, self.image_size, squash=self.reading.resize == "squash")
        except BadImage as error:
            raise DataError(f"an image that cannot be used: {error}") from error
        if len(square) != self.in_channels:
            raise DataError(f"images of {len(square)} channels, but the encoder takes {self.in_channels}")
        intensity, depth = self.reading.intensity, depth_of(np.asarray(image))
        if intensity is None:
            _check_8_bits(square)
        elif depth.bits == REAL and depth.peak > 1 and intensity.window_of(depth) is None:
            raise DataError("real numbers above 1, but the encoder was trained on integers; give uint8 or uint16")
        else:
            square = scaled(square[None], [depth], intensity)[0]
        return to_float(torch.from_numpy(np.ascontiguousarray(square))[None])[0]

    def extra_repr(self) -> str:
        """Return the settings, for `print`."""
        return f"image_size={self.image_size}, in_channels={self.in_channels}, resize={self.reading.resize!r}"


class PretrainedEncoder(nn.Module):
    """An encoder that a study has trained, as a network with trainable weights.

    It is in eval mode; `train()` before fine-tuning also lets BatchNorm follow the new images.

    Args:
        encoder: The network.
        task: Pretext task that it was trained on.
        trial_id: Id of the trial that trained it.
        transform: Preprocessing of its images.

    Attributes:
        task: As above.
        trial_id: As above.
        feature_dim: Number of features D.
        image_size: Side S of its images in px.
        in_channels: Channels C of its images.
    """

    def __init__(self, encoder: Encoder, task: str, trial_id: str, transform: ImageTransform) -> None:
        super().__init__()
        self.encoder, self.task, self.trial_id = encoder, task, trial_id
        self.feature_dim, self.in_channels = encoder.feature_dim, encoder.in_channels
        self.image_size = transform.image_size
        self._reading = transform.reading

    def forward(self, images: Tensor) -> Tensor:
        """Return features [N, D] of float images [N, C, S, S] in [0, 1]."""
        return self.encoder(images)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps [N, C_i, H_i, W_i] of all stages, for example for segmentation."""
        return self.encoder.stages(images)

    def transforms(self) -> ImageTransform:
        """Return the preprocessing, for a torchvision data set: `ImageFolder(path, encoder.transforms())`."""
        return ImageTransform(self.image_size, self.in_channels, self._reading)


def load_pretrained(folder: Path, task: str) -> PretrainedEncoder:
    """Load the encoder of a task from a study's folder, with trainable weights.

    The weights are read with `weights_only`. If a plug-in registered the architecture, its source in the study's folder
    is run first.

    Args:
        folder: The study's folder.
        task: Name of a task of the study.

    Raises:
        ConfigError: The study has no encoder of this task.
        UserError: Its files cannot be read.
    """
    place = folder / ENCODERS / task
    metadata = read_metadata(place)
    if not metadata:
        known = sorted(each.parent.name for each in (folder / ENCODERS).glob(f"*/{METADATA}"))
        what = f"it has those of {', '.join(known)}" if known else "a finished study that is not simulated has some"
        raise ConfigError(f"{folder} has no encoder of {task!r}; {what}")
    encoder = read_encoder(place).requires_grad_(True)
    reading = Reading.from_dict(metadata.get("reading", {}))
    transform = ImageTransform(int(metadata["image_size"]), encoder.in_channels, reading)
    return PretrainedEncoder(encoder, task, str(metadata.get("trial_id", "")), transform).eval()


def _check_8_bits(image: np.ndarray) -> None:
    """Raise DataError for values that cannot be those of an 8-bit image: uint8, or float32 in [0, 1]."""
    if image.dtype == np.uint16 or (image.dtype == np.float32 and (image.min() < 0 or image.max() > 1)):
        raise DataError(
            "images of more than 8 bits, but the encoder was trained on images of 8 bits; scale them to uint8, or to "
            "float32 in [0, 1]"
        )
