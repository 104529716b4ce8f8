"""The declared truth of simulated studies: how large every effect is. `mechanism` says how they work together.

Accuracies are those of a linear probe on all annotated images, in shares of right answers; steps are optimizer steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.simulated.effects import Effect, Levels, LogQuadratic, Peak, Quadratic


@dataclass(frozen=True)
class TaskTruth:
    """What is true of one pretext task.

    gain: probe accuracy above random init; solved: validation progress, from chance to perfect, when all is learned.
    untrained: validation progress at step 0.
    takeoff, pace: steps before anything is learned, and the time constant after that, at the optimal lr or above.
    lr: with AdamW; SGD's optimum is 50 times, LARS's 500 times higher (compare the ranges in `search_spaces`).
    batch_size, weight_decay, options: effects on the probe's accuracy; options that are not named have none.
    ops: effect of each op's magnitude times strength; interactions: c of each two ops, times both magnitudes.
    takeoff_factors: of an option's value on `takeoff`.
    views: of an option's value: how many times less an image is known by heart.
    trap: accuracy gained from which its own metrics are flat while the probe still improves; inf for never.
    """

    gain: float
    solved: float
    takeoff: float
    pace: float
    lr: float
    batch_size: Effect
    weight_decay: Effect
    ops: Mapping[str, Effect]
    interactions: Mapping[tuple[str, str], float]
    options: Mapping[str, Effect] = field(default_factory=dict)
    takeoff_factors: Mapping[str, Mapping[Any, float]] = field(default_factory=dict)
    views: Mapping[str, Mapping[Any, float]] = field(default_factory=dict)
    untrained: float = 0.0
    trap: float = math.inf


@dataclass(frozen=True)
class DatasetTruth:
    """Accuracy of the linear probe on an untrained conv4 of width 16 and on raw pixels; `scale` of all effects."""

    random_init: float
    raw_pixels: float
    scale: float = 1.0


_ROTATION = TaskTruth(
    gain=0.045,
    solved=0.8,
    takeoff=10,
    pace=80,
    lr=2e-3,
    batch_size=LogQuadratic(48, 0.05, limit=0.03),
    weight_decay=LogQuadratic(5e-4, 0.004, limit=0.02),
    ops={
        "crop_resize": Peak(0.015, 0.4),
        "flip": Peak(0.005, 0.8),
        "translate": Peak(0.005, 0.4),
        "color_jitter": Peak(0.010, 0.5),
        "gray": Peak(0.004, 0.3),
        "erase": Peak(-0.008, 1.0),
    },
    interactions={("crop_resize", "color_jitter"): 0.02},
)
_CONTEXT_ENCODER = TaskTruth(
    gain=0.025,
    solved=0.65,
    takeoff=0,
    pace=60,
    lr=2e-3,
    batch_size=LogQuadratic(64, 0.03, limit=0.03),
    weight_decay=LogQuadratic(1e-5, 0.002, limit=0.02),
    ops={
        "crop_resize": Peak(0.010, 0.5),
        "flip": Peak(0.004, 0.8),
        "color_jitter": Peak(-0.006, 1.0),
        "blur": Peak(-0.010, 1.0),
    },
    interactions={},
    options={"mask_ratio": Quadratic(0.4, 0.2), "mask": Levels({"random_blocks": 0.0, "center": -0.008})},
)
_SIMCLR = TaskTruth(
    gain=0.06,
    solved=0.5,
    untrained=0.05,
    takeoff=0,
    pace=120,
    lr=2e-3,
    batch_size=LogQuadratic(256, 0.05, limit=0.03),
    weight_decay=LogQuadratic(1e-4, 0.003, limit=0.02),
    ops={
        "crop_resize": Peak(0.025, 0.8),
        "flip": Peak(0.004, 0.8),
        "color_jitter": Peak(0.015, 0.6),
        "gray": Peak(0.005, 0.3),
        "erase": Peak(-0.005, 1.0),
    },
    interactions={("crop_resize", "color_jitter"): 0.06},
    options={"temperature": LogQuadratic(0.3, 0.05, limit=0.04)},
    trap=0.08,
)
_CONTEXT_PREDICTION = TaskTruth(
    gain=0.06,
    solved=0.4,
    takeoff=60,
    pace=80,
    lr=4e-3,
    batch_size=LogQuadratic(64, 0.04, limit=0.03),
    weight_decay=LogQuadratic(1e-4, 0.003, limit=0.02),
    ops={"crop_resize": Peak(0.008, 0.4), "flip": Peak(0.004, 0.8), "color_jitter": Peak(0.012, 0.6)},
    interactions={("color_jitter", "flip"): -0.01},
    options={
        "jitter": Quadratic(0.2, 0.3),
        "gray": Quadratic(0.8, 0.02),
        "standardize": Levels({True: 0.0, False: 0.006}),
    },
    takeoff_factors={
        "pairs_per_image": {1: 5.0, 8: 1.0, 40: 0.8},
        "head_norm": {"batch_no_affine": 1.0, "batch": 3.0, "none": 1.5},
    },
    views={"pairs_per_image": {1: 1.0, 8: 8.0, 40: 16.0}},
)


_BY_LR, _SOLVED_BY_LR = LogQuadratic(1.0, 0.03), LogQuadratic(1.0, 0.15, limit=0.5)


@dataclass(frozen=True)
class Truth:
    """All that is declared; `TRUTH` is the truth of every study with `--simulate`.

    tasks, datasets: by name; a data set of another name has the truth of `other`.
    optimizers: factor on a task's optimal lr. encoders: effect on accuracy, trained or not; that of conv4 is
        `by_width` for each doubling of its width beyond 16.
    all_images: what `n_images: null` stands for. by_images: accuracy lost is this over sqrt(n_images).
    memory: accuracy lost where all training images are known by heart. memory_passes: passes over the images after
        which half of them are. memory_cure: rate at which the sum of all magnitudes times strength undoes that.
    by_lr: effect of lr over its optimum. From `diverges[0]` times the optimum on trials may diverge, from `diverges[1]`
        times on all do.
    solved_by_lr, solved_by_memory: shares of its validation progress that a trial loses by a wrong lr, and by knowing
        all its training images by heart.
    collapses: weight decay from which features collapse.
    too_big: batch sizes from which a trial may, and from which it must, fail: the machine is too small.
    failure_rate: share of trials that fail for no reason.
    nothing_learned: what a trial at chance adds to the accuracy of random init.
    online: what the online probe has more than the final one, having fewer images to learn from.
    train_gap: what the probe has more on its own training images.
    probe_sd, random_init_sd: standard deviation over seeds of the accuracy of a trained and of an untrained encoder;
        validation_sd: of validation progress. `seed_share` of the variance of the trained is their seed's, and shared
        by all its cells.
    """

    tasks: Mapping[str, TaskTruth] = field(
        default_factory=lambda: {
            "rotation": _ROTATION,
            "context_encoder": _CONTEXT_ENCODER,
            "simclr": _SIMCLR,
            "context_prediction": _CONTEXT_PREDICTION,
        }
    )
    datasets: Mapping[str, DatasetTruth] = field(
        default_factory=lambda: {
            "cifar10": DatasetTruth(0.39, 0.375),
            "fashion_mnist": DatasetTruth(0.80, 0.82, scale=0.5),
            "shapes": DatasetTruth(0.24, 0.18),
        }
    )
    other: DatasetTruth = DatasetTruth(0.35, 0.30)
    optimizers: Mapping[str, float] = field(default_factory=lambda: {"adamw": 1.0, "sgd": 50.0, "lars": 500.0})
    encoders: Mapping[str, float] = field(default_factory=lambda: {"resnet18": 0.02, "resnet50": 0.03})
    by_width: float = 0.01
    all_images: int = 10_000
    by_images: float = 0.3
    memory: float = 0.12
    memory_passes: float = 30.0
    memory_cure: float = 1.2
    by_lr: Effect = _BY_LR
    solved_by_lr: Effect = _SOLVED_BY_LR
    solved_by_memory: float = 0.4
    diverges: tuple[float, float] = (8.0, 32.0)
    collapses: float = 0.3
    too_big: tuple[int, int] = (1024, 4096)
    failure_rate: float = 0.0
    nothing_learned: float = -0.01
    online: float = -0.02
    train_gap: float = 0.08
    probe_sd: float = 0.010
    validation_sd: float = 0.02
    random_init_sd: float = 0.008
    seed_share: float = 0.6

    def dataset(self, name: str) -> DatasetTruth:
        """Return the truth of a data set."""
        return self.datasets.get(name, self.other)


TRUTH = Truth()
