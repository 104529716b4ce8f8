"""Encoders: a small conv net for laptops, and ResNets with a stem that suits small images.

Every encoder takes float images [N, 3, S, S] in [0, 1] of any side S, normalises them itself, and returns
features [N, feature_dim]. `stages` gives the feature map of every stage, for dense and per-layer probes.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from trainables.errors import ConfigError
from trainables.streams import initialisation
from trainables.workers import SharedBatchNorm

MEAN, STD = 0.5, 0.25  # near the statistics of natural images; fixed, so that one encoder serves every data set
SMALL_IMAGE = 64  # px; below it a ResNet keeps its resolution in the stem (SimCLR, appendix B.9)


class Encoder(nn.Module):
    """A stack of stages, pooled to one vector an image.

    blocks: the stages in order, each [N, C, H, W] -> [N, C', H', W'].
    widths: channels after each stage; the last is `feature_dim`.
    """

    def __init__(self, blocks: Iterable[nn.Module], widths: Iterable[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.widths = tuple(widths)
        self.feature_dim = self.widths[-1]

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps [N, C_i, H_i, W_i] of all stages for float images [N, 3, S, S] in [0, 1]."""
        hidden = (images - MEAN) / STD
        return [hidden := block(hidden) for block in self.blocks]

    def up_to(self, stage: int) -> Encoder:
        """Return the encoder that ends with this stage, the first being 1; it shares the modules, and their mode."""
        part = Encoder(self.blocks[:stage], self.widths[:stage])
        part.training = self.training
        return part

    def forward(self, images: Tensor) -> Tensor:
        """Return features [N, feature_dim]: the last stage, averaged over space."""
        return self.stages(images)[-1].mean(dim=(2, 3))


def build_encoder(name: str, *, width: int = 24, image_size: int = 32, seed: int = 0) -> Encoder:
    """Build an encoder with weights drawn from the initialisation stream of `seed`.

    width: channels of the first stage of `conv4`; the ResNets have their own.
    image_size: side in px that the encoder will mostly see; picks the stem of a ResNet.
    Raises ConfigError for an unknown name.
    """
    with initialisation(seed, "encoder"):
        if name == "conv4":
            return _conv4(width)
        if name in ("resnet18", "resnet50"):
            return _resnet(name, small_image=image_size < SMALL_IMAGE)
    raise ConfigError(f"encoder.name = {name!r}: must be one of 'conv4', 'resnet18', 'resnet50'")


def _conv4(width: int) -> Encoder:
    widths = [width, 2 * width, 4 * width, 8 * width]
    blocks = []
    for i, (previous, channels) in enumerate(itertools.pairwise([3, *widths])):
        convolution = nn.Conv2d(previous, channels, kernel_size=3, stride=1 if i == 0 else 2, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        blocks.append(nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)))
    return Encoder(blocks, widths)


def _resnet(name: str, *, small_image: bool) -> Encoder:
    import torchvision  # seconds, which every worker of a study of small nets would wait for

    net = getattr(torchvision.models, name)(weights=None)
    if small_image:
        convolution = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        stem: list[nn.Module] = [convolution, net.bn1, net.relu]
    else:
        stem = [net.conv1, net.bn1, net.relu, net.maxpool]
    blocks = [nn.Sequential(*stem, net.layer1), net.layer2, net.layer3, net.layer4]
    expansion = 4 if name == "resnet50" else 1
    return Encoder(blocks, [64 * expansion, 128 * expansion, 256 * expansion, 512 * expansion])


@torch.no_grad()
def recalibrated(encoder: Encoder, images: Tensor, *, batch_size: int = 256) -> Encoder:
    """Return a copy in eval mode whose BatchNorm statistics are those of `images` (uint8 [N, 3, S, S]).

    A pretext task shows the encoder patches, rotated or masked images; a probe shows it whole ones, whose
    statistics differ. An untrained encoder has none at all. Every probed encoder goes through here, so that the
    comparison is fair.
    """
    encoder = copy.deepcopy(encoder)
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average over the batches below
        if isinstance(norm, SharedBatchNorm):
            norm.shared = False  # only the first worker probes: it would wait for the others for ever
    encoder.train()
    # Batches of equal size, since each counts the same in the average: a last one of a few images would spoil it.
    for batch in images.chunk(math.ceil(len(images) / batch_size)):
        if len(batch) > 1:
            encoder(to_float(batch))
    return encoder.eval()


def to_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1], laid out channels-last, which convolutions like best."""
    return images.to(torch.float32, memory_format=torch.channels_last).div_(255)
