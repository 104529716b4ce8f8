"""Encoders as ordinary networks: they take what torchvision's data sets give, as the study read it, and can learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.datasets import ImageFolder

from analysis.records import ENCODERS
from study.export.embed import embed
from study.export.encoders import Reading, load_encoder, write_encoder
from study.export.pretrained import ImageTransform, PretrainedEncoder, load_pretrained
from trainables.data import load_splits
from trainables.data.intensity import Intensity, Window
from trainables.encoders import build_encoder
from trainables.errors import ConfigError, DataError

SIDE = 16


def write(folder: Path, **reading: Any) -> PretrainedEncoder:
    encoder = build_encoder("conv4", width=4, image_size=SIDE, seed=3)
    values = Reading(**reading).to_dict()
    about = {"name": "conv4", "width": 4, "image_size": SIDE, "reading": values, "trial_id": "3f2a"}
    example = np.zeros((1, 3, SIDE, SIDE), np.uint8)
    write_encoder(folder / ENCODERS / "rotation", encoder, about, example)
    return load_pretrained(folder, "rotation")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs of other sizes in two classes: dark and bright."""
    rng = np.random.default_rng(0)
    for label, (low, high) in enumerate([(0, 150), (100, 255)]):
        (tmp_path / "photos" / f"class{label}").mkdir(parents=True)
        for index in range(8):
            pixels = rng.integers(low, high, (20 + index, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / f"class{label}" / f"{index}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_its_features_are_those_of_embed(resize: str, photos: Path, tmp_path: Path):
    encoder = write(tmp_path / "study", resize=resize)
    images = torch.stack([image for image, _ in ImageFolder(str(photos), encoder.transforms())])
    embed(load_encoder(str(tmp_path / "study"), task="rotation"), photos, tmp_path / "f.parquet")
    wanted = pd.read_parquet(tmp_path / "f.parquet").set_index("path").to_numpy()
    with torch.no_grad():
        np.testing.assert_allclose(encoder(images).numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert encoder.feature_dim == wanted.shape[1]
    assert encoder.trial_id == "3f2a"


def test_pil_arrays_and_tensors_of_one_image_are_the_same(tmp_path: Path):
    transform = write(tmp_path).transforms()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    array = pixels.transpose(2, 0, 1)
    one = transform(Image.fromarray(pixels))
    assert (one.shape, one.dtype) == ((3, SIDE, SIDE), torch.float32)
    assert torch.equal(transform(array), one)
    assert torch.equal(transform(torch.from_numpy(array.copy())), one)
    assert torch.equal(transform(torch.from_numpy(array.copy())[None]), one[None])
    gray = transform(Image.fromarray(pixels[..., 0]))
    assert torch.equal(gray[0], gray[2])


def test_images_of_more_bits_are_scaled_as_in_training(tmp_path: Path):
    windows = Intensity((Window(12, (100.0,) * 3, (1100.0,) * 3),))
    transform = write(tmp_path, intensity=windows).transforms()
    stored = np.full((1, SIDE, SIDE), 600, np.uint16)
    stored[0, 0, 0] = 4000
    found = transform(stored)
    assert found[0, 5, 5] == pytest.approx(0.5, abs=1e-4)
    assert found[0, 0, 0] == 1
    assert stored[0, 0, 0] == 4000, "the image itself is not changed"
    for image in (stored.astype(np.float32), Image.fromarray(stored[0].astype(np.int32))):
        with pytest.raises(DataError, match=r"real numbers above 1, .* give uint8 or uint16"):
            transform(image)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, SIDE, SIDE), np.uint8), "images of 2 channels, but the encoder takes 3"),
        (np.zeros((3, SIDE, SIDE), np.int64), "images of type int64"),
        (np.zeros((SIDE, SIDE), np.uint8), r"images of shape \[16, 16\]"),
        (np.full((3, SIDE, SIDE), 300, np.uint16), "more than 8 bits"),
        (np.full((3, SIDE, SIDE), 255, np.float32), "more than 8 bits"),
    ],
)
def test_images_that_it_was_not_trained_on_are_refused(images: np.ndarray, message: str):
    with pytest.raises(DataError, match=message):
        ImageTransform(SIDE, 3, Reading())(images)


def test_a_study_without_the_encoder_says_which_it_has(tmp_path: Path):
    write(tmp_path)
    with pytest.raises(ConfigError, match="has no encoder of 'simclr'; it has those of rotation"):
        load_pretrained(tmp_path, "simclr")


def test_fine_tuning_changes_the_encoder_and_lowers_the_loss(tmp_path: Path):
    encoder = write(tmp_path)
    assert not encoder.training
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    shapes = load_splits("shapes", root=None, image_size=SIDE, max_train=100).probe_train
    assert shapes is not None
    images = encoder.transforms()(shapes.images)
    labels = torch.from_numpy(np.asarray(shapes.labels)).long()
    torch.manual_seed(0)
    model = nn.Sequential(encoder, nn.Linear(encoder.feature_dim, shapes.n_classes)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    changed = [name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])]
    assert len(changed) == len(before), "every weight and statistic has moved"
