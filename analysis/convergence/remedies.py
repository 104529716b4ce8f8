"""Remedies that several verdicts share, in terms of the trial's own settings."""

from __future__ import annotations

import math
from typing import Any

from analysis.convergence.curves import Trial, number


def lower_lr(trial: Trial) -> str:
    """Return the advice to lower the learning rate, to a third of its value if that is known."""
    lr = number(trial.row.get("lr"))
    return "a lower learning rate" + ("" if math.isnan(lr) else f", lr {lr / 3:.2g} instead of {lr:.2g}")


def stronger_augmentation(trial: Trial) -> list[str]:
    """Return the advice to augment more; empty if the strength is at its maximum already."""
    strength = number(trial.row.get("augmentation_strength"))
    if strength >= 1:
        return []
    return ["stronger augmentation" + ("" if math.isnan(strength) else f" (augmentation_strength {strength:g} now)")]


def more_images(trial: Trial) -> str:
    """Return the advice to train on more images."""
    images = n_images(trial)
    return f"more images than {images:,}" if images else "more images"


def n_images(trial: Trial) -> int:
    """Return the number of training images; 0 if it is unknown."""
    known = (number(trial.row.get(name)) for name in ("n_train", "n_images"))
    return int(next((value for value in known if not math.isnan(value)), 0))


def instead_of(value: Any) -> str:
    """Return ` instead of VALUE`, or nothing if the value is unknown."""
    return "" if math.isnan(number(value)) else f" instead of {format_number(value)}"


def format_number(value: Any) -> str:
    """Return a number of a frame as text, or `unknown`."""
    return "unknown" if math.isnan(number(value)) else f"{number(value):g}"
