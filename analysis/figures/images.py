"""Pictures of the data: a sample of a data set, and the inputs that each pretext task makes of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from analysis.figures.channels import in_three_channels
from analysis.figures.style import COLORS, SMALL, axes, name_rows, title
from trainables.errors import UserError

if TYPE_CHECKING:
    from trainables.data import ImageTable
    from trainables.tasks import PretextTask

MOST_CLASSES = 20
UNLABELED_ROWS = 5
TILE = 0.62  # inches per image in a new figure
GAP = 0.08  # between tiles, as a fraction of their side
BOX_STYLES = ((COLORS[1], "-"), (COLORS[9], "--"))


def sample_grid(table: ImageTable, ax: Axes | None = None, *, per_class: int = 8) -> Axes:
    """Draw the first `per_class` images of each class, one row per class, with the number of its images.

    At most twenty classes are drawn, and the title says how many are left out. Images without a label form the last
    row. A table without labels gets five rows of its first images. Of more than three channels the first three are
    shown, of fewer the first one in gray.

    Args:
        table: The images.
        ax: Axes to draw on; None creates a figure.
        per_class: Number of images per row.

    Raises:
        UserError: If the table is empty.
    """
    if len(table) == 0:
        raise UserError(f"nothing to draw: {table.name} has no images")
    rows = _rows(table, per_class)
    side = table.image_size
    pitch = side + max(1, round(GAP * side))
    canvas = np.full((len(rows) * pitch, per_class * pitch, 3), 255, dtype=np.uint8)
    for row, chosen in enumerate(rows.values()):
        for column, index in enumerate(chosen[:per_class]):
            top, left = row * pitch, column * pitch
            canvas[top : top + side, left : left + side] = np.rint(255 * in_three_channels(table.images[index]))

    ax = axes(ax, size=(1.6 + TILE * per_class, 0.6 + TILE * len(rows)))
    ax.imshow(canvas, interpolation="nearest")
    ax.set_anchor("W")  # next to the names
    names = {row * pitch + (side - 1) / 2: name for row, name in enumerate(rows)}
    name_rows(ax, names, len(rows), length=18)
    ax.set_xticks([])
    ax.spines[:].set_visible(False)
    hidden = table.n_classes - MOST_CLASSES
    more = f", {hidden} more classes not shown" if hidden > 0 else ""
    title(ax, f"{table.name}: {len(table):,} images of {side} px{more}", length=44)
    return ax


def what_a_task_sees(
    task: str | PretextTask,
    images: ImageTable | np.ndarray,
    ax: Axes | None = None,
    *,
    n_shown: int = 4,
    augmentation: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Axes:
    """Draw what a pretext task makes of the first images, with the task's own `draw`; one row per image.

    The columns are, for rotation, four rotations; for simclr, the image and its two views; for context_prediction, the
    image, its nine patches, one pair of them as the network sees it, and the direction to predict; for
    context_encoder, the masked image, the hole as the network fills it, and the truth; for any other task, its inputs
    and, if they are images, its targets.

    Args:
        task: A name, or a task from `trainables.training.loop.build_task`, trained or not. A name is built untrained,
            with its default options; its context encoder paints the mean image.
        images: A table, or its images. The mean image is the mean over all of them.
        ax: Axes to draw on; None creates a figure.
        n_shown: Number of images drawn.
        augmentation: Magnitude of each op; None is the task's own validation policy.
        seed: Seed of the task's random draws.

    Raises:
        UserError: If the task is unknown, there is no image, or the task was built for another image size.
    """
    from analysis.figures.task_views import look  # imports torch, which takes seconds

    array = images if isinstance(images, np.ndarray) else images.images
    headings, rows = look(task, array, n_shown, augmentation, seed)
    name = task if isinstance(task, str) else task.name
    answers = [row.answer for row in rows]
    ax = axes(ax, size=(0.8 + 1.15 * len(headings) + (1.0 if any(answers) else 0), 0.7 + 1.15 * len(rows)))
    pitch = 1 + GAP
    for y, row in enumerate(rows):
        for x, tile in enumerate(row.tiles):
            left, top = x * pitch, y * pitch
            ax.imshow(np.clip(tile.image, 0, 1), extent=(left, left + 1, top + 1, top), interpolation="nearest")
            for (box_left, box_top, side), (color, style) in zip(tile.boxes, BOX_STYLES, strict=False):
                corner = (left + box_left, top + box_top)
                ax.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=color, linestyle=style, linewidth=2))
        ax.text(len(row.tiles) * pitch, y * pitch + 0.5, row.answer, fontsize=SMALL, va="center")
    ax.set_xlim(-GAP / 2, len(headings) * pitch - GAP / 2)
    ax.set_ylim(len(rows) * pitch - GAP / 2, -GAP / 2)
    ax.set_aspect("equal")
    ax.xaxis.tick_top()
    ax.set_xticks([x * pitch + 0.5 for x in range(len(headings))], headings, fontsize=SMALL)
    ax.set_yticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    title(ax, f"inputs of {name}")
    return ax


def _rows(table: ImageTable, per_class: int) -> dict[str, np.ndarray]:
    """Return the images of each row, as int64 indices in the table's order, by the row's name."""
    if table.labels is None or not table.class_names:
        count = min(UNLABELED_ROWS, -(-len(table) // per_class))
        return {" " * row: np.arange(row * per_class, min((row + 1) * per_class, len(table))) for row in range(count)}
    found = {}
    for label, name in enumerate(table.class_names[:MOST_CLASSES]):
        chosen = np.flatnonzero(table.labels == label)
        found[f"{name} ({len(chosen):,})"] = chosen
    if len(unlabeled := np.flatnonzero(table.labels < 0)):
        found[f"no label ({len(unlabeled):,})"] = unlabeled
    return found
