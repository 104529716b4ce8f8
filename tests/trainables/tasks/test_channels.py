"""Tasks on images of other channels and depths: they learn, and see the same batches whatever the type."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.augmentation import Augmentation
from trainables.data.table import ImageTable
from trainables.encoders import ENCODERS, build_encoder
from trainables.errors import DataError
from trainables.rng import generator
from trainables.tasks import TASKS, build_options
from trainables.tasks.self_test import make_task, overfits_one_batch, self_tests

SIDE, N = 32, 128


def scenes(n_channels: int) -> torch.Tensor:
    """Return images of an oriented gradient with a disk whose place differs by channel, uint16 [N, C, S, S]."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    center = rng.uniform(0.25, 0.75, (2, N, n_channels, 1, 1))
    disk = np.hypot(y - center[0], x - center[1]) < rng.uniform(0.1, 0.25, (N, n_channels, 1, 1))
    values = 0.2 + 0.4 * y + 0.3 * disk + rng.normal(0, 0.01, disk.shape)
    return torch.from_numpy((values.clip(0, 1) * 65_535).astype(np.uint16))


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_learns_on_five_channels(name: str) -> None:
    images = scenes(5)
    found = overfits_one_batch(make_task(name, images), images)
    assert found.passed, found


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_passes_its_self_tests_on_five_channels(name: str) -> None:
    for found in self_tests(name, scenes(5)):
        assert found.passed, found


@pytest.mark.parametrize("name", list(TASKS))
def test_a_task_sees_the_same_batch_whatever_the_type_of_the_images(name: str) -> None:
    bytes_ = torch.randint(256, (8, 5, SIDE, SIDE), generator=generator("cpu", 0, "images"))
    batches = []
    for images in (bytes_.byte(), (bytes_ * 257).to(torch.uint16), bytes_ / 255):
        task = make_task(name, images).eval()
        batches.append(task.draw(images, Augmentation({"flip": 1.0, "noise": 0.5}), generator("cpu", 0, "draw")))
    for other in batches[1:]:
        assert torch.allclose(other.inputs, batches[0].inputs, atol=1e-5)
        assert torch.allclose(other.targets.float(), batches[0].targets.float(), atol=1e-5)


@pytest.mark.parametrize("n_channels", [1, 5])
def test_options_that_remove_color_cues_work_per_channel(n_channels: int) -> None:
    kind = TASKS["context_prediction"]
    encoder = build_encoder("conv4", width=4, in_channels=n_channels)
    images = scenes(n_channels)[:8]
    plain, gray, dropped = (
        kind(encoder, build_options(kind, {"standardize": False, "gray": gray, "color_drop": drop}), SIDE).draw(
            images, Augmentation({}), generator("cpu", 0, "draw")
        )
        for gray, drop in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))
    )
    mean = plain.inputs.mean(dim=2, keepdim=True)
    assert torch.allclose(gray.inputs, mean.expand_as(gray.inputs), atol=1e-6)
    kept = (dropped.inputs == plain.inputs).flatten(3).all(dim=3).sum(dim=2)
    assert (kept == 1).all()


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("n_channels", "side"), [(1, 32), (5, 32), (5, 64)])
def test_encoders_take_any_number_of_channels(name: str, n_channels: int, side: int) -> None:
    encoder = build_encoder(name, width=4, image_size=side, in_channels=n_channels).eval()
    assert encoder.in_channels == encoder.up_to(1).in_channels == n_channels
    assert encoder(torch.rand(2, n_channels, side, side)).shape == (2, encoder.feature_dim)


def test_fingerprints_tell_types_apart_and_a_table_refuses_others() -> None:
    images = scenes(5).numpy()[:4]
    tables = [ImageTable("photos", each) for each in (images, (images >> 8).astype(np.uint8), images[:, :3])]
    assert len({table.fingerprint for table in tables}) == 3
    with pytest.raises(DataError, match="uint8, uint16 or float32"):
        ImageTable("photos", images.astype(np.int32))
