"""Context encoder: defaults, search space and cures."""

from __future__ import annotations

from typing import Any

from search_spaces.space import Choice, LogUniform, Space, Uniform

DEFAULT: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 2e-3,  # Pathak's rate of Adam for the generator when the adversarial weight is small
    "weight_decay": 1e-5,
    "batch_size": 128,
    "augmentation": {"crop_resize": 0.5, "flip": 1.0, "color_jitter": 0.25},
    "augmentation_strength": 0.5,
}

SPACE: Space = {
    "lr": LogUniform("Adam 2e-4 (Pathak 2016) to 2e-3 (its code at wtl2 0.999), widened upward", low=2e-4, high=1e-2),
    "augmentation_strength": Uniform("none to the full policy; without it holes are memorized", low=0.0, high=1.0),
    "batch_size": Choice("64 in the paper's code, doubled and halved", values=(32, 64, 128)),
    "option/mask_ratio": Uniform("25% in the paper; larger holes demand more semantics", low=0.15, high=0.6),
    "option/mask": Choice("the paper's two regions", values=("center", "random_blocks")),
}

# Possible cures of a flat run, in addition to `ablations.default_cures` for every task: random holes do not repeat.
CURES: dict[str, tuple[Any, ...]] = {"option/mask": ("random_blocks",), "option/mask_ratio": (0.5,)}
