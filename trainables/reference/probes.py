"""Probes of frozen features as the sources of the recipes describe them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.data.table import Splits
from trainables.encoders import Encoder, calibration_images, recalibrated
from trainables.probes.features import labeled_features
from trainables.probes.knn import knn_probe
from trainables.probes.linear import linear_probe
from trainables.reference.recipes import ADAM_PROBE, LINEAR_PROBE
from trainables.rng import generator, global_seed

EPOCHS, BATCH, LR = 100, 128, 1e-3


def probe_accuracy(probe: str, encoder: Encoder, splits: Splits, seed: int, device: torch.device) -> float:
    """Return the accuracy of a probe on the test images.

    Args:
        probe: ADAM_PROBE, the probe of Patacchiola and Storkey: a linear layer trained by Adam on features in
            evaluation mode, without weight decay and without standardization; LINEAR_PROBE or KNN_PROBE, those of
            studies.
        encoder: Trained encoder.
        splits: Data set.
        seed: Seed of the linear layer and of the order of the images.
        device: Device to compute on.
    """
    assert splits.probe_train is not None
    assert splits.probe_validation is not None
    encoder = encoder.to(device).eval()
    if probe != ADAM_PROBE:
        encoder = recalibrated(encoder, calibration_images(splits, device))
    train, validation, test = (
        labeled_features(encoder, table, device) for table in (splits.probe_train, splits.probe_validation, splits.test)
    )
    n_classes = splits.probe_train.n_classes
    if probe == ADAM_PROBE:
        features, labels = (torch.cat(both) for both in zip(train, validation, strict=True))
        return _accuracy(adam_probe(features, labels, n_classes, seed), *test)
    if probe == LINEAR_PROBE:
        found = linear_probe(*train, *validation, *test, n_classes=n_classes).test
        assert found is not None
        return found.top1
    return knn_probe(*train, *test, n_classes=n_classes).accuracy.top1


def adam_probe(features: Tensor, labels: Tensor, n_classes: int, seed: int, epochs: int = EPOCHS) -> nn.Linear:
    """Train a linear classifier by Adam at a constant learning rate of 1e-3, in batches of 128.

    Args:
        features: float32 [N, D].
        labels: int64 [N].
        n_classes: Number of classes.
        seed: Seed of the initialization and of the order.
        epochs: Passes over all features.
    """
    with global_seed(seed, "probe"):
        classifier = nn.Linear(features.shape[1], n_classes).to(features.device)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=LR)
    with torch.enable_grad():
        for epoch in range(epochs):
            order = torch.randperm(len(features), generator=generator("cpu", seed, "probe order", epoch))
            for rows in order.to(features.device).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(classifier(features[rows]), labels[rows]).backward()
                optimizer.step()
    return classifier


@torch.no_grad()
def _accuracy(classifier: nn.Linear, features: Tensor, labels: Tensor) -> float:
    return float((classifier(features).argmax(dim=1) == labels).float().mean())
