"""SimCLR with the loss and the transforms of the library lightly, on this package's encoder, head and optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.augmentation import Augmentation
from trainables.errors import ConfigError
from trainables.reference.recipes import LIGHTLY_TASK
from trainables.tasks import TASKS, Batch, Output
from trainables.tasks.simclr import SimCLR, nt_xent_logits

JITTER = 0.5  # lightly's color strength, as in the trial of this package


def register() -> None:
    """Add the task to TASKS, once.

    Raises:
        ConfigError: lightly is not installed.
    """
    try:
        from lightly.loss import NTXentLoss
        from lightly.transforms import SimCLRTransform
    except ImportError as error:
        raise ConfigError("the recipe lightly needs the library: pip install 'pretext-study[reference]'") from error
    from torchvision.transforms.functional import to_pil_image

    class LightlySimCLR(SimCLR):
        """SimCLR whose training views and loss are lightly's; it validates as SimCLR does."""

        name = LIGHTLY_TASK

        def build_head(self) -> None:
            """Create the projection head, lightly's loss and its views."""
            super().build_head()
            self.nt_xent = NTXentLoss(temperature=self.options.temperature)
            size = self.image_size
            self.views = SimCLRTransform(input_size=size, cj_strength=JITTER, gaussian_blur=0.0, normalize=None)

        def draw(self, images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Batch:
            """Return two of lightly's views of each image for training, ours for validation."""
            if not self.training:
                return super().draw(images, augmentation, generator)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(generator.initial_seed())  # torchvision draws from the global generator
                pairs: list[Any] = [self.views(to_pil_image(image.cpu())) for image in images]
            first, second = (torch.stack(views).to(images.device) for views in zip(*pairs, strict=True))
            return Batch(first, second)

        def forward(self, batch: Batch) -> Output:
            """Return lightly's loss as the objective, and SimCLR's metrics."""
            if not self.training:
                return super().forward(batch)
            projections = self.projection_head(self.encoder(torch.cat([batch.inputs, batch.targets])))
            first, second = projections.float().chunk(2)
            logits, positives = nt_xent_logits(first.detach(), second.detach(), self.options.temperature, gather=False)
            loss = F.cross_entropy(logits, positives, reduction="none")
            correct = (logits.argmax(dim=1) == positives).float()
            return Output(self.nt_xent(first, second), {"loss": loss, "accuracy": correct})

    if LIGHTLY_TASK not in TASKS:
        TASKS.add(LIGHTLY_TASK, LightlySimCLR, __name__)
