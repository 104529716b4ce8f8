"""The encoders, ops and data sets of this package pass the suites that plug-ins are tested with."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainables.augmentation import OPS, REGISTRY, register_op
from trainables.encoders import ENCODERS, register_encoder
from trainables.rng import sample
from trainables.testing import DatasetConformance, EncoderConformance, OpConformance


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
