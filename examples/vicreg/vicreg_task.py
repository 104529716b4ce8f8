"""VICReg: two views of an image have equal embeddings, whose dimensions vary and are not correlated.

Bardes, Ponce, LeCun: VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning, ICLR 2022
(arXiv:2105.04906).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces import Choice, LogUniform, Uniform, register_task
from trainables.augmentation import SIMCLR_CIFAR10_VIEWS, Augmentation
from trainables.distributed import gathered
from trainables.options import in_range
from trainables.tasks import Batch, Output, PretextTask, retrieval, retrieval_chance


@dataclass(frozen=True)
class VICRegOptions:
    """Options of VICReg.

    Attributes:
        invariance: Weight of the distance between the two views, lambda in the paper.
        variance: Weight of the hinge on each dimension's standard deviation, mu.
        covariance: Weight of the squared covariances between dimensions, nu.
        embedding_dim: Dimensions of the embeddings; 8,192 in the paper, whose batches have 2,048 images.
        hidden: Units of the expander's hidden layers.
    """

    invariance: float = in_range(25.0, 0.0, 100.0)
    variance: float = in_range(25.0, 0.0, 100.0)
    covariance: float = in_range(1.0, 0.0, 100.0)
    embedding_dim: int = in_range(256, 2, 2048)
    hidden: int = in_range(256, 2, 2048)


@register_task(
    defaults={
        **{"optimizer": "adamw", "lr": 2e-3, "weight_decay": 1e-4, "batch_size": 128},
        **{"augmentation": {"crop_resize": 1.0, "flip": 1.0, "color_jitter": 1.0, "gray": 0.4}},
        "augmentation_strength": 0.5,
    },
    space={
        "lr": LogUniform("AdamW", low=3e-4, high=1e-2),
        "augmentation_strength": Uniform("weak views leave colors to compare", low=0.1, high=1.0),
        "option/covariance": Choice("1 in the paper; few dimensions need more", values=(1.0, 4.0)),
    },
    cures={"option/covariance": (4.0,), "option/embedding_dim": (128,)},
)
class VICReg(PretextTask):
    """Two augmented views per image, an expander and three terms; neither negatives nor a second network.

    The objective has no level at chance. The metrics are those of retrieving the other view of an image.
    """

    name = "vicreg"
    Options = VICRegOptions
    replayable = True
    validation_policy = SIMCLR_CIFAR10_VIEWS

    def build_head(self) -> None:
        """Create the expander."""
        layers: list[nn.Module] = []
        for width in (self.encoder.feature_dim, self.options.hidden):
            layers += [nn.Linear(width, self.options.hidden), nn.BatchNorm1d(self.options.hidden), nn.ReLU()]
        self.expander = nn.Sequential(*layers, nn.Linear(self.options.hidden, self.options.embedding_dim))

    def draw(self, images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Batch:
        """Return one view of every image as inputs and another as targets, each [N, C, S, S]."""
        return Batch(augmentation(images, generator), augmentation(images, generator))

    def forward(self, batch: Batch) -> Output:
        """Return the weighted sum of the three terms, and accuracy and loss of retrieval, [N]."""
        embeddings = self.expander(self.encoder(torch.cat([batch.inputs, batch.targets]))).float()
        first, second = embeddings.chunk(2)
        views = (gathered(first), gathered(second)) if self.training else (first, second)
        with torch.autocast(first.device.type, enabled=False):
            objective = (
                self.options.invariance * F.mse_loss(views[0], views[1])
                + self.options.variance * sum(map(variance_term, views)) / 2
                + self.options.covariance * sum(map(covariance_term, views))
            )
        return Output(objective, retrieval(first.detach(), views[1].detach()))

    def chance(self, batch_size: int, *, training: bool) -> dict[str, float]:
        """Return accuracy and loss of guessing."""
        return retrieval_chance(batch_size)


def variance_term(embeddings: Tensor) -> Tensor:
    """Return the mean hinge of the dimensions' standard deviations at 1, of embeddings [N, D] (equations 1 and 2)."""
    return F.relu(1 - torch.sqrt(embeddings.var(dim=0) + 1e-4)).mean()


def covariance_term(embeddings: Tensor) -> Tensor:
    """Return the sum of squared covariances between dimensions over D, of embeddings [N, D] (equations 3 and 4)."""
    centered = embeddings - embeddings.mean(dim=0)
    covariance = centered.T @ centered / (len(embeddings) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / embeddings.shape[1]
