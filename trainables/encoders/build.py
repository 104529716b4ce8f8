"""Encoders by name."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from trainables.encoders.base import Encoder, Network, StagedNetwork, WrappedEncoder
from trainables.encoders.names import ENCODERS, REFERENCE, TIMM, Builder, check_encoder
from trainables.encoders.weights import load_weights
from trainables.errors import ConfigError, first_line
from trainables.rng import global_seed
from trainables.trial import TrialConfig


def build_encoder(
    name: str,
    *,
    width: int = 24,
    image_size: int = 32,
    in_channels: int = 3,
    seed: int = 0,
    input_size: int | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Encoder:
    """Build an encoder with weights drawn from the initialization stream of `seed`.

    Args:
        name: One of ENCODERS, `timm/NAME` or `module:Class`.
        width: Channels of the first stage of `conv4`; ignored by the ResNets and timm's models.
        image_size: Side in pixels of most images; determines the stem of a ResNet.
        in_channels: Channels of the images.
        seed: Seed of the weights.
        input_size: Side in px to which an encoder of timm scales whole images, and others by the same factor; None for
            as they are.
        mean: Mean per channel by which an encoder of timm normalizes images; empty for its own.
        std: Standard deviation per channel; empty for its own.

    Raises:
        ConfigError: The name is unknown, the encoder does not take this number of channels or these inputs, or what is
            built is not an encoder.
    """
    check_encoder(name)
    builder = _builder(name)
    arguments = _accepted(builder, {"width": width, "image_size": image_size, "in_channels": in_channels})
    if in_channels != 3 and "in_channels" not in arguments:
        raise ConfigError(f"encoder.name = {name!r}: it takes images of 3 channels, and the images have {in_channels}")
    inputs = {"input_size": input_size, "mean": tuple(mean), "std": tuple(std)}
    given = {key: value for key, value in inputs.items() if value}
    if unknown := [key for key in given if key not in _accepted(builder, inputs)]:
        raise ConfigError(f"encoder {name!r} has no setting {' or '.join(unknown)}, which encoders of timm have")
    arguments |= given
    with global_seed(seed, "encoder"):
        try:
            network = builder(**arguments)
        except ConfigError:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {first_line(error)}"
            raise ConfigError(f"encoder.name = {name!r}: cannot be built with {arguments}: {problem}") from error
    return network if isinstance(network, Encoder) else _wrapped(name, network, in_channels)


def encoder_of(
    trial: TrialConfig, image_size: int, in_channels: int = 3, weights: Mapping[str, Tensor] | None = None
) -> Encoder:
    """Build the encoder that a trial begins with.

    Args:
        trial: Configuration.
        image_size: Side in pixels of the images.
        in_channels: Channels of the images.
        weights: Tensors of the weights that `trial.weights` identifies; None for random ones, which a checkpoint
            replaces if the trial has weights.

    Raises:
        ConfigError: The encoder cannot be built, or does not fit the weights.
    """
    encoder = build_encoder(
        trial.encoder,
        width=trial.width,
        image_size=image_size,
        in_channels=in_channels,
        seed=trial.seed,
        input_size=trial.input_size,
        mean=trial.mean,
        std=trial.std,
    )
    if weights is not None:
        load_weights(encoder, weights, trial.weights)
    return encoder


def _builder(name: str) -> Builder:
    if name.startswith(TIMM):
        from trainables.encoders.timm_models import timm_encoder

        return functools.partial(timm_encoder, name)
    found = ENCODERS.get(name, name)
    return _imported(found) if isinstance(found, str) else found


def _imported(reference: str) -> Builder:
    """Return what `module:name` refers to."""
    module, _, name = reference.partition(REFERENCE)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"encoder.name = {reference!r}: cannot be imported ({first_line(error)})") from error


def _accepted(builder: Builder, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return those arguments that a builder declares."""
    declared = inspect.signature(builder).parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in declared.values())
    return {name: value for name, value in arguments.items() if takes_any or name in declared}


def _wrapped(name: str, network: Any, in_channels: int) -> WrappedEncoder:
    if not (isinstance(network, nn.Module) and isinstance(network, Network) and isinstance(network.feature_dim, int)):
        raise ConfigError(
            f"encoder.name = {name!r}: must build a torch.nn.Module with the attribute `feature_dim`, an int"
        )
    if hasattr(network, "stages") and not isinstance(network, StagedNetwork):
        raise ConfigError(f"encoder.name = {name!r}: has `stages` but not `widths`, the channels of each stage")
    return WrappedEncoder(name, network, in_channels)
