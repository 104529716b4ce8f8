"""Rotation prediction: classification of the quarter turns by which an image was rotated.

Gidaris, Singh, Komodakis: Unsupervised Representation Learning by Predicting Image Rotations, ICLR 2018
(arXiv:1803.07728).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augmentation import Augmentation
from trainables.options import in_range
from trainables.tasks.base import Batch, Output, PretextTask, zero_init

ROTATIONS = 4


@dataclass(frozen=True)
class RotationOptions:
    """Options of rotation prediction.

    Attributes:
        head_hidden: Units of a hidden layer between the features and the four classes; 0 for a linear head.
    """

    head_hidden: int = in_range(0, 0, 8192)


class Rotation(PretextTask):
    """Four-way classification of the rotation; chance is 1/4 and ln 4.

    All four copies of an image are in the same batch. They are made by transposing and flipping square images, so
    neither interpolation nor black corners reveal the answer, and after augmentation, so its artifacts do not either.
    """

    name = "rotation"
    replayable = True
    has_shortcuts = True
    Options = RotationOptions
    refused_ops = {  # noqa: RUF012
        "quarter_turn": "the image would already be turned by an unknown angle, and the answer would be arbitrary",
        "vertical_flip": "an image on its head looks like one turned by 180 degrees, and the two answers would mix",
    }

    def build_head(self) -> None:
        """Create the classifier."""
        width, hidden = self.encoder.feature_dim, self.options.head_hidden
        layers: list[nn.Module] = []
        if hidden:
            layers, width = [nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()], hidden
        self.classifier = nn.Sequential(*layers, zero_init(nn.Linear(width, ROTATIONS)))

    def draw(self, images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Batch:
        """Return inputs [4 N, C, S, S], rotation by rotation, and targets int64 [4 N]."""
        upright = augmentation(images, generator)
        targets = torch.arange(ROTATIONS, device=images.device).repeat_interleave(len(images))
        return Batch(torch.cat(quarter_turns(upright)), targets)

    def forward(self, batch: Batch) -> Output:
        """Return cross-entropy in nats and accuracy, each [4 N]."""
        logits = self.classifier(self.encoder(batch.inputs)).float()
        loss = F.cross_entropy(logits, batch.targets, reduction="none")
        correct = (logits.argmax(dim=1) == batch.targets).float()
        return Output(loss.mean(), {"loss": loss.detach(), "accuracy": correct})

    def chance(self, batch_size: int, *, training: bool) -> dict[str, float]:
        """Return ln 4 and 1/4."""
        return {"loss": math.log(ROTATIONS), "accuracy": 1 / ROTATIONS}

    def samples_per_image(self) -> int:
        """Return four: every image is used in all rotations."""
        return ROTATIONS


def quarter_turns(images: Tensor) -> list[Tensor]:
    """Return images [N, C, S, S] rotated counterclockwise by 0, 90, 180 and 270 degrees, without interpolation."""
    transposed = images.transpose(2, 3)
    return [images, transposed.flip(2), images.flip(2, 3), transposed.flip(3)]
