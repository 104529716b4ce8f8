"""Jigsaw puzzles: classification of the permutation in which the tiles of an image are shown.

Noroozi, Favaro: Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles, ECCV 2016
(arXiv:1603.09246).
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces import Choice, LogUniform, Uniform, register_task
from trainables.augmentation import Augmentation
from trainables.errors import ConfigError
from trainables.options import in_range, one_of
from trainables.rng import sample
from trainables.tasks import Batch, Output, PretextTask, zero_init


@dataclass(frozen=True)
class JigsawOptions:
    """Options of jigsaw puzzles.

    Attributes:
        grid: Tiles along a side; 3 in the paper, whose images have 225 px.
        permutations: Permutations to tell apart; 2 x 2 tiles have 24, the paper uses 1,000 of 3 x 3.
        normalize: Whether each tile loses its mean, and a deviation above 0.15, which neighbors would share.
        hidden: Units of the hidden layer between the tiles' features and the permutations.
    """

    grid: int = one_of(2, 2, 3)
    permutations: int = in_range(24, 2, 1000)
    normalize: bool = one_of(True, True, False)
    hidden: int = in_range(256, 1, 8192)


@functools.cache
def distant_permutations(n_tiles: int, count: int) -> np.ndarray:
    """Return permutations that are far apart in Hamming distance, chosen greedily as in the paper, [count, n_tiles]."""
    left = np.array(list(itertools.permutations(range(n_tiles))), dtype=np.int64)
    chosen, distance = [left[0]], np.zeros(len(left))
    for _ in range(count - 1):
        distance += (left != chosen[-1]).sum(axis=1)
        distance[(left == chosen[-1]).all(axis=1)] = -np.inf
        chosen.append(left[distance.argmax()])
    return np.stack(chosen)


@register_task(
    defaults={
        **{"optimizer": "adamw", "lr": 2e-3, "weight_decay": 1e-4, "batch_size": 64},
        **{"augmentation": {"crop_resize": 0.3, "flip": 1.0, "color_jitter": 0.5, "gray": 0.3}},
        "augmentation_strength": 0.5,
    },
    space={
        "lr": LogUniform("AdamW", low=3e-4, high=1e-2),
        "augmentation_strength": Uniform("none to the full policy", low=0.0, high=1.0),
        "option/permutations": Choice("fewer are easier to tell apart", values=(8, 24)),
    },
    cures={"option/permutations": (8,), "batch_size": (32,)},
)
class Jigsaw(PretextTask):
    """Classification of the permutation; chance is 1 / permutations.

    Each tile is cut at a random place of its cell, so that edges do not continue from one tile to the next.
    """

    name = "jigsaw"
    Options = JigsawOptions
    has_shortcuts = True
    orders: Tensor

    def build_head(self) -> None:
        """Create the classifier, and the permutations."""
        options, n_tiles = self.options, self.options.grid**2
        if options.permutations > math.factorial(n_tiles):
            possible = math.factorial(n_tiles)
            raise ConfigError(
                f"task_options.jigsaw.permutations = {options.permutations}: {n_tiles} tiles have {possible}"
            )
        self.register_buffer("orders", torch.from_numpy(distant_permutations(n_tiles, options.permutations)))
        last = zero_init(nn.Linear(options.hidden, options.permutations))
        self.classifier = nn.Sequential(nn.Linear(n_tiles * self.encoder.feature_dim, options.hidden), nn.ReLU(), last)

    def draw(self, images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Batch:
        """Return the tiles of all images, [N * tiles, C, s, s], image by image, and the index of each permutation."""
        views, grid, n = augmentation(images, generator), self.options.grid, len(images)
        cell = self.image_size // grid
        slack = max(1, cell // 4)
        u = sample(torch.rand, generator, n, 1 + 2 * grid**2)
        targets = (u[:, 0] * len(self.orders)).long()
        shift = (u[:, 1:] * (slack + 1)).long().view(n, grid**2, 2)
        corner = cell * torch.cartesian_prod(*(torch.arange(grid, device=images.device),) * 2)
        rows, columns = ((corner + shift)[..., None] + torch.arange(cell - slack, device=images.device)).unbind(dim=2)
        image = torch.arange(n, device=images.device)
        tiles = views.movedim(1, -1)[image[:, None, None, None], rows[..., None], columns[..., None, :]]
        tiles = tiles[image[:, None], self.orders[targets]].flatten(0, 1).movedim(-1, 1)
        if self.options.normalize:
            deviation, mean = torch.std_mean(tiles, dim=(1, 2, 3), keepdim=True, correction=0)
            tiles = 0.5 + 0.25 * (tiles - mean) / deviation.clamp(min=0.15)
        return Batch(tiles.contiguous(memory_format=torch.channels_last), targets)

    def forward(self, batch: Batch) -> Output:
        """Return the cross-entropy, and accuracy and loss per image."""
        logits = self.classifier(self.encoder(batch.inputs).view(len(batch.targets), -1)).float()
        loss = F.cross_entropy(logits, batch.targets, reduction="none")
        correct = (logits.argmax(dim=1) == batch.targets).float()
        return Output(loss.mean(), {"accuracy": correct, "loss": loss.detach()})

    def chance(self, batch_size: int, *, training: bool) -> dict[str, float]:
        """Return the accuracy and the loss of guessing."""
        return {"accuracy": 1 / len(self.orders), "loss": math.log(len(self.orders))}
