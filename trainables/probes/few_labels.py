"""What an encoder is worth to who has labeled few images: a probe on frozen features, and fine-tuning.

Fine-tuning an encoder that was never trained is supervised training from scratch, so that the baseline of the two needs
no code of its own.
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
from trainables.encoders import Encoder
from trainables.probes.accuracy import Accuracy, top_accuracy
from trainables.probes.features import labeled_features
from trainables.probes.linear import LinearProbe, fit_linear_probe
from trainables.rng import generator, stream_seed
from trainables.training.loop import batches
from trainables.training.optimizers import build_optimizer, lr_at
from trainables.trial import TrialConfig

AUGMENTATION = {"flip": 1.0, "translate": 0.5}  # what supervised recipes for small images agree on
BATCH_SIZE, LR, WEIGHT_DECAY = 64, 1e-3, 1e-4  # of AdamW, for encoder and head alike
LOOKS = 10  # at validation, evenly spaced over the steps, beside the one before the first


class Classifier(nn.Module):
    """A copy of an encoder with a linear head: float images [N, 3, S, S] in [0, 1] to scores [N, K].

    The head is a probe on the encoder's features, so that the scores are at first that probe's: a random head would
    spoil what the encoder has learned before it has learned anything itself (Kumar 2022, 2202.10054).
    """

    def __init__(self, encoder: Encoder, probe: LinearProbe) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        weight, bias = probe.folded()
        self.head = nn.Linear(weight.shape[1], weight.shape[0], device=weight.device)
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)
        for module in self.encoder.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 0.1  # the average over all batches that a probe takes would keep those of before

    def forward(self, images: Tensor) -> Tensor:
        """Return scores [N, K]."""
        return self.head(self.encoder(images))


def labeled_subset(table: ImageTable, per_class: int | None, seed: int) -> ImageTable:
    """Return `per_class` images of each class of a labeled table, all of it for None.

    Subsets of one seed are nested: the 10 images of a class are the first 10 of its 100. A class that has fewer gives
    all it has.
    """
    if per_class is None:
        return table
    assert table.labels is not None
    order = np.random.default_rng(stream_seed(seed, "labels")).permutation(len(table))
    labels = table.labels[order]
    first = [order[labels == each][:per_class] for each in range(table.n_classes)]
    # Mixed, as the rows of every table are.
    return table.take(np.random.default_rng(stream_seed(seed, "labels", 1)).permutation(np.concatenate(first)))


def fine_tune(
    trial: TrialConfig, model: Classifier, train: ImageTable, validation: ImageTable, device: torch.device
) -> int:
    """Train a classifier on labeled images for `trial.fine_tune_steps`, and leave it as it was best by validation.

    Returns the step at which that was: at the last one, more steps would probably have helped.

    It is judged before the first step, too: what comes out is on validation no worse than what went in. One whose loss
    is no longer finite stays as it was before. Order and augmentation are drawn from the trial's seed.
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
    images, labels = as_tensor(train.images).to(device), as_tensor(train.labels).to(device)
    looks = {math.ceil(recipe.budget_steps * look / LOOKS) for look in range(1, LOOKS + 1)}
    best, best_step, weights = accuracy(model, validation, device).top1, 0, copy.deepcopy(model.state_dict())
    model.train()
    for step, rows in enumerate(batches(recipe, len(train), first=0), start=1):
        mine = torch.from_numpy(rows).to(device, non_blocking=True)
        views = augmentation(images[mine], generator(device, trial.seed, "fine-tuning", step))
        for group in optimizer.param_groups:
            group["lr"] = lr_at(recipe, step - 1)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = F.cross_entropy(model(views), labels[mine])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if step in looks and (found := accuracy(model, validation, device).top1) > best:  # not where it is NaN
            best, best_step, weights = found, step, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    return best_step


def frozen_probe(
    encoder: Encoder | None, train: ImageTable, validation: ImageTable, device: torch.device
) -> LinearProbe | None:
    """Return a linear probe on an encoder's features, or raw pixels for None; None where they are not finite."""
    features = [labeled_features(encoder, table, device) for table in (train, validation)]
    return fit_linear_probe(*features[0], *features[1], n_classes=train.n_classes)


def accuracy(model: nn.Module, table: ImageTable, device: torch.device) -> Accuracy:
    """Return how often a classifier is right in evaluation mode; its own mode is put back."""
    return top_accuracy(*labeled_features(model, table, device))
