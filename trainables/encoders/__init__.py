"""Encoders: a small convolutional net for laptops, and ResNets with a stem for small images.

Every encoder takes float images [N, C, S, S] in [0, 1] of any side S, normalizes them, and returns features
[N, feature_dim]. `stages` returns the feature map of every stage, for dense and per-layer probes. Those of
plug-ins are registered by `register_encoder`.

`ENCODERS` can be imported without torch, because every reader of a journal checks names with it; the other names are
imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from trainables.encoders.names import ENCODERS, check_encoder, register_encoder

if TYPE_CHECKING:
    from trainables.encoders.base import MEAN, STD, Encoder
    from trainables.encoders.build import build_encoder, encoder_of
    from trainables.encoders.calibration import calibration_images, recalibrated

_MODULES = {
    **dict.fromkeys(("MEAN", "STD", "Encoder"), "base"),
    **dict.fromkeys(("build_encoder", "encoder_of"), "build"),
    **dict.fromkeys(("calibration_images", "recalibrated"), "calibration"),
}

__all__ = [
    "ENCODERS",
    "MEAN",
    "STD",
    "Encoder",
    "build_encoder",
    "calibration_images",
    "check_encoder",
    "encoder_of",
    "recalibrated",
    "register_encoder",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
