"""Context prediction: defaults, search space and cures."""

from __future__ import annotations

from typing import Any

from search_spaces.space import Choice, LogUniform, Space, Uniform

DEFAULT: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 4e-3,
    "weight_decay": 1e-4,  # Kolesnikov 2019
    "batch_size": 128,  # images; 1,024 pairs per step at 8 pairs per image
    "augmentation": {"crop_resize": 0.5, "flip": 1.0, "color_jitter": 0.5},
    "augmentation_strength": 0.5,
}

SPACE: Space = {
    "lr": LogUniform("AdamW; Kolesnikov uses SGD at 0.1 per batch of 256", low=3e-4, high=1e-2),
    "augmentation_strength": Uniform("none to the full policy; crop_resize varies the scale", low=0.0, high=1.0),
    "batch_size": Choice("32 to 128 images, 256 to 1,024 pairs; about 2,000 in Doersch", values=(32, 64, 128)),
    "option/pairs_per_image": Choice("1 in the original report, 8 (Kolesnikov), all 40 (Doersch)", values=(1, 8, 40)),
    "option/jitter": Uniform("fixed grid to a third of a patch (Kolesnikov); Doersch: 7 of 96 px", low=0.0, high=0.35),
    "option/standardize": Choice(
        "True in Kolesnikov; at 32 px it may remove more than color cues", values=(True, False)
    ),
    "option/gray": Uniform("never to always; two thirds in Kolesnikov", low=0.0, high=1.0),
}

# Possible cures of a flat run, in addition to `ablations.default_cures` for every task: more pairs of the same images,
# and a BatchNorm that cannot silence units (deepcontext's train.py).
CURES: dict[str, tuple[Any, ...]] = {
    "option/pairs_per_image": (8, 40),
    "option/head_norm": ("batch_no_affine", "none"),
}
