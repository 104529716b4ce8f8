"""Shortcut controls: what a pretext task still solves on images that are reduced to a trivial cue.

Lighting that is brighter on one side, or a frame that a camera or scanner adds, tells which way an image was turned and
where a patch is from, so that a task is solved without looking at what the image shows (Doersch, Gupta, Efros 2015,
arXiv 1505.05192, section 3.1, describe such shortcuts). If an image's smooth lighting or its margin alone suffices, the
task need not learn anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from trainables.devices import in_float64
from trainables.training.validation import Validation, standard_error

LIGHTING, BORDER = "lighting", "border"
PREFIX = "shortcut/"
MARGIN = 1 / 8  # width of the border as a share of the image's side


@torch.no_grad()
def shortcut_metrics(validation: Validation) -> dict[str, float]:
    """Return the task's primary metric on validation images that are reduced to a cue.

    Returns:
        `shortcut/lighting`, `shortcut/border`, and the standard error over images of each, `shortcut/lighting_se` and
        `shortcut/border_se`. The draws are those of the validation, and so are the BatchNorm statistics.
    """
    name = validation.task.metrics[0].name
    found: dict[str, float] = {}
    for cue, reduced in CONTROLS.items():
        values = validation.per_image(reduced(validation.images))[name]
        found |= {f"{PREFIX}{cue}": float(values.mean()), f"{PREFIX}{cue}_se": standard_error(values)}
    return found


def lighting_only(images: Tensor) -> Tensor:
    """Replace each channel of each image by the quadratic surface that fits it best.

    Args:
        images: uint8, uint16 or float32 [N, C, S, S].

    Returns:
        Images of the same shape and type.
    """
    side = torch.linspace(-1, 1, images.shape[-1], dtype=torch.float64)
    powers = [(row, column) for row in range(3) for column in range(3 - row)]
    terms = torch.stack([(side[:, None] ** row * side**column).flatten() for row, column in powers], dim=1)
    basis = torch.linalg.qr(terms).Q  # [S S, 6], orthonormal
    values = in_float64(images.flatten(2))
    basis = basis.to(values.device)
    return _as(images, (values @ basis @ basis.T).view(images.shape))


def border_only(images: Tensor) -> Tensor:
    """Replace all of each image by its mean color, except for a margin of MARGIN of the side.

    Args:
        images: uint8, uint16 or float32 [N, C, S, S].

    Returns:
        Images of the same shape and type.
    """
    reduced = in_float64(images)
    margin = max(1, round(MARGIN * images.shape[-1]))
    reduced[..., margin:-margin, margin:-margin] = reduced.mean(dim=(2, 3), keepdim=True)
    return _as(images, reduced)


def _as(images: Tensor, values: Tensor) -> Tensor:
    """Return values in the type of the images, rounded and within its range."""
    if images.dtype == torch.float32:
        return values.clamp(0, 1).to(images.device, torch.float32)
    return values.round().clamp(0, torch.iinfo(images.dtype).max).to(images.device, images.dtype)


CONTROLS: Mapping[str, Callable[[Tensor], Tensor]] = {LIGHTING: lighting_only, BORDER: border_only}
