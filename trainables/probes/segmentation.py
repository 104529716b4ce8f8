"""Linear segmentation probe: a 1x1 convolution on the frozen feature map, scored by mIoU.

Its logits are upsampled to the image bilinearly (Long 2015, 1411.4038; like the linear probes of Oquab 2023,
2304.07193). Both steps are linear and interpolation weights sum to one, so upsampled logits equal the logits of
upsampled features. Fitting them is the convex problem of the linear probe with pixels as samples, and deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.table import VOID, ImageTable, as_tensor, to_float
from trainables.devices import in_float64, placed
from trainables.encoders import Encoder
from trainables.errors import DataError
from trainables.probes.linear import Standardizer, select_weight_decay

N_PIXELS = 2**14  # sampled from the masks of a split for fitting or validation, evenly over its images
WEIGHT_DECAYS = tuple(10.0**exponent for exponent in range(0, -6, -1))
MAX_ITERATIONS = 50  # per weight decay; each fit starts at the last, and further iterations do not change mIoU
_SAMPLE_SEED = 0x5E6
_BATCH = 64  # images

FeatureMaps = Callable[[Tensor], Tensor]  # images [N, C, S, S] to float feature maps [N, D, H, W], H, W <= S


@dataclass(frozen=True)
class SegmentationScores:
    """Segmentation quality on one split: all its pixels in one confusion matrix, void pixels excluded.

    Attributes:
        miou: Mean of `iou`.
        pixel_accuracy: Share of pixels with the correct class.
        iou: Intersection over union of each class that occurs in the true masks, by name (Everingham 2015).
    """

    miou: float
    pixel_accuracy: float
    iou: dict[str, float]


@dataclass(frozen=True)
class SegmentationResult:
    """Result of the segmentation probe.

    Attributes:
        weight_decay: Weight decay chosen on validation.
        train: mIoU on the sampled pixels that the probe was fitted on.
        held_out: Scores on every pixel of the test split, or of the validation split if no test split was given.
        chance: Scores on the same pixels of predicting the most frequent training class (background) everywhere.
        overlaps: Intersection and union, in pixels, of each held-out image and each class of `held_out.iou`, int64
            [N, 2, K]; None if the features are not finite.
    """

    weight_decay: float
    train: float
    held_out: SegmentationScores
    chance: SegmentationScores
    overlaps: Tensor | None = field(default=None, compare=False, repr=False)


@torch.no_grad()
def segmentation_probe(
    feature_maps: FeatureMaps,
    train: ImageTable,
    validation: ImageTable,
    test: ImageTable | None = None,
    *,
    device: torch.device,
) -> SegmentationResult:
    """Fit a 1x1 convolution from feature maps to mask classes and score it.

    The probe is fitted on N_PIXELS pixels of the training masks, on standardized features interpolated at these pixels.
    Weight decay is chosen by mIoU on as many pixels of the validation masks (see `select_weight_decay`). The held-out
    split is then read once, in full.

    Args:
        feature_maps: Function from images to feature maps; see `encoder_maps` and `pixel_maps`.
        train: Table with masks.
        validation: Table with masks.
        test: Table with masks to score on, or None to score on `validation`.
        device: Device to compute on.

    Returns:
        Scores; NaN if the features are not finite, as after divergence.

    Raises:
        DataError: All masks of a split are void.
    """
    names = train.mask_names
    held_out = validation if test is None else test
    train_x, train_y = _sample_features(feature_maps, train, device)
    validation_x, validation_y = _sample_features(feature_maps, validation, device)
    majority = int(torch.bincount(train_y, minlength=len(names)).argmax())
    chance = _confusion_on(held_out, device, lambda images: torch.full_like(images[:, 0], majority).long(), len(names))
    if not (torch.isfinite(train_x).all() and torch.isfinite(validation_x).all()):
        lost = SegmentationScores(math.nan, math.nan, {})
        return SegmentationResult(math.nan, math.nan, lost, segmentation_scores(chance.sum(dim=0), names))

    standardize = Standardizer(train_x)
    train_z, validation_z = standardize(train_x), standardize(validation_x)

    def sampled_miou(z: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> float:
        confusion = confusion_matrices(F.linear(z, weight, bias).argmax(dim=1)[None], y[None], len(names))[0]
        return segmentation_scores(confusion, names).miou

    weight_decay, weight, bias = select_weight_decay(
        train_z,
        train_y,
        len(names),
        lambda *layer: sampled_miou(validation_z, validation_y, *layer),
        weight_decays=WEIGHT_DECAYS,
        max_iterations=MAX_ITERATIONS,
    )

    def predict(images: Tensor) -> Tensor:
        z = standardize(feature_maps(images).movedim(1, -1))
        logits = F.linear(z, weight, bias).movedim(-1, 1)
        return F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=False).argmax(dim=1)

    confusion = _confusion_on(held_out, device, predict, len(names))
    return SegmentationResult(
        weight_decay=weight_decay,
        train=sampled_miou(train_z, train_y, weight, bias),
        held_out=segmentation_scores(confusion.sum(dim=0), names),
        chance=segmentation_scores(chance.sum(dim=0), names),
        overlaps=_overlaps(confusion),
    )


def encoder_maps(encoder: Encoder) -> FeatureMaps:
    """Return the function that computes the feature maps of the last stage of an encoder in evaluation mode."""
    return lambda images: encoder.stages(to_float(images, torch.channels_last))[-1].float()


def pixel_maps(images: Tensor) -> Tensor:
    """Return the baseline features of each pixel, float [N, C + 5, S, S]: channels, x, y in [-1, 1], x^2, xy and y^2.

    The squares let a linear probe represent the center of the image, where photographers place their subjects.
    """
    side = images.shape[-1]
    centers = (2 * torch.arange(side, device=images.device) + 1) / side - 1
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    position = torch.stack([x, y, x * x, x * y, y * y]).expand(len(images), -1, -1, -1)
    return torch.cat([to_float(images, torch.channels_last), position], dim=1)


def confusion_matrices(predicted: Tensor, truth: Tensor, n_classes: int) -> Tensor:
    """Count classes in each image, true by predicted, as int64 [N, K, K]; pixels where `truth` is VOID are excluded.

    The function replaces torchmetrics, whose import takes seconds in each worker; a test checks that both agree.

    Args:
        predicted: Predicted classes, int64 [N, ...].
        truth: True classes, int64 of the same shape.
        n_classes: Number of classes K.
    """
    counted, n_images = truth != VOID, len(truth)
    first = torch.arange(n_images, device=truth.device).reshape(-1, *[1] * (truth.dim() - 1)) * n_classes**2
    pairs = (first + truth * n_classes + predicted)[counted]
    return torch.bincount(pairs, minlength=n_images * n_classes**2).reshape(n_images, n_classes, n_classes)


def segmentation_scores(confusion: Tensor, names: Sequence[str]) -> SegmentationScores:
    """Return the scores of a confusion matrix [K, K], true by predicted.

    A class that does not occur in the truth has no IoU; predicting it lowers the IoU of the true classes.

    Raises:
        DataError: The matrix is empty.
    """
    matrix = in_float64(confusion)
    correct, truth, predicted = matrix.diagonal(), matrix.sum(dim=1), matrix.sum(dim=0)
    iou = {
        name: float(correct[k] / (truth[k] + predicted[k] - correct[k])) for k, name in enumerate(names) if truth[k] > 0
    }
    if not iou:
        raise DataError("all masks are void, so there is nothing to score")
    return SegmentationScores(sum(iou.values()) / len(iou), float(correct.sum() / matrix.sum()), iou)


def sample_pixels(masks: np.ndarray, n_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose about `n_pixels` pixels of masks [N, S, S] that are not void.

    Every image gives the same number, or all its pixels if it has fewer. Places are random, but the same in every call.

    Returns:
        Index of the image and flat position in it, int64 [M] each.
    """
    rng = np.random.default_rng(_SAMPLE_SEED)
    n_each = min(math.ceil(n_pixels / len(masks)), masks[0].size)
    images, positions = [], []
    for index, mask in enumerate(masks):
        order = rng.permutation(mask.size)
        kept = order[mask.reshape(-1)[order] != VOID][:n_each]
        images.append(np.full(len(kept), index))
        positions.append(kept)
    return np.concatenate(images), np.concatenate(positions)


def features_at(maps: Tensor, images: Tensor, positions: Tensor, side: int) -> Tensor:
    """Return bilinearly interpolated features at single pixels, as `F.interpolate` would give for the whole map.

    Args:
        maps: Feature maps, float [N, D, H, W].
        images: Indices into the maps, int64 [M].
        positions: Flat positions in the upsampled image, int64 [M].
        side: Side of the upsampled image.

    Returns:
        Features, float [M, D].
    """
    height, width = maps.shape[2:]
    features = torch.zeros(len(positions), maps.shape[1], device=maps.device)
    rows = _neighbors(positions // side, side, height)
    columns = _neighbors(positions % side, side, width)
    for y, weight_y in rows:
        for x, weight_x in columns:
            features += maps[images, :, y, x] * (weight_y * weight_x)[:, None]
    return features


def _neighbors(pixels: Tensor, side: int, cells: int) -> list[tuple[Tensor, Tensor]]:
    """Return the two map cells next to each pixel along one axis, and their interpolation weights."""
    place = ((pixels + 0.5) * cells / side - 0.5).clamp(min=0)
    low = place.floor().long()
    weight = place - low
    return [(low, 1 - weight), ((low + 1).clamp(max=cells - 1), weight)]


def _sample_features(feature_maps: FeatureMaps, table: ImageTable, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return features [M, D] and classes int64 [M] of the sampled pixels of a table."""
    assert table.masks is not None
    rows, positions = (torch.from_numpy(part) for part in sample_pixels(table.masks, N_PIXELS))
    if not len(rows):
        raise DataError(f"{table.name}: all masks are void, so there is nothing to learn from")
    features = []
    for first, images, _ in _batches(table, device):
        own = (rows >= first) & (rows < first + len(images))
        places = (rows[own] - first).to(device), positions[own].to(device)
        features.append(features_at(feature_maps(images), *places, table.image_size))
    classes = as_tensor(table.masks).reshape(len(table), -1)[rows, positions]
    return torch.cat(features), classes.long().to(device)


def _confusion_on(
    table: ImageTable, device: torch.device, predict: Callable[[Tensor], Tensor], n_classes: int
) -> Tensor:
    """Return the confusion matrix of each image of a table, [N, K, K]; `predict` gives classes int64 [N, S, S]."""
    batches = _batches(table, device)
    return torch.cat([confusion_matrices(predict(images), masks.long(), n_classes) for _, images, masks in batches])


def _overlaps(confusion: Tensor) -> Tensor:
    """Return intersections and unions, int64 [N, 2, K], of the classes that occur in the truth of any image."""
    truth, intersection = confusion.sum(dim=2), confusion.diagonal(dim1=1, dim2=2)
    union = truth + confusion.sum(dim=1) - intersection
    return torch.stack([intersection, union], dim=1)[:, :, truth.sum(dim=0) > 0]


def _batches(table: ImageTable, device: torch.device) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the first row, images and masks of each batch of a table."""
    assert table.masks is not None
    images, masks = as_tensor(table.images), as_tensor(table.masks)
    for first in range(0, len(table), _BATCH):
        yield first, placed(images[first : first + _BATCH], device), masks[first : first + _BATCH].to(device)
