"""Rotation prediction: defaults, search space and cures."""

from __future__ import annotations

from typing import Any

from search_spaces.space import Choice, LogUniform, Space, Uniform

DEFAULT: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 5e-4,  # RotNet's CIFAR-10 configuration (Gidaris 2018)
    "batch_size": 64,  # images; the network sees each in four rotations
    # Crop and flip as in RotNet, with SimCLR's colors; no op that rotates or flips vertically.
    "augmentation": {"crop_resize": 0.5, "flip": 1.0, "color_jitter": 0.5, "gray": 0.2},
    "augmentation_strength": 0.5,
}

SPACE: Space = {
    "lr": LogUniform(
        "around AdamW's usual 1e-3; SGD takes comparable steps at 1e-2 .. 3e-1 (RotNet: 0.1)",
        low=3e-4,
        high=1e-2,
    ),
    "augmentation_strength": Uniform("none to the full policy; without it small sets overfit", low=0.0, high=1.0),
    "batch_size": Choice("128 in RotNet; smaller batches take more steps for the same samples", values=(32, 64, 128)),
}

# Possible cures of a flat run, in addition to `ablations.default_cures` for every task.
CURES: dict[str, tuple[Any, ...]] = {"batch_size": (32,)}
