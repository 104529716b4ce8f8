"""Pictures of data and tasks: the pixels shown are the table's own, and those that the task itself has drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from analysis.figures import sample_grid, what_a_task_sees
from tests.analysis.figure_helpers import blank, cut_off, row_names
from trainables.augmentation import Augmentation
from trainables.data import ImageTable, load_splits
from trainables.errors import UserError
from trainables.rng import generator
from trainables.tasks import TASKS, Batch, PretextTask
from trainables.tasks.context_encoder import ContextEncoder
from trainables.tasks.simclr import SimCLR
from trainables.training.loop import build_task
from trainables.trial import TrialConfig

SHOWN = 3


@pytest.fixture(scope="module")
def table() -> ImageTable:
    return load_splits("shapes", root=None, max_train=200).pretext_train


def built(name: str, **options: object) -> PretextTask:
    return build_task(TrialConfig("search", name, options=options), 32)


def tiles(ax: Axes) -> np.ndarray:
    """Return the images of a picture by row and column; object [rows, columns] of float [H, W, 3]."""
    placed = sorted((round(image.get_extent()[3], 3), image.get_extent()[0], i) for i, image in enumerate(ax.images))
    rows = len({top for top, _, _ in placed})
    found = np.empty(len(placed), dtype=object)
    for place, (_, _, index) in enumerate(placed):
        found[place] = np.asarray(ax.images[index].get_array())
    return found.reshape(rows, -1)


def headings(ax: Axes) -> list[str]:
    return [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()]


def whole(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 2, 3, 1) / 255


def drawn(task: PretextTask, images: np.ndarray, policy: Mapping[str, float], seed: int = 0) -> Batch:
    return task.train().draw(torch.from_numpy(images[:SHOWN]), Augmentation(policy), generator("cpu", seed, "picture"))


def as_image(image: Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).clamp(0, 1).numpy()


def test_a_sample_shows_the_first_images_of_each_class_in_its_row(table: ImageTable):
    ax = sample_grid(table, blank(), per_class=4)
    canvas = np.asarray(ax.images[0].get_array())
    pitch = canvas.shape[1] // 4
    for row, name in enumerate(table.class_names):
        own = np.flatnonzero(table.labels == row)
        for column, index in enumerate(own[:4]):
            tile = canvas[row * pitch : row * pitch + 32, column * pitch : column * pitch + 32]
            np.testing.assert_array_equal(tile, table.images[index].transpose(1, 2, 0))
        assert row_names(ax)[row] == f"{name} ({len(own)})"
        assert row * pitch < ax.get_yticks()[row] < row * pitch + 32
    assert ax.get_title(loc="left") == f"shapes: {len(table)} images of 32 px"
    assert not cut_off(ax)


def test_a_table_without_labels_shows_its_first_images_and_a_partly_labeled_one_a_row_without(table: ImageTable):
    bare = dataclasses.replace(table, labels=None, class_names=())
    canvas = np.asarray(sample_grid(bare, blank(), per_class=4).images[0].get_array())
    pitch = canvas.shape[1] // 4
    assert canvas.shape[0] == 5 * pitch
    np.testing.assert_array_equal(canvas[pitch : pitch + 32, :32], table.images[4].transpose(1, 2, 0))
    assert table.labels is not None
    partly = dataclasses.replace(table, labels=np.where(np.arange(len(table)) < 7, -1, table.labels))
    assert row_names(sample_grid(partly, blank()))[-1] == "no label (7)"


def test_a_class_without_an_image_and_classes_beyond_twenty_are_told(table: ImageTable):
    many = dataclasses.replace(table, class_names=tuple(f"class_{i}" for i in range(26)))
    ax = sample_grid(many, blank())
    assert len(row_names(ax)) == 20
    assert row_names(ax)[15] == "class_15 (0)"
    assert "6 more classes not shown" in ax.get_title(loc="left").replace("\n", " ")
    with pytest.raises(UserError, match="shapes has no images"):
        sample_grid(table.take(np.arange(0)), blank())


def test_rotation_shows_four_quarter_turns_counter_clockwise(table: ImageTable):
    ax = what_a_task_sees("rotation", table, blank(), n_shown=SHOWN)
    assert headings(ax) == ["0°", "90°", "180°", "270°"]
    for row, image in enumerate(whole(table.images[:SHOWN])):
        for turns in range(4):
            np.testing.assert_allclose(tiles(ax)[row, turns], np.rot90(image, turns), atol=1e-6)


@pytest.mark.parametrize("name", list(TASKS))
def test_every_tile_stands_upright(name: str, table: ImageTable):
    ax = what_a_task_sees(name, table, blank(), n_shown=2)
    for image in ax.images:  # matplotlib draws row 0 at the end of the extent
        _, _, last_row, first_row = image.get_extent()
        (_, low), (_, high) = ax.transData.transform([(0, last_row), (0, first_row)])
        assert low < high


def test_simclr_shows_the_two_views_that_the_task_draws_with_this_seed(table: ImageTable):
    ax = what_a_task_sees("simclr", table, blank(), n_shown=SHOWN, seed=5)
    batch = drawn(built("simclr"), table.images, SimCLR.validation_policy, seed=5)
    for row in range(SHOWN):
        np.testing.assert_allclose(tiles(ax)[row, 0], whole(table.images)[row], atol=1e-6)
        np.testing.assert_allclose(tiles(ax)[row, 1], as_image(batch.inputs[row]), atol=1e-6)
        np.testing.assert_allclose(tiles(ax)[row, 2], as_image(batch.targets[row]), atol=1e-6)
    other = what_a_task_sees("simclr", table, blank(), n_shown=SHOWN, seed=6)
    assert not np.allclose(tiles(ax)[0, 1], tiles(other)[0, 1])


def test_an_untrained_context_encoder_fills_the_hole_with_the_mean_image(table: ImageTable):
    ax = what_a_task_sees("context_encoder", table, blank(), n_shown=SHOWN)
    assert headings(ax) == ["masked", "filled by the mean image", "truth"]
    mean = whole(table.images).mean(axis=0)
    for row, image in enumerate(whole(table.images[:SHOWN])):
        masked, filled, truth = tiles(ax)[row]
        hole = (np.abs(masked - truth) > 1e-6).any(axis=2)
        assert 0.05 < hole.mean() < 0.5
        np.testing.assert_allclose(truth, image, atol=1e-6)
        np.testing.assert_allclose(filled[hole], mean[hole], atol=1e-4)
        np.testing.assert_allclose(filled[~hole], truth[~hole], atol=1e-6)


def test_a_trained_context_encoder_fills_it_with_what_its_loss_measures(table: ImageTable):
    task = built("context_encoder", mask="center")
    assert isinstance(task, ContextEncoder)
    images = torch.from_numpy(table.images)
    task.fit_to(images)
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for step in range(3):
        output = task(task.draw(images[:32], Augmentation({}), generator("cpu", step, "test")))
        optimizer.zero_grad()
        output.objective.backward()
        optimizer.step()
    ax = what_a_task_sees(task, table, blank(), n_shown=SHOWN)
    assert headings(ax)[1] == "filled by the network"
    assert task.training
    batch = drawn(task, table.images, {})
    with torch.no_grad():
        painted = task.eval().paint(batch)
        losses = task(batch).metrics["loss"].numpy()
    hole = batch.extras["weight"][:, 0].numpy() == 1
    for row in range(SHOWN):
        _, filled, truth = tiles(ax)[row]
        np.testing.assert_allclose(filled[hole[row]], as_image(painted[row])[hole[row]], atol=1e-6)
        assert np.mean((filled - truth)[hole[row]] ** 2) == pytest.approx(losses[row], rel=1e-4)


def test_context_prediction_shows_the_pair_its_places_and_its_direction(table: ImageTable):
    ax = what_a_task_sees("context_prediction", table, blank(), n_shown=SHOWN)
    assert headings(ax) == ["image", "patches", "one patch", "the other"]
    batch = drawn(built("context_prediction"), table.images, {})
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    answers = [text.get_text() for text in ax.texts if text.get_text()]
    assert len(set(answers)) == SHOWN
    for row, answer in enumerate(answers):
        first, second = (np.array(box.get_center()) for box in boxes[2 * row : 2 * row + 2])
        right, down = np.sign(np.round(second - first, 3))
        said = {"above": -1, "below": 1}.get(answer.split()[0], 0), {"left": -1, "right": 1}.get(answer.split()[-1], 0)
        assert (down, right) == said
    for row in range(SHOWN):
        patches = [as_image(patch) for patch in batch.inputs[row]]
        shown = tiles(ax)[row, 2:]
        assert [np.allclose(shown[0], patch, atol=1e-6) for patch in patches].index(True) == 4  # the center
        neighbor = [np.allclose(shown[1], patch, atol=1e-6) for patch in patches].index(True)
        down, right = np.subtract(divmod(neighbor, 3), divmod(4, 3))
        assert f"{['above', '', 'below'][down + 1]} {['left', '', 'right'][right + 1]}".strip() == answers[row]


def test_a_single_pair_is_shown_without_a_grid_and_the_policy_can_be_given(table: ImageTable):
    task = built("context_prediction", pairs_per_image=1)
    ax = what_a_task_sees(task, table, blank(), n_shown=2, augmentation={"gray": 1.0})
    assert headings(ax) == ["image", "center patch", "neighbor"]
    patch = tiles(ax)[0, 1]
    np.testing.assert_allclose(patch, patch[:, :, :1].repeat(3, axis=2), atol=1e-5)


class Fifth(SimCLR):
    """A task that this module has never heard of."""

    name = "fifth"

    def draw(self, images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Batch:
        """Return black and white images as inputs, and their numbers as targets."""
        views = torch.zeros(2 * len(images), *images.shape[1:])
        views[len(images) :] = 1
        return Batch(views, torch.arange(len(images)))


def test_a_task_of_ones_own_shows_its_inputs(table: ImageTable):
    task = Fifth(built("simclr").encoder, SimCLR.Options(), 32)
    ax = what_a_task_sees(task, table, blank(), n_shown=2)
    assert headings(ax) == ["image", "input 1", "input 2"]
    assert [tile.mean() for tile in tiles(ax)[1, 1:]] == [0, 1]


@pytest.mark.parametrize("name", list(TASKS))
def test_a_picture_is_the_same_twice_fits_its_figure_and_leaves_the_task_alone(name: str, table: ImageTable):
    task = built(name).eval()
    before = {key: value.clone() for key, value in task.state_dict().items()}
    one, other = (what_a_task_sees(task, table, blank(), n_shown=2) for _ in range(2))
    for a, b in zip(tiles(one).flat, tiles(other).flat, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not task.training
    assert all(torch.equal(before[key], value) for key, value in task.state_dict().items())
    assert one.get_title(loc="left") == f"inputs of {name}"
    assert not cut_off(one)


@pytest.mark.parametrize(("n_channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (5, [0, 1, 2])])
@pytest.mark.parametrize("name", list(TASKS))
def test_images_of_other_channels_show_three_of_them_or_gray(name: str, n_channels: int, shown: list[int]):
    values = np.random.default_rng(0).integers(0, 65_536, (6, n_channels, 32, 32)).astype(np.uint16)
    table = ImageTable("cells", values)
    canvas = np.asarray(sample_grid(table, blank(), per_class=3).images[0].get_array())
    expected = values[0, shown].transpose(1, 2, 0) / 257
    assert np.abs(canvas[:32, :32].astype(float) - expected).max() <= 0.5
    assert what_a_task_sees(name, table, blank(), n_shown=2).images


def test_pictures_that_cannot_be_drawn_say_why(table: ImageTable):
    with pytest.raises(UserError, match="no pretext task 'jigsaw'; there are: rotation"):
        what_a_task_sees("jigsaw", table, blank())
    with pytest.raises(UserError, match="images of 32 px and 3 channels, but the task was made for 48 px"):
        what_a_task_sees(build_task(TrialConfig("search", "rotation"), 48), table, blank())
    with pytest.raises(UserError, match="nothing to draw"):
        what_a_task_sees("rotation", table.images[:0], blank())
