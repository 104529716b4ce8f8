"""The declared truth of simulated studies: the size of every effect. `response` combines the effects.

Accuracies are shares of correct answers of a linear probe on all annotated images. Steps are optimizer steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.registry import Registry
from trainables.simulated.effects import Effect, EffectByValue, LogQuadratic, Peak, Quadratic


@dataclass(frozen=True)
class TaskTruth:
    """The truth about one pretext task.

    Attributes:
        gain: Probe accuracy above random initialization when everything is learned.
        final_progress: Validation progress, from chance to perfect, when everything is learned.
        takeoff: Steps before anything is learned, at the optimal learning rate or above.
        pace: Time constant of learning after takeoff, in steps.
        lr: Optimal learning rate with AdamW; `Truth.optimizers` has the factors of the other optimizers.
        batch_size: Effect of the batch size on probe accuracy.
        weight_decay: Effect of the weight decay on probe accuracy.
        ops: Effect of each augmentation op as a function of magnitude times strength.
        interactions: Coefficient of the product of two ops' magnitudes times strength.
        options: Effect of each task option; options that are not listed have none.
        takeoff_factors: Factor on `takeoff` for each value of an option.
        views: For each value of an option, the divisor of the passes over an image that count toward memorization.
        untrained: Validation progress at step 0.
        saturating_gain: Accuracy gain from which the task's own metrics are flat while the probe still improves; inf
            for never.
    """

    gain: float
    final_progress: float
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
    saturating_gain: float = math.inf


@dataclass(frozen=True)
class DatasetTruth:
    """The truth about one data set.

    Attributes:
        random_init: Accuracy of the linear probe on an untrained conv4 of width 16.
        raw_pixels: Accuracy of the linear probe on raw pixels.
        scale: Factor on all effects.
    """

    random_init: float
    raw_pixels: float
    scale: float = 1.0


_ROTATION = TaskTruth(
    gain=0.045,
    final_progress=0.8,
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
    final_progress=0.65,
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
    options={"mask_ratio": Quadratic(0.4, 0.2), "mask": EffectByValue({"random_blocks": 0.0, "center": -0.008})},
)
_SIMCLR = TaskTruth(
    gain=0.06,
    final_progress=0.5,
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
    saturating_gain=0.08,
)
_CONTEXT_PREDICTION = TaskTruth(
    gain=0.06,
    final_progress=0.4,
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
        "standardize": EffectByValue({True: 0.0, False: 0.006}),
    },
    takeoff_factors={
        "pairs_per_image": {1: 5.0, 8: 1.0, 40: 0.8},
        "head_norm": {"batch_no_affine": 1.0, "batch": 3.0, "none": 1.5},
    },
    views={"pairs_per_image": {1: 1.0, 8: 8.0, 40: 16.0}},
)
_LR_EFFECT = LogQuadratic(1.0, 0.03)
_PROGRESS_LR_EFFECT = LogQuadratic(1.0, 0.15, limit=0.5)


TASK_TRUTHS: Registry[TaskTruth] = Registry(
    "simulated truth",
    {
        "rotation": _ROTATION,
        "context_encoder": _CONTEXT_ENCODER,
        "simclr": _SIMCLR,
        "context_prediction": _CONTEXT_PREDICTION,
    },
)
OTHER_TASK = TaskTruth(  # A plugged-in task that declares no truth has this one, by which some cropping helps
    gain=0.04,
    final_progress=0.6,
    takeoff=10,
    pace=80,
    lr=2e-3,
    batch_size=LogQuadratic(64, 0.03, limit=0.03),
    weight_decay=LogQuadratic(1e-4, 0.003, limit=0.02),
    ops={"crop_resize": Peak(0.010, 0.5), "flip": Peak(0.004, 0.8), "color_jitter": Peak(0.008, 0.5)},
    interactions={},
)


@dataclass(frozen=True)
class Truth:
    """The complete declared truth; `TRUTH` applies to every study with `--simulate`.

    Attributes:
        tasks: Truth about each pretext task.
        other_task: Truth about every task that is not in `tasks`, as of a plug-in that declares none.
        datasets: Truth about each data set.
        other_dataset: Truth about every data set that is not in `datasets`.
        optimizers: Factor on a task's optimal learning rate (compare the ranges in `search_spaces`).
        encoders: Effect of the encoder on accuracy, trained or not; conv4 has `width_effect` instead, encoders
            that are not listed have none.
        width_effect: Effect on accuracy of each doubling of conv4's width beyond 16.
        all_images: Number of images for `n_images: null`.
        data_penalty: Coefficient c of the accuracy lost to limited data, c / sqrt(n_images).
        memorization_penalty: Accuracy lost when all training images are memorized.
        memorization_passes: Passes over the images after which half of them are memorized.
        memorization_cure: Rate at which the sum of all magnitudes times strength undoes memorization.
        lr_effect: Effect on probe accuracy, as a function of the learning rate over its optimum.
        progress_lr_effect: Relative effect on validation progress, as a function of the same ratio.
        progress_memorization_penalty: Share of the validation progress lost when all training images are memorized.
        diverging_lr: Learning rates over the optimum above which a trial may diverge, and from which it always does.
        collapsing_weight_decay: Weight decay from which features collapse.
        failing_batch_size: Batch sizes above which a trial may run out of memory and fail, and from which it always
            does.
        failure_rate: Share of trials that fail at random.
        at_chance_effect: Accuracy that a trial at chance adds to random initialization.
        online_probe_effect: Accuracy of the online probe relative to the final one, which has more images.
        train_gap: Accuracy of the probe on its own training images relative to other images.
        probe_sd: Standard deviation over seeds of a trained encoder's accuracy.
        validation_sd: Standard deviation over seeds of the validation progress.
        weights_gain: Accuracy that pretrained weights add, on a data set of scale 1.
        random_init_sd: Standard deviation over seeds of an untrained encoder's accuracy.
        seed_share: Share of the variance of a trained encoder that all cells of a seed have in common.
    """

    tasks: Mapping[str, TaskTruth] = field(default_factory=lambda: TASK_TRUTHS)
    other_task: TaskTruth = OTHER_TASK
    datasets: Mapping[str, DatasetTruth] = field(
        default_factory=lambda: {
            "cifar10": DatasetTruth(0.39, 0.375),
            "fashion_mnist": DatasetTruth(0.80, 0.82, scale=0.5),
            "shapes": DatasetTruth(0.24, 0.18),
        }
    )
    other_dataset: DatasetTruth = DatasetTruth(0.35, 0.30)
    optimizers: Mapping[str, float] = field(default_factory=lambda: {"adamw": 1.0, "sgd": 50.0, "lars": 500.0})
    encoders: Mapping[str, float] = field(default_factory=lambda: {"resnet18": 0.02, "resnet50": 0.03})
    width_effect: float = 0.01
    all_images: int = 10_000
    data_penalty: float = 0.3
    memorization_penalty: float = 0.12
    memorization_passes: float = 30.0
    memorization_cure: float = 1.2
    lr_effect: Effect = _LR_EFFECT
    progress_lr_effect: Effect = _PROGRESS_LR_EFFECT
    progress_memorization_penalty: float = 0.4
    diverging_lr: tuple[float, float] = (8.0, 32.0)
    collapsing_weight_decay: float = 0.3
    failing_batch_size: tuple[int, int] = (1024, 4096)
    failure_rate: float = 0.0
    at_chance_effect: float = -0.01
    online_probe_effect: float = -0.02
    train_gap: float = 0.08
    probe_sd: float = 0.010
    validation_sd: float = 0.02
    weights_gain: float = 0.25
    random_init_sd: float = 0.008
    seed_share: float = 0.6

    def task(self, name: str) -> TaskTruth:
        """Return the truth about a task."""
        return self.tasks.get(name, self.other_task)

    def dataset(self, name: str) -> DatasetTruth:
        """Return the truth about a data set."""
        return self.datasets.get(name, self.other_dataset)


TRUTH = Truth()
