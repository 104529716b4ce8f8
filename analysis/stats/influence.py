"""Contribution of each evaluated image to a result, so that the mean over images is the result.

A mean of shares or ratios has no value per image. It is replaced by its linear approximation (the infinitesimal
jackknife, Efron 1982, chapter 6): the deviations of these contributions from their mean have the variance of the result
over new images.
"""

from __future__ import annotations

import numpy as np


def balanced_accuracy_images(correct: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the contributions of N images to a balanced accuracy, float64 [N].

    Args:
        correct: Whether each image is classified correctly, bool [N].
        labels: Class of each image, integers [N].
    """
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    recall = np.bincount(index, weights=correct) / counts
    return recall.mean() + (correct - recall[index]) * len(labels) / (len(classes) * counts[index])


def mean_iou_images(overlaps: np.ndarray) -> np.ndarray:
    """Return the contributions of N images to a mean IoU, float64 [N].

    Args:
        overlaps: Intersection and union of each image and class in pixels, [N, 2, K]; every class occurs.
    """
    intersection, union = np.moveaxis(np.asarray(overlaps, np.float64), 1, 0)
    iou = intersection.sum(axis=0) / union.sum(axis=0)
    return (iou + (intersection - iou * union) / union.mean(axis=0)).mean(axis=-1)
