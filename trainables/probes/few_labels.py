"""Probing and fine-tuning an encoder on few labeled images.

Fine-tuning an untrained encoder is supervised training from scratch, so that baseline needs no separate code.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augmentation import Augmentation
from trainables.data.table import ImageTable, as_tensor
from trainables.devices import CUDA, placed
from trainables.distributed import CrossWorkerBatchNorm
from trainables.encoders import Encoder
from trainables.probes.accuracy import Accuracy, selection_measure, top_accuracy
from trainables.probes.features import labeled_features
from trainables.probes.linear import LinearProbe, fit_linear_probe
from trainables.rng import generator, global_seed, stream_seed
from trainables.training.batches import batches
from trainables.training.optimizers import build_optimizer, lr_at
from trainables.trial import TrialConfig

AUGMENTATION = {"flip": 1.0, "translate": 0.5}  # as in most supervised recipes for small images
BATCH_SIZE, LR, WEIGHT_DECAY = 64, 1e-3, 1e-4  # with AdamW, for both encoder and head
N_VALIDATIONS = 10  # evenly spaced over the steps, in addition to the one before the first step


class Classifier(nn.Module):
    """A copy of an encoder with a linear head: float images [N, C, S, S] in [0, 1] to scores [N, K].

    The head starts as a linear probe on the encoder's features. A random head would distort what the encoder has
    learned before the head itself has learned anything (Kumar 2022, 2202.10054).
    """

    def __init__(self, encoder: Encoder, probe: LinearProbe) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        for module in self.encoder.modules():
            if isinstance(module, CrossWorkerBatchNorm):
                module.shared = False  # one worker runs alone
        weight, bias = probe.folded()
        self.head = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return scores [N, K]."""
        return self.head(self.encoder(images))


def labeled_subset(table: ImageTable, per_class: int | None, seed: int) -> ImageTable:
    """Return `per_class` images of each class of a labeled table, or the whole table for None.

    A class with fewer images contributes all of them. Subsets of one seed are nested: the 10 images of a class are the
    first 10 of its 100.

    Args:
        table: Table with labels.
        per_class: Images per class; None for all.
        seed: Seed of the choice.
    """
    if per_class is None:
        return table
    assert table.labels is not None
    order = np.random.default_rng(stream_seed(seed, "labels")).permutation(len(table))
    labels = table.labels[order]
    chosen = [order[labels == label][:per_class] for label in range(table.n_classes)]
    # Shuffled, since the rows of every training table are in random order.
    return table.take(np.random.default_rng(stream_seed(seed, "labels", 1)).permutation(np.concatenate(chosen)))


def fine_tune(
    trial: TrialConfig, model: Classifier, train: ImageTable, validation: ImageTable, device: torch.device
) -> int:
    """Train a classifier on labeled images and leave it at its best validation accuracy.

    With imbalanced classes this is the balanced accuracy (see `selection_measure`). The classifier is also validated
    before the first step, so its validation accuracy never gets worse. If the loss becomes non-finite, the earlier
    weights are kept. Order, augmentation and dropout are drawn from the trial's seed.

    Args:
        trial: Configuration; `fine_tune_steps` and `seed` are used.
        model: Classifier to train in place.
        train: Labeled images to train on.
        validation: Labeled images to choose the step by.
        device: Device of the model.

    Returns:
        The step of the best validation accuracy. If it is the last step, more steps would probably have helped.
    """
    recipe = trial.replace(
        optimizer="adamw",
        lr=LR,
        weight_decay=WEIGHT_DECAY,
        warmup_fraction=0.1,
        batch_size=min(BATCH_SIZE, len(train)),
        budget_steps=trial.fine_tune_steps,
    )
    optimizer = build_optimizer(model, recipe)
    augmentation = Augmentation(AUGMENTATION)
    assert train.labels is not None
    images, labels = placed(as_tensor(train.images), device), as_tensor(train.labels).to(device)
    validation_steps = {math.ceil(recipe.budget_steps * i / N_VALIDATIONS) for i in range(1, N_VALIDATIONS + 1)}
    assert validation.labels is not None
    measure = selection_measure(as_tensor(validation.labels), validation.n_classes)
    best, best_step = getattr(classification_accuracy(model, validation, device), measure), 0
    weights = copy.deepcopy(model.state_dict())
    model.train()
    for step, rows in enumerate(batches(recipe, len(train), first=0), start=1):
        batch = torch.from_numpy(rows).to(device, non_blocking=True)
        views = augmentation(images[batch], generator(device, trial.seed, "fine-tuning", step))
        for group in optimizer.param_groups:
            group["lr"] = lr_at(recipe, step - 1)
        with (
            global_seed(trial.seed, "fine-tuning layers", step, device=device),
            torch.autocast(device.type, torch.bfloat16, enabled=device.type == CUDA),
        ):
            loss = F.cross_entropy(model(views), labels[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step in validation_steps:
            found = getattr(classification_accuracy(model, validation, device), measure)
            if found > best:  # false for NaN
                best, best_step, weights = found, step, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return best_step


def frozen_probe(
    encoder: Encoder | None, train: ImageTable, validation: ImageTable, device: torch.device
) -> LinearProbe | None:
    """Fit a linear probe on an encoder's features.

    Args:
        encoder: Encoder to probe; None for raw pixels.
        train: Labeled images to fit on.
        validation: Labeled images to choose the weight decay by.
        device: Device to compute on.

    Returns:
        The probe, or None if the features are not finite.
    """
    features = [labeled_features(encoder, table, device) for table in (train, validation)]
    return fit_linear_probe(*features[0], *features[1], n_classes=train.n_classes)


def classification_accuracy(model: nn.Module, table: ImageTable, device: torch.device) -> Accuracy:
    """Return the accuracy of a classifier in evaluation mode; its own mode is restored."""
    return top_accuracy(*labeled_features(model, table, device))
