"""Encoders by name."""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import Any

from torch import nn

from trainables.encoders.base import Encoder, Network, StagedNetwork, WrappedEncoder
from trainables.encoders.names import ENCODERS, REFERENCE, TIMM, Builder, check_encoder
from trainables.errors import ConfigError, first_line
from trainables.rng import initialization


def build_encoder(name: str, *, width: int = 24, image_size: int = 32, in_channels: int = 3, seed: int = 0) -> Encoder:
    """Build an encoder with weights drawn from the initialization stream of `seed`.

    Args:
        name: One of ENCODERS, `timm/NAME` or `module:Class`.
        width: Channels of the first stage of `conv4`; ignored by the ResNets and timm's models.
        image_size: Side in pixels of most images; determines the stem of a ResNet.
        in_channels: Channels of the images.
        seed: Seed of the weights.

    Raises:
        ConfigError: The name is unknown, the encoder does not take this number of channels, or what is built is
            not an encoder.
    """
    check_encoder(name)
    builder = _builder(name)
    arguments = _accepted(builder, {"width": width, "image_size": image_size, "in_channels": in_channels})
    if in_channels != 3 and "in_channels" not in arguments:
        raise ConfigError(f"encoder.name = {name!r}: it takes images of 3 channels, and the images have {in_channels}")
    with initialization(seed, "encoder"):
        try:
            network = builder(**arguments)
        except ConfigError:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {first_line(error)}"
            raise ConfigError(f"encoder.name = {name!r}: cannot be built with {arguments}: {problem}") from error
    return network if isinstance(network, Encoder) else _wrapped(name, network, in_channels)


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
