"""Encoders by name."""

from __future__ import annotations

from trainables.encoders.base import Encoder
from trainables.encoders.conv4 import conv4
from trainables.encoders.names import ENCODERS
from trainables.encoders.resnet import resnet
from trainables.errors import ConfigError
from trainables.rng import initialization


def build_encoder(name: str, *, width: int = 24, image_size: int = 32, in_channels: int = 3, seed: int = 0) -> Encoder:
    """Build an encoder with weights drawn from the initialization stream of `seed`.

    Args:
        name: One of ENCODERS.
        width: Channels of the first stage of `conv4`; ignored by the ResNets.
        image_size: Side in pixels of most images; determines the stem of a ResNet.
        in_channels: Channels of the images.
        seed: Seed of the weights.

    Raises:
        ConfigError: The name is unknown.
    """
    if name not in ENCODERS:
        raise ConfigError(f"encoder.name = {name!r}: must be one of {', '.join(map(repr, ENCODERS))}")
    with initialization(seed, "encoder"):
        return conv4(width, in_channels) if name == "conv4" else resnet(name, in_channels, image_size=image_size)
