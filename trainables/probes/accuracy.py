"""Accuracies of class scores: top-1, top-5, balanced, and macro-F1; which of them selects; the largest class."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trainables.devices import in_float64
from trainables.objective import is_imbalanced
from trainables.trial import CLASS_AVERAGES


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of class scores, as shares of samples.

    The averages over classes are those of scikit-learn's `balanced_accuracy_score` and `f1_score(average="macro")`.

    Attributes:
        top1: Share whose class has the highest score.
        top5: Share whose class is among the five highest scores; 1 with five classes or fewer.
        balanced_accuracy: Mean over the classes that the samples have of the share of correct predictions (Brodersen
            2010). A predictor that always gives one class has 1 / number of these classes.
        macro_f1: Mean over classes of the harmonic mean of precision and recall, 0 for a class without a correct
            prediction. Classes that neither the labels nor the predictions have are left out.
        correct: Whether the class with the highest score is the right one, bool [N]; None if that is not known.
    """

    top1: float = math.nan
    top5: float = math.nan
    balanced_accuracy: float = math.nan
    macro_f1: float = math.nan
    correct: Tensor | None = field(default=None, compare=False, repr=False)

    def class_averages(self, name: str) -> dict[str, float]:
        """Return the averages over classes by result name: `NAME_balanced_accuracy`, `NAME_macro_f1`."""
        return {f"{name}_{average}": getattr(self, average) for average in CLASS_AVERAGES}


def top_accuracy(scores: Tensor, labels: Tensor) -> Accuracy:
    """Return the accuracy of scores, float [N, K], on labels, int64 [N]; NaN if any score is not finite."""
    if not torch.isfinite(scores).all():
        return Accuracy()
    n_classes = scores.shape[1]
    best = scores.topk(min(5, n_classes), dim=1).indices
    hits = best == labels[:, None]
    found = (labels, best[:, 0], labels[hits[:, 0]])
    counts = torch.stack([torch.bincount(each, minlength=n_classes) for each in found])
    actual, predicted, correct = in_float64(counts)
    return Accuracy(
        top1=hits[:, 0].float().mean().item(),
        top5=hits.any(dim=1).float().mean().item(),
        balanced_accuracy=(correct / actual).nanmean().item(),
        macro_f1=(2 * correct / (actual + predicted)).nanmean().item(),
        correct=hits[:, 0],
    )


def selection_measure(labels: Tensor, n_classes: int) -> str:
    """Return the name of the field of `Accuracy` that selects the weight decay or the step of a classifier.

    It is balanced accuracy if the classes are imbalanced (see `is_imbalanced`) among the images that select, as for the
    configurations of a study, and top-1 accuracy otherwise.

    Args:
        labels: Labels of the images that select, int64 [N].
        n_classes: Number of classes.
    """
    return "balanced_accuracy" if is_imbalanced(largest_class(labels), n_classes) else "top1"


def largest_class(labels: Tensor | np.ndarray) -> float:
    """Return the share of the most frequent label, int64 [N]: the accuracy of predicting this class for every image."""
    counts = torch.bincount(torch.as_tensor(labels))
    return counts.max().item() / len(labels)
