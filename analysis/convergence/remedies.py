"""Remedies that several verdicts share, in terms of the trial's own settings."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from analysis.convergence.curves import Trial, number


class Measured(NamedTuple):
    """How often a change gave a better result on real images, by 95% intervals over seeds and unseen images.

    Attributes:
        change: The change that was made, as a noun phrase.
        own: Times that the task's own metric got better, and times that it was compared.
        probe: The same for the linear probe.
    """

    change: str
    own: tuple[int, int]
    probe: tuple[int, int]

    def __str__(self) -> str:
        own, probe = (f"{better} of {compared}" for better, compared in (self.own, self.probe))
        return (
            f"on real images, {self.change} improved the task's own metric in {own} such cases and the probe in {probe}"
        )


# From `tests/benchmarks/cure_rates.py`: the tables of docs/statistics.md. Half the width, a longer warm-up and a third
# of the learning rate improved next to nothing, so they are not among the cures.
FOUR_TIMES_THE_IMAGES = Measured("four times the images", own=(6, 6), probe=(5, 6))
STRENGTH_HALF = Measured("augmentation_strength 0.5 instead of 0", own=(3, 6), probe=(1, 6))
DIFFERENT_VIEWS = Measured("augmentation_strength 0.5 instead of 0", own=(3, 3), probe=(1, 3))  # with SimCLR
A_HUNDREDTH_OF_LR = Measured("a hundredth of the learning rate", own=(3, 6), probe=(3, 6))


def lower_lr(trial: Trial) -> str:
    """Return the advice to lower the learning rate, to a hundredth of its value if that is known."""
    lr = number(trial.row.get("lr"))
    values = "" if math.isnan(lr) else f", lr {lr / 100:.2g} instead of {lr:.2g}"
    return f"a much lower learning rate{values} ({A_HUNDREDTH_OF_LR})"


def less_memorizing(trial: Trial) -> list[str]:
    """Return what helps a trial that memorizes its images, in the order of the measured rates."""
    images, strength = n_images(trial), number(trial.row.get("augmentation_strength"))
    changes = [f"more images{f' than {images:,}' if images else ''} ({FOUR_TIMES_THE_IMAGES})"]
    if not strength >= 1:
        now = "" if math.isnan(strength) else f" than {strength:g}"
        changes.append(f"a higher augmentation_strength{now} ({STRENGTH_HALF})")
    return changes


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
