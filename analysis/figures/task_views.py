"""Tiles that show what a pretext task makes of images; the task itself draws them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.figures.channels import in_three_channels
from trainables.augmentation import Augmentation
from trainables.data.table import as_tensor, to_float
from trainables.encoders import build_encoder
from trainables.errors import UserError
from trainables.rng import generator
from trainables.tasks import TASKS, Batch, PretextTask, build_options
from trainables.tasks.context_encoder import ContextEncoder
from trainables.tasks.context_prediction import DIRECTIONS, ContextPrediction
from trainables.tasks.rotation import ROTATIONS, Rotation
from trainables.tasks.simclr import SimCLR


@dataclass(frozen=True)
class Tile:
    """One picture of a row.

    Attributes:
        image: float [H, W, 3].
        boxes: Boxes (left, top, side) to draw on it, as fractions of its side.
    """

    image: np.ndarray
    boxes: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class Row:
    """The tiles of one image.

    Attributes:
        tiles: One tile per column.
        answer: What the network has to predict, if no heading says it.
    """

    tiles: list[Tile]
    answer: str = ""


Views = tuple[list[str], list[Row]]


def look(
    task: str | PretextTask, images: np.ndarray, n_shown: int, augmentation: Mapping[str, float] | None, seed: int
) -> Views:
    """Return the headings of the columns and one row per image.

    The task draws a batch in training mode and is then set back to its own mode. Arguments and errors are those of
    `what_a_task_sees`, with images as in an `ImageTable`.
    """
    if images.ndim != 4 or not len(images):
        raise UserError(f"nothing to draw: images of shape {images.shape}, but they must be [N, C, S, S]")
    built = _build(task, images) if isinstance(task, str) else task
    if images.shape[-1] != built.image_size or images.shape[1] != built.n_channels:
        raise UserError(
            f"images of {images.shape[-1]} px and {images.shape[1]} channels, but the task was made for "
            f"{built.image_size} px and {built.n_channels} channels"
        )
    device = next(built.parameters()).device
    shown = as_tensor(images[:n_shown]).to(device)
    policy = Augmentation(built.validation_policy if augmentation is None else augmentation)
    was_training = built.training
    try:
        with torch.no_grad():
            batch = built.train().draw(shown, policy, generator(device, seed, "picture"))
            return _VIEWS.get(type(built), _any_task)(built, shown, batch)
    finally:
        built.train(was_training)


def strip(task: str, images: np.ndarray, side: int) -> np.ndarray:
    """Return the tiles of the first image beside each other, uint8 [side, W, 4], with transparent gaps.

    Args:
        task: Name of a pretext task.
        images: Images as in an `ImageTable`.
        side: Height of the strip in pixels.
    """
    headings, rows = look(task, images, 1, None, 0)
    tiles = [tile for heading, tile in zip(headings, rows[0].tiles, strict=True) if not heading.startswith(_FILLED)]
    gap = max(1, side // 12)
    canvas = np.zeros((side, len(tiles) * (side + gap) - gap, 4), np.uint8)
    for place, tile in enumerate(tiles):
        size = tile.image.shape[0]
        at = np.arange(side) * size // side  # nearest neighbor
        left = place * (side + gap)
        canvas[:, left : left + side, :3] = (255 * tile.image.clip(0, 1)).round()[at][:, at]
        canvas[:, left : left + side, 3] = 255
    return canvas


def _build(name: str, images: np.ndarray) -> PretextTask:
    if name not in TASKS:
        raise UserError(f"no pretext task {name!r}; there are: {', '.join(TASKS)}")
    kind, side = TASKS[name], images.shape[-1]
    encoder = build_encoder("conv4", image_size=side, in_channels=images.shape[1])
    task = kind(encoder, build_options(kind, {}), side)
    task.fit_to(as_tensor(images))
    return task


def _rotation(task: PretextTask, images: Tensor, batch: Batch) -> Views:
    turned = batch.inputs.view(ROTATIONS, len(images), *batch.inputs.shape[1:])
    rows = [Row([_tile(turned[turn, i]) for turn in range(ROTATIONS)]) for i in range(len(images))]
    return [f"{360 // ROTATIONS * turn}°" for turn in range(ROTATIONS)], rows


def _simclr(task: PretextTask, images: Tensor, batch: Batch) -> Views:
    triples = zip(to_float(images), batch.inputs, batch.targets, strict=True)
    return ["image", "one view", "another view"], [Row([_tile(each) for each in triple]) for triple in triples]


def _context_encoder(task: ContextEncoder, images: Tensor, batch: Batch) -> Views:
    painted = task.eval().paint(batch)  # eval mode: the batch is too small for batch statistics
    untrained = bool(torch.allclose(painted, task.mean_image.clamp(1e-3, 1 - 1e-3).expand_as(painted), atol=1e-6))
    filled = torch.where(batch.extras["weight"] == 1, painted, batch.targets)
    triples = zip(batch.inputs, filled, batch.targets, strict=True)
    rows = [Row([_tile(each) for each in triple]) for triple in triples]
    return ["masked", f"{_FILLED} the\nmean image" if untrained else f"{_FILLED}\nthe network", "truth"], rows


def _context_prediction(task: ContextPrediction, images: Tensor, batch: Batch) -> Views:
    pairs, rows = batch.extras["pairs"], []
    nine = batch.inputs.shape[1] == 9
    whole = to_float(images)
    for i, patches in enumerate(batch.inputs):
        pair = (3 * i + 1) % len(pairs)  # a different direction in each row
        first, second = (int(cell) for cell in pairs[pair])
        down, right = DIRECTIONS[int(batch.targets[i, pair])]
        grid = [_grid(patches, (first, second))] if nine else []
        row = [_tile(whole[i]), *grid, _tile(patches[first]), _tile(patches[second])]
        rows.append(Row(row, f"{_ROWS[down]} {_COLUMNS[right]}".strip()))
    return ["image", *(["patches", "one patch", "the other"] if nine else ["center patch", "neighbor"])], rows


_FILLED = "filled by"  # heading of what fills a hole
_ROWS, _COLUMNS = {-1: "above", 0: "", 1: "below"}, {-1: "left", 0: "", 1: "right"}


def _grid(patches: Tensor, pair: tuple[int, int]) -> Tile:
    """Return nine patches, float [9, C, p, p], as a 3x3 grid on white with boxes around the pair."""
    side = patches.shape[-1]
    pitch, gap = side + max(1, side // 4), max(1, side // 4)
    canvas = np.ones((3 * pitch + gap, 3 * pitch + gap, 3), dtype=np.float32)
    for cell, patch in enumerate(patches):
        top, left = (gap + pitch * place for place in divmod(cell, 3))
        canvas[top : top + side, left : left + side] = _tile(patch).image
    whole = len(canvas)
    places = [divmod(cell, 3) for cell in pair]
    boxes = tuple(((gap / 2 + pitch * x) / whole, (gap / 2 + pitch * y) / whole, pitch / whole) for y, x in places)
    return Tile(canvas, boxes)


def _any_task(task: PretextTask, images: Tensor, batch: Batch) -> Views:
    """Return the default views of a task: the inputs of each image and, if they are images, its targets.

    Samples are in the order of `PretextTask.by_image`: all images, then all images again. The inputs of one sample
    follow each other.
    """
    n, shape = len(images), batch.inputs.shape
    if len(shape) != 4 or shape[0] % n:
        raise UserError(f"{task.name} draws inputs of shape {tuple(shape)}, which no view here can show")
    by_image = len(batch.inputs) > n * task.samples_per_image()
    inputs = batch.inputs.unflatten(0, (n, -1)).unbind(1) if by_image else batch.inputs.split(n)
    targets = [batch.targets] if batch.targets.shape == images.shape else []
    rows = [Row([_tile(view[i]) for view in (to_float(images), *inputs, *targets)]) for i in range(n)]
    return ["image", *(f"input {k + 1}" for k in range(len(inputs))), *(["target"] if targets else [])], rows


def _tile(image: Tensor) -> Tile:
    return Tile(in_three_channels(image.cpu().numpy()))


_VIEWS: dict[type[PretextTask], Callable[..., Views]] = {
    Rotation: _rotation,
    SimCLR: _simclr,
    ContextEncoder: _context_encoder,
    ContextPrediction: _context_prediction,
}
