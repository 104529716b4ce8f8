"""The encoders, ops and data sets of this package pass the suites of plug-ins, which judge as the contract says."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from trainables.augmentation import OPS, REGISTRY, register_op
from trainables.encoders import ENCODERS, register_encoder
from trainables.options import in_range, one_of
from trainables.rng import sample
from trainables.tasks import TASKS, Batch, Output
from trainables.tasks.rotation import ROTATIONS, Rotation
from trainables.testing import DatasetConformance, EncoderConformance, OpConformance, TaskConformance


@pytest.mark.parametrize("name", [name for name in ENCODERS.built_in if name != "resnet50"])
class TestEveryEncoder(EncoderConformance):
    """Those of this package but the largest, which has the code of `resnet18`."""


@pytest.mark.parametrize("name", OPS)
class TestEveryOp(OpConformance):
    """Those of this package."""


@pytest.mark.parametrize("name", ["shapes"])
class TestShapes(DatasetConformance):
    """The data set that needs no files."""


def bad_op(kind: str):
    """Return an op with one mistake."""

    def batch_mean(images: Tensor, magnitude: float, draws) -> Tensor:
        return images.lerp(images.mean(dim=0, keepdim=True), magnitude)

    def global_noise(images: Tensor, magnitude: float, draws) -> Tensor:
        return (images + magnitude * torch.rand_like(images)).clamp(0, 1)

    def out_of_range(images: Tensor, magnitude: float, draws) -> Tensor:
        return images + magnitude

    return {"mixes": batch_mean, "global": global_noise, "range": out_of_range}[kind]


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        ("mixes", "test_treats_each_image_by_itself_whatever_the_chunks"),
        ("global", "test_draws_by_its_generator_alone"),
        ("range", "test_gives_views_of_the_same_form"),
    ],
)
def test_the_suite_of_ops_fails_for_a_wrong_op(kind: str, test: str, monkeypatch: pytest.MonkeyPatch) -> None:
    register_op("wrong")(bad_op(kind))
    try:
        arguments = (monkeypatch,) if "chunks" in test else ()
        with pytest.raises(AssertionError):
            getattr(OpConformance(), test)("wrong", *arguments)
    finally:
        REGISTRY.remove("wrong")


class Unseeded(nn.Module):
    """An encoder whose weights come from a generator of its own, and whose images affect each other."""

    feature_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(sample(torch.rand, torch.Generator().manual_seed(int(torch.seed() % 1000)), 3))

    def forward(self, images: Tensor) -> Tensor:
        return (images - images.mean(dim=0)).mean(dim=(2, 3)) * self.weight


@pytest.mark.parametrize(
    "test",
    ["test_is_initialized_by_its_seed_alone", "test_treats_the_images_of_a_batch_separately_in_evaluation"],
)
def test_the_suite_of_encoders_fails_for_a_wrong_encoder(test: str) -> None:
    register_encoder("unseeded")(Unseeded)
    try:
        with pytest.raises(AssertionError):
            getattr(EncoderConformance(), test)("unseeded")
    finally:
        ENCODERS.remove("unseeded")


@dataclass(frozen=True)
class LegalOptions:
    """Options of every legal form: with a range, with None among the choices, and without limits."""

    head_hidden: int = in_range(0, 0, 8192)
    place: str | None = one_of(None, None, "center")
    note: str = "none"


class OneValuePerImage(Rotation):
    """Rotation prediction whose metrics have one value per image instead of one per prediction."""

    name = "one_value_per_image"
    Options = LegalOptions

    def forward(self, batch: Batch) -> Output:
        objective, metrics = super().forward(batch)
        n_images = len(batch.targets) // ROTATIONS
        return Output(objective, {name: self.by_image(samples, n_images) for name, samples in metrics.items()})


@pytest.mark.parametrize(
    "test",
    [
        "test_gives_as_many_values_of_every_metric_as_it_states",
        "test_asks_the_same_of_all_trials_in_validation",
        "test_trains_at_both_ends_of_every_option_or_says_why_not",
        "test_refuses_what_an_option_does_not_allow",
        "test_allows_the_ends_of_every_option",
        "test_names_its_options_where_one_is_unknown",
    ],
)
def test_the_suite_of_tasks_passes_for_options_and_metrics_of_every_legal_form(test: str) -> None:
    TASKS.add(OneValuePerImage.name, OneValuePerImage, __name__)
    try:
        getattr(TaskConformance(), test)(OneValuePerImage.name)
    finally:
        TASKS.remove(OneValuePerImage.name)
