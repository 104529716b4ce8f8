"""Simulated results of the final probes: random draws for one encoder, and means given its linear accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from trainables.data.table import Splits
from trainables.probes.accuracy import largest_class
from trainables.rng import stream_seed
from trainables.simulated.curves import knn_accuracy, sample_accuracy
from trainables.simulated.outcomes import draw_outcome, draw_shifts, identity
from trainables.simulated.response import probe_accuracy
from trainables.simulated.trajectories import N_CLASSES
from trainables.simulated.truth import TRUTH, Truth
from trainables.trial import CLASS_AVERAGES, RAW_PIXELS, TrialConfig, is_baseline, labels_name

WEIGHT_DECAY = 1e-2  # chosen by every linear probe
BACKGROUND = 0.75  # share of the pixels of every mask
IOU_PER_ACCURACY = 0.4  # IoU of a foreground class, per unit of accuracy above chance
STAGE_SHARES = (0.7, 0.85, 0.95, 1.0)  # result of each stage of an encoder, as a share of the last stage's
HALF_LABELS = 30.0  # labeled images per class with which a probe reaches half of its accuracy with all labels
_NOT_SAMPLED = ("weight_decay", "chance", "largest_class")
FINE_TUNING = 0.3  # share of the errors of a probe with all labels that fine-tuning removes


def probe_results(trial: TrialConfig, dataset: str, splits: Splits, truth: Truth = TRUTH) -> dict[str, float]:
    """Return the results of the final probes on one data set, named as by `trainables.probes.evaluation.evaluate`.

    All probes share the probed images, so their results are correlated.
    """
    assert splits.probe_train is not None
    queries = splits.held_out(trial.probe_split)
    outcome = "" if is_baseline(trial.task) else draw_outcome(trial, truth)
    accuracy = probe_accuracy(trial, outcome, dataset, truth, draw_shifts(trial, truth))
    rng = np.random.default_rng(
        stream_seed(trial.seed, f"simulated/probe/{dataset}/{trial.probe_split}/{identity(trial)}")
    )
    results = mean_results(accuracy, truth) if splits.labeled else {}
    for on_train, size in ((True, len(splits.probe_train)), (False, len(queries))):
        names = [name for name in results if name not in _NOT_SAMPLED and ("train" in name) == on_train]
        sampled = sample_accuracy(np.array([results[name] for name in names]), size, 1.0, rng)
        results |= dict(zip(names, sampled.tolist(), strict=True))
    if splits.labeled:
        assert queries.labels is not None
        results["largest_class"] = largest_class(queries.labels)
        results |= _few_labels(trial, results["linear"])
    if splits.masked:
        sampled = sample_accuracy(np.array([accuracy]), len(queries), 1.0, rng)
        results |= mean_mask_results(float(sampled[0]), queries.mask_names)
    if trial.probe_layers == "all" and trial.task != RAW_PIXELS:
        probes = [probe for probe in ("linear", "miou") if probe in results]
        for stage, share in enumerate(STAGE_SHARES, start=1):
            results |= {f"{probe}/stage{stage}": share * results[probe] for probe in probes}
    results |= {
        f"{name}_{average}": value
        for name, value in results.items()
        if name.startswith(("linear/", "fine_tuned/")) and not name.endswith("_step")
        for average in CLASS_AVERAGES
    }
    return {f"probe/{dataset}/{name}": value for name, value in results.items()}


def mean_results(accuracy: float, truth: Truth) -> dict[str, float]:
    """Return the mean result of each classification probe, given the linear probe's accuracy.

    The classes are balanced and equally difficult, so averages over classes equal the accuracy.
    """
    train, knn = min(1.0, accuracy + truth.train_gap), knn_accuracy(accuracy)
    return {
        "linear": accuracy,
        "linear_top5": _top5(accuracy),
        **{f"linear_{average}": accuracy for average in CLASS_AVERAGES},
        "linear_train": train,
        "linear_train_top5": _top5(train),
        "weight_decay": WEIGHT_DECAY,
        "knn": knn,
        "knn_top5": _top5(knn),
        **{f"knn_{average}": knn for average in CLASS_AVERAGES},
        "chance": 1 / N_CLASSES,
        "largest_class": 1 / N_CLASSES,
    }


def mean_mask_results(accuracy: float, names: Sequence[str]) -> dict[str, float]:
    """Return the mean results of the segmentation probe, given the linear probe's accuracy.

    All foreground classes have the same IoU, which grows with the accuracy from 0 at chance.

    Args:
        accuracy: Accuracy of the linear probe.
        names: Classes of the masks, the background first.
    """
    foreground = IOU_PER_ACCURACY * max(0.0, accuracy - 1 / N_CLASSES) if math.isfinite(accuracy) else math.nan
    background = BACKGROUND + (1 - BACKGROUND) * foreground
    ious = {name: foreground if index else background for index, name in enumerate(names)}
    miou = math.fsum(ious.values()) / len(names)
    return {
        "miou": miou,
        "pixel_accuracy": background,
        "miou_chance": BACKGROUND / len(names),
        "pixel_accuracy_chance": BACKGROUND,
        "miou_train": miou,
        "miou_weight_decay": WEIGHT_DECAY,
        **({} if math.isnan(miou) else {f"iou/{name}": iou for name, iou in ious.items()}),
    }


def _few_labels(trial: TrialConfig, accuracy: float) -> dict[str, float]:
    """Return the results of a probe and of fine-tuning on few labels, given a probe's accuracy with all labels."""
    results = {}
    for per_class in trial.labels_per_class:
        share = 1.0 if per_class is None else per_class / (per_class + HALF_LABELS)
        name, frozen = f"{labels_name(per_class)}_labels", 1 / N_CLASSES + (accuracy - 1 / N_CLASSES) * share
        results[f"linear/{name}"] = frozen
        if trial.task != RAW_PIXELS:
            results[f"fine_tuned/{name}"] = frozen + FINE_TUNING * share**2 * (1 - frozen)
            results[f"fine_tuned/{name}_step"] = float(trial.fine_tune_steps)
    return results


def _top5(top1: float) -> float:
    """Return a top-5 accuracy: 5 / K at a top-1 of 1 / K, and 1 at 1."""
    return 1 - (1 - top1) * (N_CLASSES - 5) / (N_CLASSES - 1)
