"""What dense features are worth: a linear segmentation probe, a 1x1 convolution on the frozen feature map.

Its logits are upsampled to the image bilinearly (Long 2015, 1411.4038; as linear probes of Oquab 2023, 2304.07193).
Both steps are linear and the weights of an interpolation add up to one, so upsampled logits are the logits of upsampled
features: fitting them is the convex problem of the linear probe, with pixels for samples. Like that probe it is
deterministic, with no seed to choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.table import VOID, ImageTable, as_tensor
from trainables.encoders import Encoder, to_float
from trainables.errors import DataError
from trainables.probes.linear import Standardizer, best_of_path

PIXELS = 2**14  # sampled from the masks of a split to fit on or to choose by, evenly over its images
WEIGHT_DECAYS = tuple(10.0**exponent for exponent in range(0, -6, -1))
MAX_ITERATIONS = 50  # a weight decay, each going on from the last: later ones move no mIoU and take most of the time
_SAMPLE_SEED = 0x5E6
_BATCH = 64  # images

Dense = Callable[[Tensor], Tensor]  # uint8 images [N, 3, S, S] -> float feature maps [N, D, H, W], H, W <= S


@dataclass(frozen=True)
class Segmentation:
    """How well the masks of one split are predicted, all its pixels in one confusion matrix; void counts nowhere.

    iou: intersection over union of each class that occurs in the split's truth, by name (Everingham 2015).
    miou: their mean. pixel_accuracy: share of pixels that have their right class.
    """

    miou: float
    pixel_accuracy: float
    iou: dict[str, float]


@dataclass(frozen=True)
class SegmentationResult:
    """What the probe scores, the weight decay chosen on validation, and what a blind guess scores.

    train: mIoU on the sampled pixels that the probe was fitted on.
    judged: on every pixel of the test split, or of the validation split where no test split was given.
    chance: on the same pixels, by the one class that is most frequent in training (background) everywhere.
    """

    weight_decay: float
    train: float
    judged: Segmentation
    chance: Segmentation


def encoder_maps(encoder: Encoder, stage: int = -1) -> Dense:
    """Return the function that gives the feature maps of one stage; `encoder` is in evaluation mode."""
    return lambda images: encoder.stages(to_float(images))[stage].float()


def pixel_maps(images: Tensor) -> Tensor:
    """Return what a pixel knows by itself, float [N, 8, S, S]: its color, its place x, y in [-1, 1], and x^2, xy, y^2.

    The squares let a linear probe know the middle of the image, where photographers put things.
    """
    side = images.shape[-1]
    centers = (2 * torch.arange(side, device=images.device) + 1) / side - 1
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    position = torch.stack([x, y, x * x, x * y, y * y]).expand(len(images), -1, -1, -1)
    return torch.cat([to_float(images), position], dim=1)


@torch.no_grad()
def segmentation_probe(
    dense: Dense, train: ImageTable, validation: ImageTable, test: ImageTable | None = None, *, device: torch.device
) -> SegmentationResult:
    """Fit a 1x1 convolution from feature maps to the classes of the masks, and judge it on `test`, else on validation.

    It is fitted on PIXELS pixels of the training masks, that is on features interpolated there, standardized; weight
    decay is chosen by the mIoU on as many pixels of the validation masks (`best_of_path`). The judged split is then
    read once, whole. Features that are not finite, as of a diverged encoder, give NaN.
    Raises DataError for a split whose masks are all void.
    """
    names = train.mask_names
    judged = validation if test is None else test
    train_x, train_y = _sampled(dense, train, device)
    validation_x, validation_y = _sampled(dense, validation, device)
    majority = int(torch.bincount(train_y, minlength=len(names)).argmax())
    chance = _over_split(judged, device, lambda images: torch.full_like(images[:, 0], majority).long(), len(names))
    if not (torch.isfinite(train_x).all() and torch.isfinite(validation_x).all()):
        return SegmentationResult(math.nan, math.nan, Segmentation(math.nan, math.nan, {}), scores(chance, names))

    scale = Standardizer(train_x)
    train_z, validation_z = scale(train_x), scale(validation_x)

    def on_pixels(z: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> float:
        return scores(confusion_matrix(F.linear(z, weight, bias).argmax(dim=1), y, len(names)), names).miou

    weight_decay, weight, bias = best_of_path(
        train_z,
        train_y,
        len(names),
        lambda *layer: on_pixels(validation_z, validation_y, *layer),
        weight_decays=WEIGHT_DECAYS,
        max_iterations=MAX_ITERATIONS,
    )

    def predict(images: Tensor) -> Tensor:
        z = scale(dense(images).movedim(1, -1))
        logits = F.linear(z, weight, bias).movedim(-1, 1)
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False).argmax(dim=1)

    return SegmentationResult(
        weight_decay=weight_decay,
        train=on_pixels(train_z, train_y, weight, bias),
        judged=scores(_over_split(judged, device, predict, len(names)), names),
        chance=scores(chance, names),
    )


def confusion_matrix(predicted: Tensor, truth: Tensor, n_classes: int) -> Tensor:
    """Return int64 [K, K], truth by prediction, of int64 classes of any shape; where truth is VOID nothing is counted.

    In place of torchmetrics' own, whose import takes each worker seconds; the tests hold it to that.
    """
    counted = truth != VOID
    pairs = truth[counted] * n_classes + predicted[counted]
    return torch.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def scores(confusion: Tensor, names: Sequence[str]) -> Segmentation:
    """Return what a confusion matrix [K, K], truth by prediction, amounts to.

    A class that is nowhere in the truth has no IoU: its prediction counts against the classes that it was taken for.
    """
    matrix = confusion.double()
    right, truth, predicted = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)
    iou = {name: float(right[k] / (truth[k] + predicted[k] - right[k])) for k, name in enumerate(names) if truth[k] > 0}
    if not iou:
        raise DataError("masks of nothing but void have nothing to score")
    return Segmentation(sum(iou.values()) / len(iou), float(right.sum() / matrix.sum()), iou)


def sampled_pixels(masks: np.ndarray, n_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image and flat position, int64 [M] each, of about `n_pixels` pixels of masks [N, S, S], none of them void.

    From every image as many, at random places but the same ones in every call; fewer where an image has fewer.
    """
    rng = np.random.default_rng(_SAMPLE_SEED)
    n_each = min(math.ceil(n_pixels / len(masks)), masks[0].size)
    images, positions = [], []
    for index, mask in enumerate(masks):
        drawn = rng.permutation(mask.size)
        kept = drawn[mask.reshape(-1)[drawn] != VOID][:n_each]
        images.append(np.full(len(kept), index))
        positions.append(kept)
    return np.concatenate(images), np.concatenate(positions)


def features_at(maps: Tensor, images: Tensor, positions: Tensor, side: int) -> Tensor:
    """Return features [M, D] of maps [N, D, H, W], upsampled to `side`, at flat `positions` of `images` (int64 [M])."""
    height, width = maps.shape[2:]
    features = torch.zeros(len(positions), maps.shape[1], device=maps.device)
    rows = _neighbors(positions // side, side, height)
    columns = _neighbors(positions % side, side, width)
    for y, share_y in rows:
        for x, share_x in columns:
            features += maps[images, :, y, x] * (share_y * share_x)[:, None]
    return features


def _neighbors(pixels: Tensor, side: int, cells: int) -> list[tuple[Tensor, Tensor]]:
    """Return the two cells of a map beside each pixel along one axis, and their shares, as `F.interpolate` does."""
    place = ((pixels + 0.5) * cells / side - 0.5).clamp(min=0)
    low = place.floor().long()
    share = place - low
    return [(low, 1 - share), ((low + 1).clamp(max=cells - 1), share)]


def _sampled(dense: Dense, table: ImageTable, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return features [M, D] and classes int64 [M] of the sampled pixels of a table."""
    assert table.masks is not None
    rows, positions = (torch.from_numpy(part) for part in sampled_pixels(table.masks, PIXELS))
    if not len(rows):
        raise DataError(f"{table.name}: masks of nothing but void have nothing to learn from")
    features = []
    for first, images, _ in _batches(table, device):
        own = (rows >= first) & (rows < first + len(images))
        places = (rows[own] - first).to(device), positions[own].to(device)
        features.append(features_at(dense(images), *places, table.image_size))
    classes = as_tensor(table.masks).reshape(len(table), -1)[rows, positions]
    return torch.cat(features), classes.long().to(device)


def _over_split(table: ImageTable, device: torch.device, predict: Dense, n_classes: int) -> Tensor:
    """Return the confusion matrix of all images of a table; `predict` gives classes int64 [N, S, S]."""
    total = torch.zeros(n_classes, n_classes, dtype=torch.int64, device=device)
    for _, images, masks in _batches(table, device):
        total += confusion_matrix(predict(images), masks.long(), n_classes)
    return total


def _batches(table: ImageTable, device: torch.device) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the first row, images and masks of each batch of a table."""
    assert table.masks is not None
    images, masks = as_tensor(table.images), as_tensor(table.masks)
    for first in range(0, len(table), _BATCH):
        yield first, images[first : first + _BATCH].to(device), masks[first : first + _BATCH].to(device)
