"""The reference recipes: what is trained, which accuracy is expected, and how far from it a result may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainables.augmentation import SIMCLR_CIFAR10_VIEWS
from trainables.devices import CUDA
from trainables.errors import ConfigError, suggestion
from trainables.trial import RANDOM_INIT, TrialConfig

LIGHTLY_TASK = "lightly_simclr"
ADAM_PROBE, LINEAR_PROBE, KNN_PROBE = "adam", "linear", "knn"  # see `trainables.reference.probes`
ALL_IMAGES = 50_000  # training images of CIFAR-10


@dataclass(frozen=True)
class Recipe:
    """A training with an expected accuracy on the test images of CIFAR-10.

    Attributes:
        name: Name on the command line and in the report.
        trial: Configuration; its seed is replaced by each of `seeds`.
        expected: Published accuracy in [0, 1], or the trial that must reach the same accuracy with the same seeds.
        tolerance: Largest difference of the means over the seeds at which the recipe passes, in accuracy.
        source: Where the expected accuracy is from.
        because: Why the tolerance is what it is.
        differs: What is known to differ from the source.
        probe: How the frozen features are probed.
        seeds: Seeds to train with.
        n_images: Fewest training images that the recipe accepts.
        constant_lr: Whether the learning rate stays as it is, instead of following a cosine to 0.
        needs: `cuda` or the name of a Python package without which the recipe does not run; empty for nothing.
    """

    name: str
    trial: TrialConfig
    expected: float | TrialConfig
    tolerance: float
    source: str
    because: str
    differs: str
    probe: str
    seeds: tuple[int, ...]
    n_images: int
    constant_lr: bool = False
    needs: str = ""

    @property
    def trials(self) -> tuple[TrialConfig, ...]:
        """The trials to run with each seed: the recipe's own, and the other library's if there is one."""
        return (self.trial, self.expected) if isinstance(self.expected, TrialConfig) else (self.trial,)


RELATIONAL = "Patacchiola and Storkey 2020 (arXiv:2006.05849), mean of three seeds"
RELATIONAL_DIFFERS = (
    "JPEG copies of the images; 1,000 of them are held out from pre-training; a last batch of an epoch that is not "
    "full is left out"
)


def _relational(task: str, augmentation: dict[str, float], options: dict[str, object] | None = None) -> TrialConfig:
    """Return a trial of the four-layer network of Patacchiola and Storkey: 200 epochs of 391 batches."""
    return TrialConfig(
        "reference",
        task,
        dataset="cifar10",
        encoder="trainables.reference.networks:conv4_pooled",
        width=8,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.0,
        warmup_fraction=0.0,
        batch_size=128,
        augmentation=augmentation,
        options=options or {},
        budget_steps=0 if task == RANDOM_INIT else 78_200,
        report_every=782,
    )


def _small_simclr(task: str) -> TrialConfig:
    return TrialConfig(
        "reference",
        task,
        dataset="cifar10",
        n_images=4000,
        encoder="conv4",
        width=16,
        lr=2e-3,
        batch_size=128,
        augmentation=SIMCLR_CIFAR10_VIEWS,
        budget_steps=300,
        report_every=100,
    )


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        name="conv4-random",
        trial=_relational(RANDOM_INIT, {}),
        expected=0.329,
        tolerance=0.04,
        source=RELATIONAL,
        because="the accuracy of an untrained network depends on the weights that were drawn",
        differs=RELATIONAL_DIFFERS,
        probe=ADAM_PROBE,
        seeds=(0, 1, 2, 3, 4),
        n_images=ALL_IMAGES,
    ),
    Recipe(
        name="conv4-rotation",
        trial=_relational("rotation", {"translate": 0.5, "flip": 1.0}),
        expected=0.567,
        tolerance=0.03,
        source=RELATIONAL,
        because="two means of three seeds each, and the differences below",
        differs=f"{RELATIONAL_DIFFERS}; padding by reflection instead of black",
        probe=ADAM_PROBE,
        seeds=(0, 1, 2),
        n_images=ALL_IMAGES,
        constant_lr=True,
    ),
    Recipe(
        name="conv4-simclr",
        trial=_relational(
            "simclr",
            {"crop_resize": 1.0, "flip": 1.0, "color_jitter": 1.0, "gray": 0.2},
            {"temperature": 0.5, "projection_hidden": 256, "projection_dim": 64},
        ),
        expected=0.604,
        tolerance=0.03,
        source=RELATIONAL,
        because="two means of three seeds each, and the differences below",
        differs=(
            f"{RELATIONAL_DIFFERS}; the loss is the mean of the logarithms, theirs the logarithm of the mean; "
            "ReLU in the head instead of LeakyReLU"
        ),
        probe=ADAM_PROBE,
        seeds=(0, 1, 2),
        n_images=ALL_IMAGES,
        constant_lr=True,
    ),
    Recipe(
        name="lightly",
        trial=_small_simclr("simclr"),
        expected=_small_simclr(LIGHTLY_TASK),
        tolerance=0.01,
        source="lightly's NTXentLoss and SimCLRTransform, trained on the same images from the same weights",
        because="one point is what a study with five seeds can resolve",
        differs="lightly transforms 8-bit images one by one with Pillow; the random numbers are others",
        probe=LINEAR_PROBE,
        seeds=(0, 1, 2, 3, 4),
        n_images=4000,
        needs="lightly",
    ),
    Recipe(
        name="resnet18-simclr",
        trial=TrialConfig(
            "reference",
            "simclr",
            dataset="cifar10",
            encoder="resnet18",
            optimizer="sgd",
            lr=0.24,
            weight_decay=5e-4,
            warmup_fraction=0.0,
            batch_size=512,
            augmentation=SIMCLR_CIFAR10_VIEWS,
            options={"temperature": 0.5, "projection_hidden": 512, "projection_dim": 128},
            budget_steps=19_400,
            report_every=970,
        ),
        expected=0.848,
        tolerance=0.02,
        source="lightly's benchmark of CIFAR-10: kNN with k = 200, ResNet-18, batch 512, 200 epochs",
        because="one seed; the benchmark gives the best epoch, and its earlier versions .828 for the same recipe",
        differs="JPEG copies of the images; 1,000 are held out; bfloat16; no weight decay on biases and BatchNorm",
        probe=KNN_PROBE,
        seeds=(0,),
        n_images=ALL_IMAGES,
        needs=CUDA,
    ),
)


def chosen(names: Sequence[str] | None) -> list[Recipe]:
    """Return the recipes of these names, in the order of RECIPES; None for all.

    Raises:
        ConfigError: A name is not the name of a recipe.
    """
    known = [recipe.name for recipe in RECIPES]
    for name in names or []:
        if name not in known:
            raise ConfigError(f"no reference recipe {name!r}; {suggestion(name, known)}")
    return [recipe for recipe in RECIPES if names is None or recipe.name in names]
