"""Context prediction: the label is the true direction, and neither position nor color reveals it."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch
from torch import Tensor

from trainables.augmentation import Augmentation
from trainables.encoders import MEAN, STD
from trainables.errors import ConfigError
from trainables.rng import generator
from trainables.tasks import Batch, PretextTask
from trainables.tasks.context_prediction import DIRECTIONS, cut, grid_geometry
from trainables.testing.tasks import images, new_task, sample_batch

RAW = {"gray": 0.0, "color_drop": 0.0, "standardize": False}
PLAIN = Augmentation({})


def maps(n: int, side: int) -> Tensor:
    """Return images, uint8 [n, 3, side, side], whose red is the row and whose green is the column."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8).expand(n, 3, side, side)


def raw_task(side: int = 32, **options: object) -> PretextTask:
    return new_task("context_prediction", side=side, **{**RAW, **options})


def pairs_of(batch: Batch) -> Tensor:
    return batch.extras["pairs"]


def corners(patches: Tensor) -> Tensor:
    """Return the row and column of each patch's upper left pixel in its map, [2, N, G]."""
    return (patches[:, :, :2, 0, 0] * 255).round().long().permute(2, 0, 1)


def directions(places: Tensor, pairs: Tensor, patch: int) -> Tensor:
    """Return the direction [N, P] of each pair's second patch, seen from its first, by their places [2, N, G]."""
    difference = places[:, :, pairs[:, 1]] - places[:, :, pairs[:, 0]]
    # Patches of one row are apart by their jitter at most, which is half a patch; of two rows, by a patch or more.
    signs = difference.sign() * (difference.abs() > patch / 2)
    table = torch.tensor(DIRECTIONS).T
    return (signs[:, :, :, None] == table[:, None, None]).all(dim=0).int().argmax(dim=2)


@pytest.mark.parametrize("pairs_per_image", [1, 8, 40])
@pytest.mark.parametrize(("side", "gap", "jitter"), [(20, 0.0, 0.25), (32, 0.0, 0.25), (47, 0.5, 0.5), (96, 0.2, 0.0)])
def test_the_label_is_the_direction_in_the_image(pairs_per_image: int, side: int, gap: float, jitter: float) -> None:
    task = raw_task(side, pairs_per_image=pairs_per_image, gap=gap, jitter=jitter)
    batch = task.draw(maps(64, side), PLAIN, generator("cpu", 0, "draw"))
    found = directions(corners(batch.inputs), pairs_of(batch), task.patch)
    assert torch.equal(found, batch.targets)
    assert batch.targets.shape == (64, pairs_per_image)
    assert batch.targets.unique().tolist() == list(range(8))


def test_labels_follow_the_mirrored_image() -> None:
    task = raw_task(pairs_per_image=1, jitter=0.0)
    batch = task.draw(maps(400, 32), Augmentation({"flip": 1.0}), generator("cpu", 0, "draw"))
    places = corners(batch.inputs)
    mirrored = batch.inputs[:, 0, 1, 0, 0] > batch.inputs[:, 0, 1, 0, -1]  # green falls from left to right
    assert 0.35 < mirrored.float().mean() < 0.65
    in_original = directions(places, pairs_of(batch), task.patch)[:, 0]
    down, right = torch.tensor(DIRECTIONS)[batch.targets[:, 0]].T
    right = torch.where(mirrored, -right, right)
    expected = [DIRECTIONS.index((d, r)) for d, r in zip(down.tolist(), right.tolist(), strict=True)]
    assert in_original.tolist() == expected


@pytest.mark.parametrize("pairs_per_image", [1, 8])
def test_the_first_patch_is_the_center(pairs_per_image: int) -> None:
    task = raw_task(32, jitter=0.0, pairs_per_image=pairs_per_image)
    batch = task.draw(maps(8, 32), PLAIN, generator("cpu", 0, "draw"))
    places = corners(batch.inputs)[:, :, pairs_of(batch)[:, 0]]
    assert (places == (32 - task.patch) // 2).all()


def test_patches_lie_in_the_image_and_never_overlap() -> None:
    task, cells = raw_task(), torch.arange(9).expand(16, 9)
    refused = 0
    for side, gap, jitter in itertools.product(range(20, 97), (0.0, 0.1, 0.25, 0.5), (0.0, 0.1, 0.25, 0.5)):
        try:
            geometry = grid_geometry(side, gap, jitter)
        except ConfigError:
            refused += 1
            continue
        task.image_size, (task.patch, task.spacing, task.freedom) = side, geometry
        task.options = dataclasses.replace(task.options, gap=gap, jitter=jitter)
        whole, each, *_ = task._numbers(cells, 3, generator("cpu", side, "places"))
        top, left = (place.unflatten(1, (3, 3)) for place in task._places(cells, whole, each))
        assert min(top.min(), left.min()) >= 0
        assert max(top.max(), left.max()) + task.patch <= side
        apart = torch.cat([top.diff(dim=1).flatten(), left.diff(dim=2).flatten()])
        assert apart.min() >= task.patch + task.spacing, (side, gap, jitter)
    assert refused < 20


def test_the_grid_is_the_largest_that_fits() -> None:
    for side, gap, jitter in itertools.product(range(24, 97), (0.0, 0.25, 0.5), (0.0, 0.25, 0.5)):
        patch, spacing, freedom = grid_geometry(side, gap, jitter)
        assert (spacing, freedom) == (round(gap * patch), round(jitter * patch))
        assert 3 * (patch + freedom) + 2 * spacing <= side
        larger = patch + 1
        assert 3 * (larger + round(jitter * larger)) + 2 * round(gap * larger) > side
    assert grid_geometry(32, 0.0, 0.25) == (8, 0, 2)


@pytest.mark.parametrize(("side", "gap", "jitter"), [(8, 0.0, 0.25), (20, 0.5, 0.5), (11, 0.0, 0.0)])
def test_an_image_too_small_for_the_grid_is_refused_with_what_would_do(side: int, gap: float, jitter: float) -> None:
    with pytest.raises(ConfigError, match=rf"images of {side} px leave patches of \d px") as error:
        new_task("context_prediction", side=side, gap=gap, jitter=jitter)
    enough = int(str(error.value).split("use images of ")[1].split(" px")[0])
    assert grid_geometry(enough, gap, jitter)[0] >= 4
    with pytest.raises(ConfigError):
        grid_geometry(enough - 1, gap, jitter)


def test_jitter_moves_each_patch_within_its_cell_and_the_grid_as_a_whole() -> None:
    task = raw_task(32, jitter=0.25)  # cells of 10 px, which leave 2 px for the grid
    places = corners(task.draw(maps(500, 32), PLAIN, generator("cpu", 0, "draw")).inputs)
    assert [sorted(places[0, :, g].unique().tolist()) for g in (0, 4, 8)] == [
        list(range(0, 5)),
        list(range(10, 15)),
        list(range(20, 25)),
    ]
    distances = places[1, :, 1] - places[1, :, 0]
    assert sorted(distances.unique().tolist()) == [8, 9, 10, 11, 12]


def test_without_jitter_the_grid_never_moves() -> None:
    task = raw_task(32, jitter=0.0)
    places = corners(task.draw(maps(50, 32), PLAIN, generator("cpu", 0, "draw")).inputs)
    assert (places == places[:, :1]).all()
    assert places[0, 0].tolist() == [1, 1, 1, 11, 11, 11, 21, 21, 21]


def test_cut_reads_the_pixels_at_its_corners() -> None:
    top, left = torch.tensor([[0, 7], [3, 12]]), torch.tensor([[5, 1], [12, 0]])
    patches = cut(images()[:2], top, left, 8)
    for n, g in itertools.product(range(2), range(2)):
        window = images()[n, :, top[n, g] : top[n, g] + 8, left[n, g] : left[n, g] + 8]
        assert torch.equal(patches[n, g], window)


def test_color_dropping_leaves_one_channel_and_faint_noise() -> None:
    patches = sample_batch(raw_task(), policy=PLAIN).inputs
    dropped = sample_batch(raw_task(color_drop=1.0), policy=PLAIN).inputs
    kept = (patches == dropped).all(dim=(3, 4))
    assert (kept.sum(dim=2) == 1).all()
    assert kept.any(dim=(0, 1)).all()  # every channel is kept now and then
    spread = (patches.std(dim=(3, 4)) * kept).sum(dim=2, keepdim=True)
    noise = (dropped - MEAN).std(dim=(3, 4)) / spread
    assert float(noise[~kept].mean()) == pytest.approx(0.01, rel=0.1)
    assert (dropped.mean(dim=(3, 4))[~kept] - MEAN).abs().max() < 0.01


def test_the_probabilities_of_gray_and_color_dropping_are_kept() -> None:
    def gray_share(**options: float) -> float:
        patches = sample_batch(raw_task(**options), policy=PLAIN, n=32).inputs
        return float((patches[:, :, 0] == patches[:, :, 1]).all(dim=(2, 3)).float().mean())

    colorful = sample_batch(raw_task(), policy=PLAIN, n=32).inputs
    assert gray_share(gray=0.0) < 0.05
    assert gray_share(gray=0.66) == pytest.approx(0.66, abs=0.1)
    assert gray_share(gray=1.0) == 1
    half = sample_batch(raw_task(color_drop=0.5), policy=PLAIN, n=32).inputs
    assert float((half == colorful).all(dim=(2, 3, 4)).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_a_standardized_patch_has_zero_mean_and_unit_variance() -> None:
    patches = sample_batch(raw_task(standardize=True), policy=PLAIN).inputs
    seen_by_the_encoder = (patches - MEAN) / STD
    assert seen_by_the_encoder.mean(dim=(2, 3, 4)).abs().max() < 1e-4
    spread = seen_by_the_encoder.std(dim=(2, 3, 4))
    assert spread.median() == pytest.approx(1, abs=0.02)
    assert spread.max() <= 1.0
    assert seen_by_the_encoder.mean(dim=(3, 4)).abs().max() > 0.5  # as a whole: its color is still there


def test_forty_pairs_are_all_neighbors_both_ways() -> None:
    task = raw_task(pairs_per_image=40)
    batch = task.draw(images(side=32)[:2], PLAIN, generator("cpu", 0, "draw"))
    near = {
        (a, b)
        for a, b in itertools.product(range(9), range(9))
        if a != b and max(abs(a // 3 - b // 3), abs(a % 3 - b % 3)) == 1
    }
    assert {tuple(pair) for pair in pairs_of(batch).tolist()} == near
    assert len(pairs_of(batch)) == len(near) == 40


def test_the_chance_level_of_forty_pairs_is_that_of_their_unequal_directions() -> None:
    task = raw_task(pairs_per_image=40)
    labels = task.draw(images(side=32)[:1], PLAIN, generator("cpu", 0, "draw")).targets[0]
    assert labels.bincount().tolist() == [4, 6, 4, 6, 6, 4, 6, 4]
    chance = task.chance(16, training=True)
    assert chance["accuracy"] == pytest.approx(6 / 40)
    assert chance["loss"] == pytest.approx(-4 * 0.15 * math.log(0.15) - 4 * 0.1 * math.log(0.1))
    assert task.chance(16, training=False) == {"loss": pytest.approx(math.log(8)), "accuracy": 1 / 8}


@pytest.mark.parametrize("pairs_per_image", [1, 8])
def test_the_chance_level_of_the_centers_pairs_is_one_in_eight(pairs_per_image: int) -> None:
    chance = raw_task(pairs_per_image=pairs_per_image).chance(16, training=True)
    assert chance == {"loss": pytest.approx(math.log(8)), "accuracy": 1 / 8}


def test_a_single_pair_is_any_of_the_eight_as_often() -> None:
    task = raw_task(20, pairs_per_image=1)
    labels = task.draw(images().repeat(100, 1, 1, 1), PLAIN, generator("cpu", 0, "draw")).targets
    assert (labels.flatten().bincount(minlength=8) / len(labels) - 1 / 8).abs().max() < 0.025


def neighbor_alone(pictures: Tensor, *, hidden: bool = True) -> float:
    """Return the accuracy on fresh draws after a short training, with the center patch hidden or not."""
    task = new_task("context_prediction", neighbor_only=hidden, gray=0.0, standardize=False, jitter=0.0)
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2)
    for step in range(60):
        batch = task.draw(pictures[step % 2 :: 2][:64], PLAIN, generator("cpu", step, "train"))
        optimizer.zero_grad()
        task(batch).objective.backward()
        optimizer.step()
    with torch.no_grad():
        batch = task.draw(pictures[128:], PLAIN, generator("cpu", 1000, "test"))
        return float(task(batch).metrics["accuracy"].mean())


def test_a_neighbor_alone_tells_nothing_where_images_have_no_position_structure() -> None:
    noise = torch.randint(256, (256, 3, 20, 20), dtype=torch.uint8, generator=generator("cpu", 0, "noise"))
    assert neighbor_alone(noise) < 1 / 8 + 4 * math.sqrt(7 / 64 / (128 * 8))


def test_a_neighbor_alone_tells_its_place_where_images_show_it() -> None:
    shown = (
        maps(256, 20).int() * 10 + torch.randint(40, (256, 3, 20, 20), generator=generator("cpu", 0, "maps"))
    ).byte()
    assert neighbor_alone(shown) > 0.5


def test_hiding_the_center_hides_it() -> None:
    task = raw_task(neighbor_only=True)
    torch.nn.init.normal_(task.fusion_head[-1].weight)
    task.eval()
    batch = sample_batch(task)
    changed = batch.inputs.clone()
    changed[:, 4] = 1 - changed[:, 4]
    assert torch.equal(task(batch).metrics["loss"], task(batch._replace(inputs=changed)).metrics["loss"])
    open_eyed = raw_task()
    open_eyed.load_state_dict(task.state_dict())
    open_eyed.eval()
    assert not torch.equal(open_eyed(batch).metrics["loss"], open_eyed(batch._replace(inputs=changed)).metrics["loss"])


def test_the_fusion_head_has_the_norm_that_is_asked_for() -> None:
    kinds = {"batch_no_affine": (torch.nn.BatchNorm1d, False), "batch": (torch.nn.BatchNorm1d, True)}
    for name, (kind, affine) in kinds.items():
        norm = raw_task(head_norm=name).fusion_head[1]
        assert isinstance(norm, kind)
        assert norm.affine == affine
    assert isinstance(raw_task(head_norm="none").fusion_head[1], torch.nn.Identity)
