"""Images of any number of channels as pictures."""

from __future__ import annotations

import numpy as np


def in_three_channels(image: np.ndarray) -> np.ndarray:
    """Return an image to show, float [H, W, 3] in [0, 1]: its first three channels, or its first one in gray.

    Args:
        image: uint8, uint16 or float [C, H, W], white at the highest value of an integer type, otherwise at 1.
    """
    shown = image[:3] if len(image) >= 3 else image[:1].repeat(3, axis=0)
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    return (shown.transpose(1, 2, 0) / white).clip(0, 1)
