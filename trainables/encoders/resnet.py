"""torchvision's ResNets, with a stem for small images."""

from __future__ import annotations

import functools

from torch import nn

from trainables.encoders.base import Encoder

SMALL_IMAGE = 64  # px; below it a ResNet keeps its resolution in the stem (SimCLR, appendix B.9)


def resnet(name: str, in_channels: int = 3, *, image_size: int) -> Encoder:
    """Build `resnet18` or `resnet50`.

    Args:
        name: Name of the architecture in torchvision.
        in_channels: Channels of the images.
        image_size: Side in px of most images; below SMALL_IMAGE, the stem keeps the resolution.
    """
    import torchvision  # imported here, because it takes seconds and only ResNets need it

    net = getattr(torchvision.models, name)(weights=None)
    if image_size < SMALL_IMAGE:
        convolution = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        stem: list[nn.Module] = [convolution, net.bn1, net.relu]
    else:
        if in_channels != 3:
            net.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
        stem = [net.conv1, net.bn1, net.relu, net.maxpool]
    blocks = [nn.Sequential(*stem, net.layer1), net.layer2, net.layer3, net.layer4]
    expansion = 4 if name == "resnet50" else 1
    return Encoder(blocks, [64 * expansion, 128 * expansion, 256 * expansion, 512 * expansion], in_channels)


resnet18, resnet50 = functools.partial(resnet, "resnet18"), functools.partial(resnet, "resnet50")
