"""Encoders by name, in a file of its own because it needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainables.errors import ConfigError, suggestion
from trainables.registry import Registry

Builder = Callable[..., Any]
REFERENCE = ":"  # in `module:Class`, which needs no registration
TIMM = "timm/"  # before the name of a model of the library timm

# A builder, or where to import it from as `module:function`.
ENCODERS: Registry[Builder | str] = Registry(
    "encoder",
    {
        "conv4": "trainables.encoders.conv4:conv4",
        "resnet18": "trainables.encoders.resnet:resnet18",
        "resnet50": "trainables.encoders.resnet:resnet50",
    },
)


def is_outside(name: str) -> bool:
    """Whether a name refers to an encoder outside the registry, `timm/NAME` or `module:Class`."""
    return name.startswith(TIMM) or REFERENCE in name


def check_encoder(name: str) -> None:
    """Raise ConfigError if no encoder has this name; whether one outside exists is known when it is built."""
    if name not in ENCODERS and not is_outside(name):
        known = suggestion(name, ENCODERS)
        raise ConfigError(f"encoder.name = {name!r}: no such encoder; {known}, {TIMM}NAME or module:Class")


def register_encoder(name: str) -> Callable[[Builder], Builder]:
    """Return a decorator that makes a class or function an encoder, which studies name by `encoder: {name: NAME}`.

    Called with those of the keywords `width`, `image_size` and `in_channels` that it declares, it returns either an
    `Encoder`, which is a stack of stages, or any module that maps float images [N, C, S, S] in [0, 1] to features
    [N, feature_dim] and has the attribute `feature_dim`. A module may also have a method `stages`, which returns
    feature maps [N, D_i, H_i, W_i], and the attribute `widths`, their channels D_i.

    Args:
        name: Name of the encoder.

    Raises:
        ConfigError: The name is taken.
    """
    return ENCODERS.decorator(name)
