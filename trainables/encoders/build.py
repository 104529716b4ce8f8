"""Encoders by name."""

from __future__ import annotations

from trainables.encoders.base import Encoder
from trainables.encoders.conv4 import conv4
from trainables.encoders.resnet import resnet
from trainables.errors import ConfigError
from trainables.rng import initialization


def build_encoder(name: str, *, width: int = 24, image_size: int = 32, seed: int = 0) -> Encoder:
    """Build an encoder with weights drawn from the initialization stream of `seed`.

    width: channels of the first stage of `conv4`; the ResNets have their own.
    image_size: side in px that the encoder will mostly see; picks the stem of a ResNet.
    Raises ConfigError for an unknown name.
    """
    with initialization(seed, "encoder"):
        if name == "conv4":
            return conv4(width)
        if name in ("resnet18", "resnet50"):
            return resnet(name, image_size=image_size)
    raise ConfigError(f"encoder.name = {name!r}: must be one of 'conv4', 'resnet18', 'resnet50'")
