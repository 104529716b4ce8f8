"""Encoders by name."""

from __future__ import annotations

from trainables.encoders.base import Encoder
from trainables.encoders.conv4 import conv4
from trainables.encoders.resnet import resnet
from trainables.errors import ConfigError
from trainables.rng import initialization


def build_encoder(name: str, *, width: int = 24, image_size: int = 32, seed: int = 0) -> Encoder:
    """Build an encoder with weights drawn from the initialization stream of `seed`.

    Args:
        name: `conv4`, `resnet18` or `resnet50`.
        width: Channels of the first stage of `conv4`; ignored by the ResNets.
        image_size: Side in pixels of most images; determines the stem of a ResNet.
        seed: Seed of the weights.

    Raises:
        ConfigError: If the name is unknown.
    """
    with initialization(seed, "encoder"):
        if name == "conv4":
            return conv4(width)
        if name in ("resnet18", "resnet50"):
            return resnet(name, image_size=image_size)
    raise ConfigError(f"encoder.name = {name!r}: must be one of 'conv4', 'resnet18', 'resnet50'")
