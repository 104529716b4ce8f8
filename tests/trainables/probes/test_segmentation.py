"""The segmentation probe on maps whose right answer is known, and its metric against torchmetrics."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassJaccardIndex

from tests.trainables.tiny import with_unreadable_test
from trainables.data.readers.images import read_mask
from trainables.data.table import VOID, ImageTable, Splits
from trainables.encoders import build_encoder
from trainables.errors import DataError
from trainables.probes import segmentation
from trainables.probes.segmentation import (
    SegmentationScores,
    confusion_matrices,
    encoder_maps,
    features_at,
    pixel_maps,
    sample_pixels,
    segmentation_probe,
    segmentation_scores,
)

CPU = torch.device("cpu")
NAMES = ("background", "left", "right", "never")
SIDE = 16


@pytest.fixture(autouse=True)
def few_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "N_PIXELS", 1500)


def scenes(n: int = 30, *, seed: int = 0, void: bool = True) -> ImageTable:
    """Return noise with a square of class 1 or 2 on background, void around it, whose red is the class."""
    stream = np.random.default_rng(seed)
    images = stream.integers(0, 256, (n, 3, SIDE, SIDE), dtype=np.uint8)
    masks = np.zeros((n, SIDE, SIDE), np.uint8)
    for index, (mask, (y, x)) in enumerate(zip(masks, stream.integers(1, 7, (n, 2)), strict=True)):
        mask[y - 1 : y + 9, x - 1 : x + 9] = VOID if void else 0
        mask[y : y + 8, x : x + 8] = 1 + index % 2
    images[:, 0] = np.where(masks == VOID, 0, masks * 100)
    return ImageTable("scenes", images, masks=masks, mask_names=NAMES)


def red(images: Tensor) -> Tensor:
    """Return maps that encode each pixel's class."""
    return F.one_hot((images[:, 0] // 100).long(), 3).movedim(-1, 1).float()


def blind(images: Tensor) -> Tensor:
    """Return maps of what has nothing to do with the class."""
    return images[:, 1:].float()


# --- the metric -----------------------------------------------------------------------------------------------------


def test_iou_is_that_of_torchmetrics_over_the_classes_of_the_truth() -> None:
    stream = torch.Generator().manual_seed(0)
    truth, predicted = (torch.randint(3, (5, 9, 9), generator=stream) for _ in range(2))
    truth[:, :2] = VOID
    found = segmentation_scores(confusion_matrices(predicted, truth, 4).sum(dim=0), NAMES)
    theirs = MulticlassJaccardIndex(num_classes=4, average="none", ignore_index=VOID)(predicted, truth)
    assert list(found.iou) == ["background", "left", "right"]
    assert list(found.iou.values()) == pytest.approx(theirs[:3].tolist())
    assert found.miou == pytest.approx(float(theirs[:3].mean()))
    assert found.pixel_accuracy == pytest.approx(float((predicted == truth)[truth != VOID].float().mean()))


def test_the_metric_by_hand() -> None:
    truth = torch.tensor([[0, 0, 1, 1, VOID, VOID]])
    predicted = torch.tensor([[0, 1, 1, 3, 2, 0]])  # void hides two mistakes; a class that is not there takes one pixel
    found = segmentation_scores(confusion_matrices(predicted, truth, 4).sum(dim=0), NAMES)
    assert found == SegmentationScores(
        miou=(1 / 2 + 1 / 3) / 2, pixel_accuracy=0.5, iou={"background": 1 / 2, "left": 1 / 3}
    )


def test_a_class_that_is_absent_from_the_truth_does_not_lower_the_mean() -> None:
    truth = torch.tensor([0, 0, 2])
    assert segmentation_scores(confusion_matrices(truth[None], truth[None], 4)[0], NAMES).miou == 1


def test_masks_of_nothing_but_void_are_an_error() -> None:
    void = torch.full((3, 3), VOID)
    with pytest.raises(DataError, match="all masks are void"):
        segmentation_scores(confusion_matrices(torch.zeros(3, 3, dtype=torch.int64), void, 4).sum(dim=0), NAMES)
    table = scenes(4)
    assert table.masks is not None
    blank = dataclasses.replace(table, masks=np.full_like(table.masks, VOID))
    with pytest.raises(DataError, match="scenes: all masks are void"):
        segmentation_probe(red, blank, table, device=CPU)


def test_all_images_count_in_one_matrix_whatever_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    split = scenes(20)
    whole = segmentation_probe(blind, split, split, device=CPU)
    monkeypatch.setattr(segmentation, "_BATCH", 3)
    assert segmentation_probe(blind, split, split, device=CPU) == whole


# --- the probe ------------------------------------------------------------------------------------------------------


def test_a_map_that_encodes_the_class_is_segmented_without_a_mistake() -> None:
    found = segmentation_probe(red, scenes(), scenes(seed=1), scenes(seed=2), device=CPU)
    assert found.held_out == SegmentationScores(1.0, 1.0, {"background": 1.0, "left": 1.0, "right": 1.0})
    assert found.train == 1


def test_a_coarse_map_is_upsampled_to_the_masks() -> None:
    coarse = segmentation_probe(lambda images: F.avg_pool2d(red(images), 4), scenes(), scenes(seed=1), device=CPU)
    assert 0.6 < coarse.held_out.miou < 1  # right but for the edges


def test_a_map_that_knows_nothing_scores_chance_however_many_features_it_has() -> None:
    train, test = scenes(void=False), scenes(seed=2, void=False)
    found = segmentation_probe(blind, train, scenes(seed=1, void=False), test, device=CPU)
    assert test.masks is not None
    background = float((test.masks == 0).mean())
    assert found.chance == SegmentationScores(
        background / 3, background, {"background": background, "left": 0, "right": 0}
    )
    assert found.held_out.miou == pytest.approx(found.chance.miou, abs=0.03)


def test_shuffled_masks_are_not_learned() -> None:
    train, validation, test = scenes(void=False), scenes(seed=1, void=False), scenes(seed=2, void=False)
    assert train.masks is not None
    pixels = train.masks.reshape(-1)
    shuffled = np.random.default_rng(0).permutation(pixels).reshape(train.masks.shape)
    found = segmentation_probe(red, dataclasses.replace(train, masks=shuffled), validation, test, device=CPU)
    assert found.held_out.miou == pytest.approx(found.chance.miou, abs=0.05)


def test_an_untrained_encoder_segments_worse_than_a_map_of_the_classes() -> None:
    encoder = build_encoder("conv4", width=4).eval()
    found = segmentation_probe(encoder_maps(encoder), scenes(), scenes(seed=1), device=CPU)
    assert found.held_out.miou < 0.9


def test_void_is_neither_learned_nor_scored() -> None:
    train, validation = scenes(), scenes(seed=1)

    def painted(table: ImageTable) -> ImageTable:  # void pixels, and they alone, get another look
        assert table.masks is not None
        images = table.images.copy()
        images[:, 0][table.masks == VOID] = 200
        return dataclasses.replace(table, images=images)

    plain = segmentation_probe(red, train, validation, device=CPU)
    assert plain.held_out.miou == 1  # void looks like background in one, like the class `right` in the other
    assert segmentation_probe(red, painted(train), painted(validation), device=CPU) == plain


def test_the_test_split_is_read_only_where_it_is_given() -> None:
    train, validation = scenes(), scenes(seed=1)
    guarded = with_unreadable_test(Splits(train, validation, train, validation, scenes(seed=2)))
    segmentation_probe(red, train, validation, device=CPU)
    with pytest.raises(AssertionError, match="of the test split was read"):
        segmentation_probe(red, train, validation, guarded.test, device=CPU)


def test_the_test_split_has_no_say_in_the_weight_decay() -> None:
    train, validation, test = scenes(), scenes(seed=1), scenes(seed=2)
    assert test.masks is not None
    wrong = dataclasses.replace(test, masks=np.where(test.masks == VOID, VOID, 2 - test.masks % 3).astype(np.uint8))
    alone, honest, misled = (
        segmentation_probe(blind, train, validation, held_out, device=CPU) for held_out in (None, test, wrong)
    )
    assert alone.weight_decay == honest.weight_decay == misled.weight_decay
    assert alone.train == honest.train == misled.train
    assert honest.held_out != misled.held_out


def test_features_that_are_not_finite_give_nan_beside_the_chance_level() -> None:
    found = segmentation_probe(lambda images: red(images) / 0, scenes(), scenes(seed=1), device=CPU)
    assert math.isnan(found.held_out.miou)
    assert math.isnan(found.weight_decay)
    assert 0 < found.chance.miou < 1


def test_the_probe_draws_no_random_numbers_of_its_own() -> None:
    torch.manual_seed(0)
    first = segmentation_probe(blind, scenes(), scenes(seed=1), device=CPU)
    torch.manual_seed(1)
    assert segmentation_probe(blind, scenes(), scenes(seed=1), device=CPU) == first


# --- pixels and features --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cells", "side"), [(4, 32), (5, 16), (16, 16), (1, 8), (3, 7)])
def test_features_at_pixels_are_those_of_the_upsampled_map(cells: int, side: int) -> None:
    maps = torch.randn(3, 6, cells, cells, generator=torch.Generator().manual_seed(0))
    whole = F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)
    images = torch.arange(3).repeat_interleave(side * side)
    positions = torch.arange(side * side).repeat(3)
    expected = whole.flatten(2).movedim(1, -1).reshape(-1, 6)
    torch.testing.assert_close(features_at(maps, images, positions, side), expected)


def test_pixels_are_sampled_evenly_over_images_and_never_void() -> None:
    masks = scenes().masks
    assert masks is not None
    images, positions = sample_pixels(masks, 300)
    assert np.bincount(images, minlength=len(masks)).tolist() == [10] * len(masks)
    assert (masks.reshape(len(masks), -1)[images, positions] != VOID).all()
    assert len(np.unique(images * masks[0].size + positions)) == 300
    masks[0] = VOID
    assert 0 not in sample_pixels(masks, 300)[0]
    every, _ = sample_pixels(masks[1:], 10**9)
    assert len(every) == (masks[1:] != VOID).sum()


def test_a_pixel_by_itself_knows_its_color_and_its_place() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    maps = pixel_maps(images)
    assert maps.shape == (2, 8, 4, 4)
    torch.testing.assert_close(maps[:, :3], images / 255)
    assert maps[0, 3:5, 0, 3].tolist() == [0.75, -0.75]  # x to the right, y down
    assert maps[1, 5:, 2, 3].tolist() == [0.75**2, 0.75 * 0.25, 0.25**2]


def test_masks_are_resized_without_making_classes_up(tmp_path: Path) -> None:
    stream = np.random.default_rng(0)
    classes = stream.choice(np.array([0, 5, 20, VOID], np.uint8), (50, 70))
    Image.fromarray(classes).save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", (70, 50), 16, 21)
    assert set(np.unique(mask)) <= {0, 5, 20, VOID}  # interpolation would make others of them
