"""Final evaluation of one encoder: probes on frozen features, refitted on every data set."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.data.table import Splits
from trainables.encoders import Encoder, calibration_images, encoder_of, recalibrated
from trainables.errors import ConfigError
from trainables.per_image import LABELS, Evaluation, pack
from trainables.probes.accuracy import Accuracy, largest_class, top_accuracy
from trainables.probes.features import labeled_features
from trainables.probes.few_labels import (
    Classifier,
    classification_accuracy,
    fine_tune,
    frozen_probe,
    labeled_subset,
)
from trainables.probes.knn import knn_probe
from trainables.probes.linear import linear_probe
from trainables.probes.segmentation import encoder_maps, pixel_maps, segmentation_probe
from trainables.trial import CLASS_AVERAGES, RAW_PIXELS, WEIGHTS, TrialConfig, is_baseline, labels_name

_ENDINGS = ("", *(f"_{average}" for average in CLASS_AVERAGES))


def evaluate(
    trial: TrialConfig, encoder: Encoder | None, datasets: Mapping[str, Splits], device: torch.device
) -> Evaluation:
    """Run all probes that a trial asks for.

    Args:
        trial: Configuration, with the data sets, the split to score on and the optional probes.
        encoder: Encoder to probe, or None for the raw-pixel baseline.
        datasets: Splits by name, at least for `trial.probe_datasets`.
        device: Device to compute on.

    Returns:
        Results named `probe/DATASET/RESULT`. Accuracies are on `trial.probe_split`. `linear`, `knn`, those of few
        labels and `miou` have per-image results.

        - With labels: `linear` and `knn`, top-1 accuracies, and `linear_top5` and `knn_top5`, each with its averages
          over classes `PROBE_balanced_accuracy` and `PROBE_macro_f1`; `linear_train` and `linear_train_top5` on the
          probe's own training images; `weight_decay`, chosen on probe validation; `chance`, 1 / number of classes, and
          `largest_class`, the accuracy of always predicting the most frequent class.
        - With masks: `miou`, `pixel_accuracy` and `iou/CLASS` of the segmentation probe; `miou_chance` and
          `pixel_accuracy_chance` of predicting background everywhere; `miou_train` on the pixels it was fitted on;
          `miou_weight_decay`, chosen on probe validation.
        - With `probe_layers: all`: `linear/stageN` and `miou/stageN` for every stage N from 1, each with its own probe.
        - With `labels_per_class`: `linear/N_labels` and, except for raw pixels, `fine_tuned/N_labels`, where N is a
          number or `all`: top-1 accuracy after learning from N labeled images per class, with model selection
          on all of probe validation. `fine_tuned/N_labels_step` is the fine-tuning step with the best validation
          accuracy. Stages and few labels have the averages over classes, too.

    Raises:
        ConfigError: A data set has neither labels nor masks.
    """
    found = Evaluation()
    for name in trial.probe_datasets:
        found |= _probe(trial, encoder, datasets[name], device).prefixed(f"probe/{name}/")
    return found


def baseline_encoder(
    trial: TrialConfig, image_size: int, n_channels: int = 3, weights: Mapping[str, Tensor] | None = None
) -> Encoder | None:
    """Return the encoder of a baseline trial: an untrained one, one with these weights, or None for raw pixels."""
    if trial.task == RAW_PIXELS:
        return None
    assert is_baseline(trial.task)
    assert (weights is not None) == bool(trial.weights)
    return encoder_of(trial, image_size, n_channels, weights)


def _probe(trial: TrialConfig, encoder: Encoder | None, splits: Splits, device: torch.device) -> Evaluation:
    if not splits.annotated:
        raise ConfigError(f"evaluate.datasets: {splits.name} has neither labels nor masks to probe with")
    if encoder is not None and trial.task.startswith(WEIGHTS):
        encoder = encoder.to(device).eval()  # with the statistics in its file, as others use it
    elif encoder is not None:
        encoder = recalibrated(encoder.to(device), calibration_images(splits, device))
    found = Evaluation()
    if splits.labeled:
        found |= _classification(trial, encoder, splits, device)
        found |= few_label_probes(trial, encoder, splits, device)
    if splits.masked:
        found |= _segmentation(trial, encoder, splits, device)
    if encoder is not None and trial.probe_layers == "all":
        n_stages = len(encoder.widths)
        for stage in range(1, n_stages + 1):
            part, is_last = encoder.up_to(stage), stage == n_stages and encoder.pools_last_stage
            if splits.labeled:
                own = found if is_last else _classification(trial, part, splits, device)
                found.results.update({f"linear/stage{stage}{end}": own.results[f"linear{end}"] for end in _ENDINGS})
            if splits.masked:
                own = found if stage == n_stages else _segmentation(trial, part, splits, device)
                found.results[f"miou/stage{stage}"] = own.results["miou"]
    return found


def _classification(trial: TrialConfig, encoder: Encoder | None, splits: Splits, device: torch.device) -> Evaluation:
    """Return the results of the linear and kNN probes on a data set with labels."""
    assert splits.probe_train is not None
    assert splits.probe_validation is not None

    train, validation = (
        labeled_features(encoder, table, device) for table in (splits.probe_train, splits.probe_validation)
    )
    test = labeled_features(encoder, splits.test, device) if trial.probe_split == "test" else None
    queries = validation if test is None else test
    n_classes = splits.probe_train.n_classes
    linear = linear_probe(*train, *validation, *(test or ()), n_classes=n_classes)
    knn = knn_probe(*train, *queries, n_classes=n_classes)
    held_out = linear.validation if test is None else linear.test
    assert held_out is not None
    of_fit = {
        "linear_train": linear.train.top1,
        "linear_train_top5": linear.train.top5,
        "weight_decay": linear.weight_decay,
    }
    of_images = {"chance": 1 / n_classes, "largest_class": largest_class(queries[1])}
    return (
        _accuracies("linear", held_out, top5=True)
        | Evaluation(of_fit)
        | _accuracies("knn", knn.accuracy, top5=True)
        | Evaluation(of_images, {LABELS: pack(queries[1].cpu().numpy())})
    )


def _accuracies(name: str, found: Accuracy, *, top5: bool = False) -> Evaluation:
    """Return the accuracy of a probe: top-1 with its images, top-5 if asked for, and the averages over classes."""
    results = {name: found.top1} | ({f"{name}_top5": found.top5} if top5 else {}) | found.class_averages(name)
    return Evaluation(results, {} if found.correct is None else {name: pack(found.correct.cpu().numpy())})


def few_label_probes(trial: TrialConfig, encoder: Encoder | None, splits: Splits, device: torch.device) -> Evaluation:
    """Return the results of the linear probe and of fine-tuning for each requested number of labels."""
    assert splits.probe_train is not None
    assert splits.probe_validation is not None
    held_out = splits.held_out(trial.probe_split)
    results = Evaluation()
    for per_class in trial.labels_per_class:
        frozen, tuned = (f"{way}/{labels_name(per_class)}_labels" for way in ("linear", "fine_tuned"))
        train = labeled_subset(splits.probe_train, per_class, trial.seed)
        probe = frozen_probe(encoder, train, splits.probe_validation, device)
        if probe is None:
            results |= _accuracies(frozen, Accuracy()) | _accuracies(tuned, Accuracy())
            continue
        if encoder is None:
            pixels, labels = labeled_features(None, held_out, device)
            results |= _accuracies(frozen, top_accuracy(probe(pixels), labels))
            continue
        model = Classifier(encoder, probe).to(device)
        results |= _accuracies(frozen, classification_accuracy(model, held_out, device))
        step = fine_tune(trial, model, train, splits.probe_validation, device)
        results |= Evaluation({f"{tuned}_step": step})
        results |= _accuracies(tuned, classification_accuracy(model, held_out, device))
    return results


def _segmentation(trial: TrialConfig, encoder: Encoder | None, splits: Splits, device: torch.device) -> Evaluation:
    """Return the results of the segmentation probe on a data set with masks."""
    assert splits.probe_train is not None
    assert splits.probe_validation is not None
    feature_maps = pixel_maps if encoder is None else encoder_maps(encoder)
    test = splits.test if trial.probe_split == "test" else None
    found = segmentation_probe(feature_maps, splits.probe_train, splits.probe_validation, test, device=device)
    results = {
        "miou": found.held_out.miou,
        "pixel_accuracy": found.held_out.pixel_accuracy,
        "miou_chance": found.chance.miou,
        "pixel_accuracy_chance": found.chance.pixel_accuracy,
        "miou_train": found.train,
        "miou_weight_decay": found.weight_decay,
        **{f"iou/{name}": iou for name, iou in found.held_out.iou.items()},
    }
    return Evaluation(results, {} if found.overlaps is None else {"miou": pack(found.overlaps.cpu().numpy())})
