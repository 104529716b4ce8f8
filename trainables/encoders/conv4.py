"""conv4: four 3x3 convolutions, small enough to train on a laptop's CPU."""

from __future__ import annotations

import itertools

from torch import nn

from trainables.encoders.base import Encoder


def conv4(width: int, in_channels: int = 3) -> Encoder:
    """Build a conv4 encoder: four stages of 3x3 convolution, BatchNorm and ReLU.

    Args:
        width: Channels of the first stage; each stage doubles it.
        in_channels: Channels of the images.
    """
    widths = [width, 2 * width, 4 * width, 8 * width]
    blocks = []
    for i, (previous, channels) in enumerate(itertools.pairwise([in_channels, *widths])):
        convolution = nn.Conv2d(previous, channels, kernel_size=3, stride=1 if i == 0 else 2, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        blocks.append(nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)))
    return Encoder(blocks, widths, in_channels)
