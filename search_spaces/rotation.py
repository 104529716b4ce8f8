"""Rotation prediction: defaults and search space."""

from __future__ import annotations

from typing import Any

from search_spaces.space import Choice, LogUniform, Space, Uniform

DEFAULT: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 5e-4,  # RotNet's CIFAR-10 configuration (Gidaris 2018)
    "batch_size": 64,  # images; the network sees four times as many
    # The padded crop and flip of RotNet, with SimCLR's colors; nothing that turns or mirrors top and bottom.
    "augmentation": {"crop_resize": 0.5, "flip": 1.0, "color_jitter": 0.5, "gray": 0.2},
    "augmentation_strength": 0.5,
}

SPACE: Space = {
    "lr": LogUniform(
        "around AdamW's usual 1e-3; SGD's 1e-2 .. 3e-1 (RotNet has 0.1) moves a normalized network about as far",
        low=3e-4,
        high=1e-2,
    ),
    "augmentation_strength": Uniform("none to the full policy; small sets overfit without it", low=0.0, high=1.0),
    "batch_size": Choice(
        "RotNet has 128 images; smaller ones give more steps for the same samples", values=(32, 64, 128)
    ),
}

# What may cure a flat run, besides what `ablations.default_cures` offers every task.
CURES: dict[str, tuple[Any, ...]] = {"batch_size": (32,)}
