"""Context prediction: classification of the position of one patch relative to another.

Doersch, Gupta, Efros: Unsupervised Visual Representation Learning by Context Prediction, ICCV 2015
(arXiv:1505.05192), in the form of Kolesnikov, Zhai, Beyer: Revisiting Self-Supervised Visual Representation
Learning, CVPR 2019 (arXiv:1901.09005): a 3x3 grid of patches, each standardized and often gray.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augmentation import Augmentation
from trainables.augmentation.cuda_graphs import CudaGraphCache
from trainables.augmentation.pixels import LUMA_CONTEXT_PREDICTION
from trainables.encoders import MEAN, STD
from trainables.errors import ConfigError
from trainables.options import in_range, one_of
from trainables.rng import sample
from trainables.tasks.base import Batch, Output, PretextTask, zero_init

DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))  # (row, column) of labels 0 .. 7
CENTER = 4  # the middle cell of the grid, counted row by row
CENTER_PAIRS = 8  # the center with each of its neighbors; validation always uses these pairs
SMALLEST_PATCH = 4  # px
Numbers = tuple[Tensor, Tensor, Tensor, Tensor | None]  # shift, jitter, chosen, noise
CHANNEL_NOISE = 0.01  # ratio of the noise's standard deviation to the kept channel's (Doersch 2015)


@dataclass(frozen=True)
class ContextPredictionOptions:
    """Options of context prediction.

    Attributes:
        pairs_per_image: 1 (center and a random neighbor), 8 (center and each neighbor) or 40 (all neighboring pairs of
            the grid, in both orders).
        gap: Smallest distance between two patches, as a fraction of the patch's side.
        jitter: Range of each patch's random position in its cell, as a fraction of the patch's side; 0 for a fixed
            grid.
        gray: Probability that a patch is converted to gray: its luma, or the mean of channels that are not colors.
        color_drop: Probability that all channels of a patch but one are replaced by noise.
        standardize: Whether each patch is scaled to zero mean and unit variance.
        head_hidden: Units of the fusion head's hidden layer.
        head_norm: BatchNorm without scale and shift, with them, or none. With them, the network can silence units early
            and then stay at chance.
        neighbor_only: Whether to hide the center patch. A control: any remaining accuracy comes from absolute position
            or color.
    """

    pairs_per_image: int = one_of(8, 1, 8, 40)
    gap: float = in_range(0.0, 0.0, 0.5, changes_sizes=True)
    jitter: float = in_range(0.25, 0.0, 0.5, changes_sizes=True)
    gray: float = in_range(0.66, 0.0, 1.0)
    color_drop: float = in_range(0.0, 0.0, 1.0)
    standardize: bool = one_of(True, True, False)
    head_hidden: int = in_range(512, 1, 8192)
    head_norm: str = one_of("batch_no_affine", "batch_no_affine", "batch", "none")
    neighbor_only: bool = one_of(False, True, False)


class ContextPrediction(PretextTask):
    """Eight-way classification of the neighbor's direction; chance is 1/8 and ln 8 for pairs around the center.

    An image is augmented, and possibly mirrored, as a whole before its patches are cut, so labels stay correct. Every
    patch is encoded once, however many pairs it is part of.
    """

    name = "context_prediction"
    replayable = True
    has_shortcuts = True
    Options = ContextPredictionOptions
    luma_weights: Tensor

    def build_head(self) -> None:
        """Create the fusion head."""
        options = self.options
        self.patch, self.spacing, self.freedom = grid_geometry(self.image_size, options.gap, options.jitter)
        self._graphs = CudaGraphCache()
        # Without colors, gray is the mean of the channels.
        weights = LUMA_CONTEXT_PREDICTION if self.n_channels == 3 else [1 / self.n_channels] * self.n_channels
        self.register_buffer("luma_weights", torch.tensor(weights).view(-1, 1, 1), persistent=False)
        hidden = options.head_hidden
        norm: nn.Module = {
            "batch_no_affine": nn.BatchNorm1d(hidden, affine=False),
            "batch": nn.BatchNorm1d(hidden),
            "none": nn.Identity(),
        }[options.head_norm]
        self.fusion_head = nn.Sequential(
            nn.Linear(2 * self.encoder.feature_dim, hidden),
            norm,
            nn.ReLU(),
            zero_init(nn.Linear(hidden, len(DIRECTIONS))),
        )

    def draw(self, images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Batch:
        """Return patches [N, G, C, p, p] and, for each of P pairs, its direction int64 [N, P].

        There are G = 2 patches for a single pair, otherwise the nine of the grid. `extras["pairs"]` has the indices
        [P, 2] of each pair's patches, as (first, second).
        """
        whole = augmentation(images, generator)
        n, device = len(images), images.device
        pairs, labels = _pairs(self.options.pairs_per_image if self.training else CENTER_PAIRS, device)
        cells = torch.arange(9, device=device).expand(n, 9)
        if len(pairs) == 1:
            labels = sample(functools.partial(torch.randint, len(DIRECTIONS)), generator, n, 1)
            neighbors = labels + (labels >= CENTER).long()
            cells = torch.cat([torch.full_like(neighbors, CENTER), neighbors], dim=1)
        inputs = (whole, cells, self.luma_weights, *self._numbers(cells, whole.shape[1], generator))
        patches = self._graphs(self._patches, *inputs) if images.is_cuda else self._patches(*inputs)
        return Batch(patches, labels.expand(n, -1), {"pairs": pairs})

    def forward(self, batch: Batch) -> Output:
        """Return cross-entropy in nats and accuracy, each [N P]."""
        patches, labels, pairs = batch.inputs, batch.targets, batch.extras["pairs"]
        n, cells = patches.shape[:2]
        features = self.encoder(patches.flatten(0, 1)).view(n, cells, -1)
        first, second = features[:, pairs[:, 0]], features[:, pairs[:, 1]]
        if self.options.neighbor_only:
            first = torch.zeros_like(first)
        logits = self.fusion_head(torch.cat([first, second], dim=2).flatten(0, 1)).float()
        targets = labels.flatten()
        loss = F.cross_entropy(logits, targets, reduction="none")
        correct = (logits.argmax(dim=1) == targets).float()
        return Output(loss.mean(), {"loss": loss.detach(), "accuracy": correct})

    def chance(self, batch_size: int, *, training: bool) -> dict[str, float]:
        """Return 1/8 and ln 8, or the share of the most frequent direction and the entropy where they are unequal."""
        _, labels = _pairs(self.options.pairs_per_image if training else CENTER_PAIRS, torch.device("cpu"))
        if labels.numel() == 1:
            return {"loss": math.log(len(DIRECTIONS)), "accuracy": 1 / len(DIRECTIONS)}
        shares = torch.bincount(labels.flatten(), minlength=len(DIRECTIONS)).double() / labels.numel()
        return {"loss": float(-(shares * shares.log()).sum()), "accuracy": float(shares.max())}

    def samples_per_image(self) -> int:
        """Return eight: the center with each neighbor."""
        return CENTER_PAIRS

    def by_image(self, samples: Tensor, n_images: int) -> Tensor:
        """Return the mean over the pairs of each image: the samples are in the order image by image."""
        return samples.view(n_images, -1).mean(dim=1)

    def _numbers(self, cells: Tensor, channels: int, generator: torch.Generator) -> Numbers:
        """Draw the random arguments of `_patches`; except for the noise, the numbers do not depend on the options."""
        n, count = cells.shape
        shift = sample(torch.rand, generator, 2, n, 1, images=1)
        jitter = sample(torch.rand, generator, 2, n, count, images=1)
        chosen = sample(torch.rand, generator, 3, n, count, 1, 1, 1, images=1)
        if not self.options.color_drop:
            return shift, jitter, chosen, None
        return shift, jitter, chosen, sample(torch.randn, generator, n, count, channels, self.patch, self.patch)

    def _patches(
        self,
        images: Tensor,
        cells: Tensor,
        luma_weights: Tensor,
        shift: Tensor,
        jitter: Tensor,
        chosen: Tensor,
        noise: Tensor | None,
    ) -> Tensor:
        """Return the patches [N, G, C, p, p] of the cells [N, G]; the last arguments come from `_numbers`.

        A recorded graph copies its arguments, but reads attributes where they were, and fused training moves buffers.
        """
        top, left = self._places(cells, shift, jitter)
        patches = self._remove_color_cues(cut(images, top, left, self.patch), luma_weights, chosen, noise)
        flat = patches.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        return flat.unflatten(0, cells.shape)

    def _places(self, cells: Tensor, shift: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor]:
        """Return top and left [N, G] of each cell's patch: the grid shifted as a whole, and each patch in its cell."""
        pitch = self.patch + self.spacing + self.freedom
        slack = self.image_size - 3 * pitch + self.spacing
        if not self.options.jitter:
            shift = torch.full_like(shift, 0.5)
        origin = (shift * (slack + 1)).long().clamp_(max=slack)
        offset = (jitter * (self.freedom + 1)).long().clamp_(max=self.freedom)
        top, left = origin + offset + pitch * torch.stack([cells // 3, cells % 3])
        return top, left

    def _remove_color_cues(self, patches: Tensor, luma_weights: Tensor, chosen: Tensor, noise: Tensor | None) -> Tensor:
        """Remove the colors that would reveal a patch's position (chromatic aberration, lighting)."""
        channels = patches.shape[2]
        if self.options.gray:
            luma = (patches * luma_weights).sum(dim=2, keepdim=True)
            patches = torch.where(chosen[0] < self.options.gray, luma, patches)
        if noise is not None:
            kept = (chosen[1] * channels).long() == torch.arange(channels, device=patches.device).view(-1, 1, 1)
            spread = (patches.std(dim=(3, 4), keepdim=True) * kept).sum(dim=2, keepdim=True)
            dropped = torch.where(kept, patches, MEAN + CHANNEL_NOISE * spread * noise)
            patches = torch.where(chosen[2] < self.options.color_drop, dropped, patches)
        if self.options.standardize:
            spread, mean = torch.std_mean(patches, dim=(2, 3, 4), keepdim=True)
            patches = MEAN + STD * (patches - mean) / (spread + 1e-3)
        return patches


def grid_geometry(image_size: int, gap: float, jitter: float) -> tuple[int, int, int]:
    """Return the patch's side, the gap and the range of the jitter of the largest 3x3 grid that fits the image.

    32 px without gap and with jitter 0.25 give patches of 8 px in cells of 10.

    Args:
        image_size: Side of the image in pixels.
        gap: Gap as a fraction of the patch's side.
        jitter: Range of the jitter as a fraction of the patch's side.

    Returns:
        Three lengths in pixels.

    Raises:
        ConfigError: The patch would be smaller than 4 px.
    """
    for patch in range(image_size // 3, 0, -1):
        spacing, freedom = round(gap * patch), round(jitter * patch)
        if 3 * (patch + freedom) + 2 * spacing <= image_size:
            break
    if patch < SMALLEST_PATCH:
        enough = 3 * (SMALLEST_PATCH + round(jitter * SMALLEST_PATCH)) + 2 * round(gap * SMALLEST_PATCH)
        raise ConfigError(
            f"context_prediction: images of {image_size} px leave patches of {patch} px, below the minimum of "
            f"{SMALLEST_PATCH} px; use images of {enough} px or more, or less gap ({gap}) and jitter ({jitter})"
        )
    return patch, spacing, freedom


def cut(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Return the patches [N, G, C, side, side] of images.

    Args:
        images: Float [N, C, S, S].
        top: First row of each patch, int64 [N, G].
        left: First column of each patch, int64 [N, G].
        side: Side of the patches in pixels.
    """
    offsets = torch.arange(side, device=images.device)
    rows = (top.unsqueeze(2) + offsets)[:, :, :, None]
    columns = (left.unsqueeze(2) + offsets)[:, :, None, :]
    n = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    return images.permute(0, 2, 3, 1)[n, rows, columns].permute(0, 1, 4, 2, 3)


def _pairs(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the cells [P, 2] of each pair and their directions [1, P]; a single pair has a random neighbor."""
    if count == 1:
        return _to(device, [[0, 1]]), _to(device, [[0]])
    pairs, labels = [], []
    for cell in [CENTER] if count == CENTER_PAIRS else range(9):
        for label, (down, right) in enumerate(DIRECTIONS):
            row, column = cell // 3 + down, cell % 3 + right
            if 0 <= row < 3 and 0 <= column < 3:
                pairs.append((cell, 3 * row + column))
                labels.append(label)
    return _to(device, pairs), _to(device, [labels])


def _to(device: torch.device, numbers: list) -> Tensor:
    """Return the numbers on the device, without waiting for it."""
    return torch.tensor(numbers).to(device, non_blocking=True)
