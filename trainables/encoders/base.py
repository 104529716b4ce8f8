"""Encoder: a stack of stages, pooled to one feature vector per image."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

MEAN, STD = 0.5, 0.25  # near the statistics of natural images; fixed, so that one encoder serves every data set


class Encoder(nn.Module):
    """A stack of stages, pooled to one vector per image.

    Args:
        blocks: Stages in order, each [N, C, H, W] -> [N, C', H', W'].
        widths: Channels after each stage; the last is `feature_dim`.
        in_channels: Channels of the images.
    """

    def __init__(self, blocks: Iterable[nn.Module], widths: Iterable[int], in_channels: int = 3) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.widths = tuple(widths)
        self.feature_dim = self.widths[-1]
        self.in_channels = in_channels

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps [N, C_i, H_i, W_i] of all stages for float images [N, C, S, S] in [0, 1]."""
        hidden = (images - MEAN) / STD
        return [hidden := block(hidden) for block in self.blocks]

    def up_to(self, stage: int) -> Encoder:
        """Return the encoder that ends with a stage, counted from 1; it shares the modules and the training mode."""
        part = Encoder(self.blocks[:stage], self.widths[:stage], self.in_channels)
        part.training = self.training
        return part

    def forward(self, images: Tensor) -> Tensor:
        """Return features [N, feature_dim]: the last stage, averaged over space."""
        return self.stages(images)[-1].mean(dim=(2, 3))
