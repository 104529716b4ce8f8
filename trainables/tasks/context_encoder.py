"""Context encoder: inpainting of a masked region.

Pathak, Krahenbuhl, Donahue, Darrell, Efros: Context Encoders: Feature Learning by Inpainting, CVPR 2016
(arXiv:1604.07379).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augmentation import Augmentation
from trainables.data.table import to_float
from trainables.distributed import mean_over_workers
from trainables.encoders import MEAN, Encoder
from trainables.errors import ConfigError
from trainables.options import in_range, one_of
from trainables.rng import sample
from trainables.tasks.base import LOSS, Batch, Metric, Output, PretextTask, zero_init

OVERLAP_WEIGHT = 10.0  # weight of the error in the visible border of the region (Pathak 2016, section 3.3)
DECODER_WIDTHS = (64, 48, 24)


@dataclass(frozen=True)
class ContextEncoderOptions:
    """Options of the context encoder.

    Attributes:
        mask: One square in the center, or random blocks (a new mask for every image and step).
        mask_ratio: Share of the image's area to paint.
        block_size: Side of a random block in pixels.
        overlap: Width in pixels of the border of the painted region that stays visible and has ten times the weight.
        loss: Squared (l2) or absolute (l1) error.
        adversarial_weight: Weight of the adversarial term; 0 leaves it out, 0.001 is the paper's.
    """

    mask: str = one_of("random_blocks", "center", "random_blocks")
    mask_ratio: float = in_range(0.25, 0.05, 0.9)
    block_size: int = in_range(8, 1, 256)
    overlap: int = in_range(0, 0, 16)
    loss: str = one_of("l2", "l2", "l1")
    adversarial_weight: float = in_range(0.0, 0.0, 1.0)


class ContextEncoder(PretextTask):
    """Inpainting with the shared encoder and a light decoder.

    `loss_fraction` is the error inside the hole over the error of painting the training set's per-pixel mean, so 1
    means that nothing was learned. The decoder paints the logit of a change to that mean, initially 0, so training
    starts at 1; its output is in (0, 1), like the targets. Features are taken from whole images.
    """

    name = "context_encoder"
    replayable = True
    Options = ContextEncoderOptions
    metrics = (Metric("loss_fraction", "min", normalized=True), LOSS)
    mean_image: Tensor
    mean_error: Tensor

    def build_head(self) -> None:
        """Create the decoder, the buffers of the mean image and, with an adversarial term, the discriminator."""
        size, options = self.image_size, self.options
        if options.mask == "random_blocks" and options.block_size >= size:
            raise ConfigError(
                f"task_options.{self.name}.block_size = {options.block_size}: one block would hide a whole image of "
                f"{size} px; use a block_size of at most {size // 2}"
            )
        map_size = _map_size(self.encoder, size)
        self.decoder = _decoder(self.encoder.widths[-1], map_size, size, self.n_channels)
        if options.adversarial_weight > 0:
            self.discriminator = _discriminator(self.n_channels)
        self.register_buffer("mean_image", torch.full((self.n_channels, size, size), MEAN))
        self.register_buffer("mean_error", torch.tensor(1.0))

    def fit_to(self, images: Tensor) -> None:
        """Compute the per-pixel mean of the training images and its mean error."""
        chunks = images.split(1024)
        sums = torch.stack([to_float(chunk, torch.channels_last).double().sum(dim=0) for chunk in chunks])
        self.mean_image.copy_(sums.sum(dim=0) / len(images))
        errors = [
            _error(self.mean_image, to_float(chunk, torch.channels_last), self.options.loss).sum() for chunk in chunks
        ]
        self.mean_error.copy_(torch.stack(errors).sum() / images.numel())

    def draw(self, images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Batch:
        """Return inputs with the hole filled by the mean color, and whole images as targets.

        `extras["weight"]` [N, 1, S, S] is the weight of each pixel's error: 1 in the hole, 10 in the visible border of
        the painted region, 0 elsewhere.
        """
        whole = augmentation(images, generator)
        region = self._region(images, generator)
        hole = _erode(region, self.options.overlap)
        color = self.mean_image.mean(dim=(1, 2)).view(1, -1, 1, 1)
        weight = hole + OVERLAP_WEIGHT * (region - hole)
        return Batch(torch.where(hole > 0, color, whole), whole, {"weight": weight})

    def forward(self, batch: Batch) -> Output:
        """Return the weighted error of the region and, as metrics [N], the hole's error and its fraction of chance."""
        weight = batch.extras["weight"]
        painted = self.paint(batch)
        error = _error(painted, batch.targets, self.options.loss)
        objective = _masked_mean(error, weight).mean()
        if self.options.adversarial_weight > 0 and self.training:
            objective = objective + self._adversarial(painted, batch.targets, weight > 0)
        hole = (weight == 1).float()
        loss = _masked_mean(error.detach(), hole)
        by_mean = _masked_mean(_error(self.mean_image, batch.targets, self.options.loss), hole)
        by_mean = mean_over_workers(by_mean.mean()) if self.training else by_mean.mean()
        return Output(objective, {"loss": loss, "loss_fraction": loss / by_mean})

    def paint(self, batch: Batch) -> Tensor:
        """Return painted images, float [N, C, S, S] in (0, 1); an untrained decoder paints the mean image."""
        change = self.decoder(self.encoder.stages(batch.inputs)[-1]).float()
        return torch.sigmoid(change + self.mean_image.logit(eps=1e-3))

    def chance(self, batch_size: int, *, training: bool) -> dict[str, float]:
        """Return the error of the mean image on the training set, and 1 as the fraction."""
        return {"loss": float(self.mean_error), "loss_fraction": 1.0}

    def _region(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the region to paint, float [N, 1, S, S] of 0 and 1; some of each image always stays visible."""
        n, size = len(images), self.image_size
        if self.options.mask == "center":
            side = min(size - 1, round(size * math.sqrt(self.options.mask_ratio)))
            region = torch.zeros(1, 1, size, size, device=images.device)
            start = (size - side) // 2
            region[:, :, start : start + side, start : start + side] = 1
            return region.expand(n, -1, -1, -1)
        cells = math.ceil(size / self.options.block_size)
        count = min(cells**2 - 1, max(1, round(self.options.mask_ratio * cells**2)))
        order = sample(torch.rand, generator, n, cells**2).argsort(dim=1)
        region = (order < count).float().view(n, 1, cells, cells)
        block = self.options.block_size
        return region.repeat_interleave(block, 2).repeat_interleave(block, 3)[:, :, :size, :size]

    def _adversarial(self, painted: Tensor, whole: Tensor, region: Tensor) -> Tensor:
        """Return the minimax term of Pathak 2016, equation 2, for one simultaneous step of both players.

        The discriminator learns to distinguish real regions from painted ones at full weight; the gradient reaches the
        decoder reversed and scaled by `adversarial_weight` (gradient reversal, arXiv:1409.7495).
        """
        fake = _reverse_gradient(painted, self.options.adversarial_weight)
        composed = torch.where(region, fake, whole)
        logits_real, logits_fake = self.discriminator(whole), self.discriminator(composed)
        return F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean()


def _error(painted: Tensor, target: Tensor, kind: str) -> Tensor:
    difference = painted - target
    return difference.square() if kind == "l2" else difference.abs()


def _masked_mean(error: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean [N] of an error [N, C, S, S] under a weight [N, 1, S, S]."""
    return (error * weight).sum(dim=(1, 2, 3)) / (error.shape[1] * weight.sum(dim=(1, 2, 3)))


def _erode(region: Tensor, pixels: int) -> Tensor:
    """Shrink a region of ones by `pixels` on every side that borders on visible pixels."""
    if not pixels:
        return region
    hole = 1 - F.max_pool2d(1 - region, kernel_size=2 * pixels + 1, stride=1, padding=pixels)
    # A region too small to lose its border keeps it, or there would be nothing to predict.
    kept = hole.sum(dim=(1, 2, 3), keepdim=True) > 0
    return torch.where(kept, hole, region)


@torch.no_grad()
def _map_size(encoder: Encoder, size: int) -> int:
    training = encoder.training
    map_size = encoder.eval().stages(torch.zeros(1, encoder.in_channels, size, size))[-1].shape[-1]
    encoder.train(training)
    return map_size


def _decoder(width: int, map_size: int, image_size: int, n_channels: int) -> nn.Sequential:
    """Return convolutions [N, width, m, m] -> [N, C, S, S], doubling the side until it reaches the image's."""
    layers: list[nn.Module] = [nn.Conv2d(width, DECODER_WIDTHS[0], kernel_size=1)]
    channels, side, depth = DECODER_WIDTHS[0], map_size, 0
    while side < image_size:
        side, depth = min(2 * side, image_size), depth + 1
        inner = DECODER_WIDTHS[min(depth, len(DECODER_WIDTHS) - 1)]
        layers += [nn.Upsample(size=(side, side)), nn.Conv2d(channels, inner, kernel_size=3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(inner), nn.ReLU(inplace=True)]
        channels = inner
    return nn.Sequential(*layers, zero_init(nn.Conv2d(channels, n_channels, kernel_size=3, padding=1)))


def _discriminator(n_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for previous, channels in ((n_channels, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(previous, channels, kernel_size=4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 1))


def _reverse_gradient(values: Tensor, scale: float) -> Tensor:
    """Return `values`, with a gradient that is negated and scaled."""
    fixed = values.detach()
    return fixed - scale * (values - fixed)
