"""The network of a published recipe, which differs from `conv4` in how it reduces the resolution."""

from __future__ import annotations

from torch import nn

from trainables.encoders.base import Encoder
from trainables.encoders.conv4 import conv4


def conv4_pooled(width: int, in_channels: int = 3) -> Encoder:
    """Build `conv4` with 2x2 average pooling between the stages instead of strides.

    Args:
        width: Channels of the first stage; each stage doubles it.
        in_channels: Channels of the images.
    """
    network = conv4(width, in_channels)
    for stage in network.blocks[1:]:
        assert isinstance(stage, nn.Sequential)
        convolution = stage[0]
        assert isinstance(convolution, nn.Conv2d)
        convolution.stride = (1, 1)
        stage.insert(0, nn.AvgPool2d(2))
    return network
