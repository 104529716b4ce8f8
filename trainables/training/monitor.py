"""Measurements between training steps: validation metrics, health of the features, online probes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from trainables.augmentation import SIMCLR_CIFAR10_VIEWS, Augmentation
from trainables.data.table import ImageTable, Splits, as_tensor
from trainables.devices import placed
from trainables.encoders import Encoder, calibration_images, recalibrated
from trainables.probes.accuracy import largest_class
from trainables.probes.features import extract_features
from trainables.probes.health import health_metrics
from trainables.probes.knn import knn_probe
from trainables.probes.linear import linear_probe
from trainables.probes.newton import NewtonPath
from trainables.rng import generator, global_seed
from trainables.tasks import PretextTask, by_split
from trainables.training.shortcuts import shortcut_metrics
from trainables.training.validation import History, Validation, sample_sizes
from trainables.trial import ONLINE_PROBES, TrialConfig

HEALTH_IMAGES = 256  # at most, whatever the budget pays for: RankMe is larger on more images
ALIGNMENT_VIEWS = SIMCLR_CIFAR10_VIEWS  # views for `health/alignment`, the same for all tasks
PROBE_TRAIN, PROBE_QUERIES = 2000, 1000  # upper limits of the online probes' images
PROBE_TRAIN_SELDOM = 1000  # the same for trials with `probe_every`, whose reports are to be cheap


class Monitor:
    """Measurements of one task on fixed images with fixed draws, so that only the network changes between reports.

    Args:
        trial: Configuration of the trial.
        task: Task to measure.
        table: Images that the task trains on.
        splits: Data set, with the images to validate and probe on.
        device: Device of the task.
        history: State of the trial's earlier reports, as in its checkpoint, to continue from.

    Attributes:
        facts: Constants of the whole trial: `primary_metric`, `primary_mode`, `chance` level per metric, `n_train`
            images, `n_validation` predictions behind each `val/` metric, `n_validation_images` that they are made
            of, `n_queries` images behind each online probe, share of its `largest_class`, `parameters`.
        history: Per-image validation of the reports so far.
    """

    def __init__(
        self,
        trial: TrialConfig,
        task: PretextTask,
        table: ImageTable,
        splits: Splits,
        device: torch.device,
        history: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.trial, self.task = trial, task
        chosen = sample_sizes(trial, len(table), len(splits.pretext_validation))
        self.validation = Validation(task, table, splits.pretext_validation, chosen, device)
        self.health_images = placed(as_tensor(splits.pretext_validation.images[:HEALTH_IMAGES]), device)
        self.history = History(history)
        self.views = Augmentation(ALIGNMENT_VIEWS)
        n_train = PROBE_TRAIN if trial.probe_every is None else PROBE_TRAIN_SELDOM
        self.probes = OnlineProbes(splits, device, n_train) if splits.labeled else None
        self.calibration = calibration_images(splits, device)
        self.facts = {
            "primary_metric": task.primary_metric,
            "primary_mode": task.primary_mode,
            "chance": self._chance(trial),
            "n_train": len(table),
            "n_validation": chosen.images * self.validation.draws * task.samples_per_image(),
            "n_validation_images": chosen.images,
            "n_queries": 0 if self.probes is None else len(self.probes.queries[0]),
            "largest_class": None if self.probes is None else self.probes.largest_class,
            "parameters": sum(weight.numel() for weight in task.parameters()),
        }

    @torch.no_grad()
    def validate(self, step: int, *, diverged: bool = False) -> dict[str, float]:
        """Return `val/*` with its errors (see `History.add`), and where the trial measures its features, these.

        Features have `health/*` and, with labels, ONLINE_SCORES (see `TrialConfig.measures_features`). At the end of
        the budget of a task that has shortcuts, there are also `shortcut/*` (see `shortcut_metrics`). The task is left
        in training mode.

        Args:
            step: Optimizer steps so far.
            diverged: Whether the loss is not finite, so that this is the trial's last report. Its features are always
                measured: a search must not choose the trial for features that it had before.
        """
        with global_seed(0, "report", device=self.health_images.device):
            metrics = self.history.add(step, self.validation.per_image())
            if step >= self.trial.budget_steps and self.task.has_shortcuts:
                metrics |= shortcut_metrics(self.validation)
            return metrics | self.features() if diverged or self.trial.measures_features(step) else metrics

    @torch.no_grad()
    def features(self) -> dict[str, float]:
        """Return `health/*` and, with labels, ONLINE_SCORES of the encoder as it is."""
        encoder = recalibrated(self.task.encoder, self.calibration)
        images = self.health_images
        draw = generator(images.device, 0, "alignment")
        first, second = (encoder(self.views(images, draw)) for _ in range(2))
        metrics = health_metrics(extract_features(encoder, images, device=images.device), first, second)
        return metrics if self.probes is None else metrics | self.probes.accuracies(encoder)

    def _chance(self, trial: TrialConfig) -> dict[str, float]:
        return by_split(
            self.task.chance(trial.batch_size, training=True),
            self.task.chance(self.validation.batch_size, training=False),
        )


class OnlineProbes:
    """Probes small enough to run at every report, on subsets of probe train and probe validation.

    Configurations are chosen by the linear probe: it sees differences between encoders that kNN, which weights
    all features equally, does not.

    Args:
        splits: Data set with labels.
        device: Device of the encoders.
        n_train: Images of probe train, at most.

    Attributes:
        largest_class: Share of the most frequent class among the queries, the accuracy of always predicting it.
    """

    def __init__(self, splits: Splits, device: torch.device, n_train: int = PROBE_TRAIN) -> None:
        assert splits.probe_train is not None
        assert splits.probe_validation is not None
        self.n_classes = splits.probe_train.n_classes
        self.train = _first(splits.probe_train, n_train, device)
        self.queries = _first(splits.probe_validation, PROBE_QUERIES, device)
        self.largest_class = largest_class(self.queries[1])
        self.path = NewtonPath()

    def accuracies(self, encoder: Encoder) -> dict[str, float]:
        """Return the metrics ONLINE_SCORES: accuracies on the queries and their averages over classes."""
        (train, train_labels), (queries, query_labels) = self.train, self.queries
        train_features = extract_features(encoder, train, device=train.device)
        query_features = extract_features(encoder, queries, device=queries.device)
        features = (train_features, train_labels, query_features, query_labels)
        linear = linear_probe(*features, n_classes=self.n_classes, path=self.path).validation
        knn = knn_probe(*features, n_classes=self.n_classes).accuracy
        found = dict(zip(ONLINE_PROBES, (linear, knn), strict=True))
        scores = {probe: accuracy.top1 for probe, accuracy in found.items()}
        for probe, accuracy in found.items():
            scores |= accuracy.class_averages(probe)
        return scores


def _first(table: ImageTable, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    assert table.labels is not None
    return placed(as_tensor(table.images[:count]), device), as_tensor(table.labels[:count]).to(device)
