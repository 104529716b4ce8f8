"""Encoder: a stack of stages, pooled to one feature vector per image, or any network with features of that form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from trainables.errors import ConfigError

MEAN, STD = 0.5, 0.25  # near the statistics of natural images; fixed, so that one encoder serves every data set


@runtime_checkable
class Network(Protocol):
    """What an encoder from outside this package must be, besides a `torch.nn.Module`.

    It maps float images [N, C, S, S] in [0, 1], of the number of channels and any side for which it is built, to
    features [N, feature_dim]. It normalizes the images itself.
    """

    feature_dim: int

    def __call__(self, images: Tensor) -> Tensor:
        """Return features, float32 [N, feature_dim]."""


@runtime_checkable
class StagedNetwork(Network, Protocol):
    """A network with feature maps, which reconstruction, segmentation and probes of layers need.

    `widths` are the channels of its stages; it may be empty for a network that turns out to have none.
    """

    widths: Sequence[int]

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the feature map [N, C_i, H_i, W_i] of each stage."""


class Encoder(nn.Module):
    """A stack of stages, pooled to one vector per image.

    Args:
        blocks: Stages in order, each [N, C, H, W] -> [N, C', H', W'].
        widths: Channels after each stage; the last is `feature_dim`.
        in_channels: Channels of the images.

    Attributes:
        pools_last_stage: Whether the features are the last stage, averaged over space.
    """

    pools_last_stage = True

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

    def check_stages(self) -> None:
        """Raise ConfigError if the encoder has no stages."""

    def up_to(self, stage: int) -> Encoder:
        """Return the encoder that ends with a stage, counted from 1; it shares the modules and the training mode."""
        part = Encoder(self.blocks[:stage], self.widths[:stage], self.in_channels)
        part.training = self.training
        return part

    def forward(self, images: Tensor) -> Tensor:
        """Return features [N, feature_dim]: the last stage, averaged over space."""
        return self.stages(images)[-1].mean(dim=(2, 3))


class WrappedEncoder(Encoder):
    """A network from outside this package, which normalizes its images itself and may have stages or not.

    Args:
        name: Name of the encoder, for messages.
        network: The network.
        in_channels: Channels of the images.
    """

    pools_last_stage = False

    def __init__(self, name: str, network: nn.Module, in_channels: int = 3) -> None:
        nn.Module.__init__(self)
        assert isinstance(network, Network)
        self.name = name
        self.network = network
        self.widths = tuple(network.widths) if isinstance(network, StagedNetwork) else ()
        self.feature_dim = network.feature_dim
        self.in_channels = in_channels

    def check_stages(self) -> None:
        """Raise ConfigError if the network has no stages."""
        if not self.widths:
            raise ConfigError(
                f"encoder.name = {self.name!r}: it has no `stages`, whose feature maps context_encoder, "
                "evaluate.segmentation and evaluate.probe_layers: all need; leave these out, or choose another encoder"
            )

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps of all stages.

        Raises:
            ConfigError: The network has none.
        """
        self.check_stages()
        assert isinstance(self.network, StagedNetwork)
        return self.network.stages(images)

    def up_to(self, stage: int) -> Encoder:
        """Return the encoder whose features are those of a stage, counted from 1, averaged over space."""
        part = WrappedEncoder(self.name, _UpTo(self, stage), self.in_channels)
        part.training = self.training
        return part

    def forward(self, images: Tensor) -> Tensor:
        """Return features [N, feature_dim]."""
        return self.network(images)


class _UpTo(nn.Module):
    def __init__(self, encoder: WrappedEncoder, stage: int) -> None:
        super().__init__()
        self.encoder, self.widths = encoder, encoder.widths[:stage]
        self.feature_dim = self.widths[-1]

    def stages(self, images: Tensor) -> list[Tensor]:
        return self.encoder.stages(images)[: len(self.widths)]

    def forward(self, images: Tensor) -> Tensor:
        return self.stages(images)[-1].mean(dim=(2, 3))
