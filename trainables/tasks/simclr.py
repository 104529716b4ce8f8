"""SimCLR: retrieval of the other view of an image among all views of the batch.

Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020
(arXiv:2002.05709).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augmentation import SIMCLR_CIFAR10_VIEWS, Augmentation
from trainables.distributed import gathered, worker_rank
from trainables.options import in_range
from trainables.tasks.base import Batch, Output, PretextTask


@dataclass(frozen=True)
class SimCLROptions:
    """Options of SimCLR.

    Attributes:
        temperature: Temperature tau of NT-Xent.
        projection_dim: Units of the projection head's output.
        projection_hidden: Units of the projection head's hidden layer.
    """

    temperature: float = in_range(0.5, 0.01, 10.0)
    projection_dim: int = in_range(128, 2, 8192)
    projection_hidden: int = in_range(256, 2, 8192)


class SimCLR(PretextTask):
    """Two augmented views per image, a projection head and NT-Xent; chance is ln(2N - 1) and 1 / (2N - 1).

    The representation is taken before the projection head. Similarities are computed in float32.
    """

    name = "simclr"
    replayable = True
    Options = SimCLROptions
    validation_policy = SIMCLR_CIFAR10_VIEWS

    def build_head(self) -> None:
        """Create the projection head."""
        width, hidden = self.encoder.feature_dim, self.options.projection_hidden
        self.projection_head = nn.Sequential(
            nn.Linear(width, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, self.options.projection_dim),
        )

    def draw(self, images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Batch:
        """Return one view of every image as inputs and another as targets, each [N, C, S, S]."""
        return Batch(augmentation(images, generator), augmentation(images, generator))

    def forward(self, batch: Batch) -> Output:
        """Return NT-Xent in nats and top-1 retrieval accuracy, each [2 N]."""
        projections = self.projection_head(self.encoder(torch.cat([batch.inputs, batch.targets])))
        first, second = projections.float().chunk(2)
        logits, positives = nt_xent_logits(first, second, self.options.temperature, gather=self.training)
        loss = F.cross_entropy(logits, positives, reduction="none")
        correct = (logits.argmax(dim=1) == positives).float()
        return Output(loss.mean(), {"loss": loss.detach(), "accuracy": correct})

    def chance(self, batch_size: int, *, training: bool) -> dict[str, float]:
        """Return ln(2N - 1) and 1 / (2N - 1)."""
        others = 2 * batch_size - 1
        return {"loss": math.log(others), "accuracy": 1 / others}

    def samples_per_image(self) -> int:
        """Return two: each view retrieves the other."""
        return 2


def nt_xent_logits(first: Tensor, second: Tensor, temperature: float, *, gather: bool) -> tuple[Tensor, Tensor]:
    """Return the logits of NT-Xent (Chen 2020, equation 1) and the columns of the positives.

    Autocast is disabled here, since it would compute the product of float32 projections in bfloat16.

    Args:
        first: Projections of one view of this worker's n images, float32 [n, D].
        second: Projections of the other view, float32 [n, D].
        temperature: Temperature tau.
        gather: Whether the views of all workers' N images are candidates, with gradients. Otherwise N = n.

    Returns:
        Logits [2 n, 2 N], with a view's similarity to itself excluded, and the positives' columns, int64 [2 n].
    """
    first, second = F.normalize(first, dim=1), F.normalize(second, dim=1)
    n, rank = len(first), worker_rank() if gather else 0
    all_first, all_second = (gathered(first), gathered(second)) if gather else (first, second)
    total = len(all_first)
    with torch.autocast(first.device.type, enabled=False):
        logits = torch.cat([first, second]) @ torch.cat([all_first, all_second]).T / temperature
    places = torch.arange(n, device=first.device) + rank * n
    own_columns = torch.cat([places, places + total])
    logits = logits.scatter(1, own_columns.unsqueeze(1), float("-inf"))
    return logits, torch.cat([places + total, places])
