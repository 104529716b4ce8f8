"""SimCLR: defaults, search space and cures."""

from __future__ import annotations

from typing import Any

from search_spaces.space import Choice, LogUniform, Space, Uniform

DEFAULT: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 2e-3,
    "weight_decay": 1e-4,  # the CIFAR recipe of google-research/simclr
    "batch_size": 128,
    # Chen 2020, appendix B.9: crops, flips, color and gray, no blur at 32 px.
    "augmentation": {"crop_resize": 1.0, "flip": 1.0, "color_jitter": 1.0, "gray": 0.4},
    "augmentation_strength": 0.5,
}

SPACE: Space = {
    "lr": LogUniform("AdamW; SGD (0.03 .. 1) and LARS (0.3 .. 3) assume 200 epochs or more", low=3e-4, high=1e-2),
    "augmentation_strength": Uniform("color strength 0 .. 1 in Chen 2020; scales crops, too", low=0.1, high=1.0),
    "batch_size": Choice("128 (lightly) to 512 (simclr); fewer images mean fewer negatives", values=(64, 128, 256)),
    "option/temperature": LogUniform("0.1, 0.5 and 1 in Chen 2020, table 5; 0.2 in solo-learn", low=0.05, high=1.0),
}

# Possible cures of a flat run, in addition to `ablations.default_cures` for every task: a small batch has few
# negatives, which a higher temperature weights more evenly.
CURES: dict[str, tuple[Any, ...]] = {"option/temperature": (0.2, 1.0)}
