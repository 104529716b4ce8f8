"""BYOL: a network predicts how a slowly moving average of itself represents another view of the same image.

Grill et al.: Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning, NeurIPS 2020 (arXiv:2006.07733).
"""

from __future__ import annotations

import copy
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
class BYOLOptions:
    """Options of BYOL.

    Attributes:
        momentum: Share of the target network that each step keeps, tau in the paper, there rising from 0.996 to 1
            over hundreds of thousands of steps; constant here, and lower for short training.
        projection_dim: Units of the outputs of projector and predictor.
        hidden: Units of their hidden layers.
    """

    momentum: float = in_range(0.95, 0.0, 1.0)
    projection_dim: int = in_range(128, 2, 2048)
    hidden: int = in_range(256, 2, 4096)


@register_task(
    defaults={
        **{"optimizer": "adamw", "lr": 2e-3, "weight_decay": 1e-4, "batch_size": 128},
        **{"augmentation": {"crop_resize": 1.0, "flip": 1.0, "color_jitter": 1.0, "gray": 0.4}},
        "augmentation_strength": 0.5,
    },
    space={
        "lr": LogUniform("AdamW", low=3e-4, high=1e-2),
        "augmentation_strength": Uniform("weak views leave colors to compare", low=0.1, high=1.0),
        "option/momentum": Choice("a slower target needs more steps", values=(0.9, 0.95, 0.99)),
    },
    cures={"option/momentum": (0.9, 0.99)},
)
class BYOL(PretextTask):
    """Two augmented views per image, an online network with a predictor, and a target network without gradients.

    A constant network would solve the objective. The metrics are therefore those of retrieving the other view of an
    image by its prediction. The trained encoder is that of the online network.
    """

    name = "byol"
    Options = BYOLOptions
    replayable = True
    validation_policy = SIMCLR_CIFAR10_VIEWS

    def build_head(self) -> None:
        """Create projector, predictor and target network."""
        self.projector = self._mlp(self.encoder.feature_dim)
        self.predictor = self._mlp(self.options.projection_dim)
        self.target_encoder = copy.deepcopy(self.encoder).requires_grad_(False)
        self.target_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def draw(self, images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Batch:
        """Return one view of every image as inputs and another as targets, each [N, C, S, S]."""
        return Batch(augmentation(images, generator), augmentation(images, generator))

    def forward(self, batch: Batch) -> Output:
        """Return the distance between predictions and targets, and accuracy and loss of retrieval, [2 N]."""
        views = torch.cat([batch.inputs, batch.targets])
        predictions = self.predictor(self.projector(self.encoder(views))).float()
        with torch.no_grad():
            first, second = self.target_projector(self.target_encoder(views)).float().chunk(2)
        cosines = F.cosine_similarity(predictions, torch.cat([second, first]))
        found = [
            retrieval(queries.detach(), gathered(keys) if self.training else keys)
            for queries, keys in zip(predictions.chunk(2), (second, first), strict=True)
        ]
        metrics = {name: torch.cat([each[name] for each in found]) for name in found[0]}
        return Output(4 - 4 * cosines.mean(), metrics)  # both views: twice 2 - 2 cos (equations 2 and 3)

    def chance(self, batch_size: int, *, training: bool) -> dict[str, float]:
        """Return accuracy and loss of guessing."""
        return retrieval_chance(batch_size)

    def samples_per_image(self) -> int:
        """Return two: each view retrieves the other."""
        return 2

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the target network toward the online network."""
        for target, online in ((self.target_encoder, self.encoder), (self.target_projector, self.projector)):
            for moved, followed in zip(target.parameters(), online.parameters(), strict=True):
                moved.lerp_(followed, 1 - self.options.momentum)

    def _mlp(self, width: int) -> nn.Sequential:
        hidden = nn.Linear(width, self.options.hidden, bias=False)
        last = nn.Linear(self.options.hidden, self.options.projection_dim)
        return nn.Sequential(hidden, nn.BatchNorm1d(self.options.hidden), nn.ReLU(), last)
