"""Encoders of the library timm: `timm/NAME` is any of its models, without the classifier."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.encoders.names import TIMM
from trainables.errors import ConfigError, first_line

# Models of a fixed image size take one of these, the first that a model accepts; others take any size.
_ANY_SIZE: tuple[dict[str, Any], ...] = (
    {"dynamic_img_size": True, "dynamic_img_pad": True},
    {"strict_img_size": False},
)


class TimmNetwork(nn.Module):
    """A timm model that scales and normalizes its images as its weights expect, and draws no random numbers.

    Dropout and stochastic depth are off: a trial takes all random numbers from its own named streams.

    Args:
        model: Model without a classifier.
        image_size: Side of most images in px.
        in_channels: Channels of the images.
        input_size: Side in px to which images of `image_size` are scaled, and others by the same factor; None leaves
            all images as they are.
        mean: Mean of each channel, or one for all.
        std: Standard deviation of each channel, or one for all.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        *,
        image_size: int,
        in_channels: int,
        input_size: int | None,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.model = _without_dropout(model)
        self.scale = (input_size or image_size) / image_size
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, _per_channel(values, in_channels), persistent=False)
        self._measure(torch.zeros(2, in_channels, image_size, image_size))

    @torch.no_grad()
    def _measure(self, images: Tensor) -> None:
        """Set the dimension of the features, and the channels of the stages if there are any."""
        features = self.eval()(images)
        if features.ndim != 2:
            raise ValueError(f"its features have the shape {list(features.shape)} instead of [N, D]")
        has_stages = hasattr(self.model, "forward_intermediates")
        self.feature_dim = int(features.shape[1])
        self.widths = tuple(int(each.shape[1]) for each in self.stages(images)) if has_stages else ()
        self.train()

    def stages(self, images: Tensor) -> list[Tensor]:
        """Return the feature maps [N, C_i, H_i, W_i] of timm's stages, or of each block of a vision transformer."""
        last, maps = self.model.forward_intermediates(self._prepared(images), norm=True, output_fmt="NCHW")  # type: ignore[operator]
        if last.ndim == 4 and last.shape[2:] == maps[-1].shape[2:]:
            maps[-1] = last  # with the layers between the last stage and the pooling, such as EfficientNet's
        return list(maps)

    def forward(self, images: Tensor) -> Tensor:
        """Return features [N, feature_dim] of float images [N, C, S, S] in [0, 1]."""
        return self.model(self._prepared(images))

    def _prepared(self, images: Tensor) -> Tensor:
        if self.scale != 1:
            side = max(1, round(images.shape[-1] * self.scale))
            images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        return (images - self.mean) / self.std


def timm_encoder(
    name: str,
    *,
    image_size: int,
    in_channels: int = 3,
    input_size: int | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> TimmNetwork:
    """Build a timm model as an encoder, with new weights.

    Args:
        name: `timm/NAME`, where NAME is a model of timm, with or without the tag of its weights.
        image_size: Side of most images in px.
        in_channels: Channels of the images.
        input_size: As in `TimmNetwork`.
        mean: Mean of each channel, by which images are normalized; empty for timm's for this model.
        std: Standard deviation of each channel; empty for timm's for this model.

    Raises:
        ConfigError: timm is not installed or has no such model.
    """
    library = require(name)
    model = _model(library, name.removeprefix(TIMM), in_channels, input_size or image_size)
    expected = expected_inputs(name)
    return TimmNetwork(
        model,
        image_size=image_size,
        in_channels=in_channels,
        input_size=input_size,
        mean=mean or expected["mean"],
        std=std or expected["std"],
    )


def require(name: str) -> Any:
    """Return the library timm if it has the model that `timm/NAME` names.

    Raises:
        ConfigError: It is not installed, or has no such model.
    """
    try:
        import timm
    except ImportError as error:
        raise ConfigError(f'encoder {name!r} needs the library timm: pip install "pretext-study[timm]"') from error
    model = name.removeprefix(TIMM)
    if not timm.is_model(model):
        close = difflib.get_close_matches(model, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(TIMM + each for each in close)}?" if close else "see timm.list_models()"
        raise ConfigError(f"encoder {name!r}: timm {timm.__version__} has no such model; {hint}")
    try:
        timm.get_pretrained_cfg(model)
    except RuntimeError as error:
        tags = ", ".join(TIMM + each for each in timm.list_pretrained(f"{model.partition('.')[0]}.*"))
        raise ConfigError(f"encoder {name!r}: {first_line(error)} It has {tags}") from error
    return timm


def expected_inputs(name: str) -> dict[str, Any]:
    """Return how timm prepares images for the weights of a model: `input_size` in px, `mean` and `std` per channel.

    Raises:
        ConfigError: timm is not installed or has no such model.
    """
    found = require(name).get_pretrained_cfg(name.removeprefix(TIMM), allow_unregistered=True)
    return {"input_size": int(found.input_size[-1]), "mean": tuple(found.mean), "std": tuple(found.std)}


def _model(library: Any, name: str, in_channels: int, image_size: int) -> nn.Module:
    """Return a model that takes images of any side, or at least of `image_size`."""
    fixed = library.get_pretrained_cfg(name, allow_unregistered=True).fixed_input_size
    for sizes in (*_ANY_SIZE, {"img_size": image_size}) if fixed else ():
        try:
            return library.create_model(name, pretrained=False, num_classes=0, in_chans=in_channels, **sizes)
        except TypeError:  # the model does not know this argument
            continue
    return library.create_model(name, pretrained=False, num_classes=0, in_chans=in_channels)


def _per_channel(values: Sequence[float], in_channels: int) -> Tensor:
    """Return values as [1, C, 1, 1]; images that are not red, green and blue get the mean of three values.

    Raises:
        ConfigError: There is another number of values.
    """
    if len(values) not in (1, 3, in_channels):
        raise ConfigError(
            f"encoder.mean and encoder.std: {len(values)} values for {in_channels} channels; give one for each"
        )
    if len(values) not in (1, in_channels):
        values = [sum(values) / len(values)]
    return torch.tensor(list(values), dtype=torch.float32).view(1, -1, 1, 1).expand(1, in_channels, 1, 1).clone()


def _without_dropout(model: nn.Module) -> nn.Module:
    for module in model.modules():
        names = ("p",) if isinstance(module, nn.modules.dropout._DropoutNd) else ("drop_prob", "drop_rate")
        for name in names:
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return model
