"""Context encoder: the hole is hidden from the network, and the reference is the mean image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.augmentation import Augmentation
from trainables.errors import ConfigError
from trainables.rng import generator
from trainables.tasks import Batch, PretextTask
from trainables.tasks.context_encoder import OVERLAP_WEIGHT
from trainables.testing.tasks import SIDE, images, new_task, sample_batch

PLAIN = Augmentation({})
MASKS = [{"mask": "center"}, {"mask": "random_blocks", "block_size": 4}, {"mask": "center", "overlap": 2}]


def plain_batch(task: PretextTask, pictures: Tensor | None = None) -> Batch:
    pictures = images(side=task.image_size)[:8] if pictures is None else pictures
    return task.draw(pictures, PLAIN, generator("cpu", 0, "draw"))


def weight_of(batch: Batch) -> Tensor:
    return batch.extras["weight"]


@pytest.mark.parametrize("options", MASKS)
def test_what_the_hole_hides_cannot_be_told_from_the_input(options: dict) -> None:
    task = new_task("context_encoder", **options)
    batch = plain_batch(task)
    hole = weight_of(batch) == 1
    changed = torch.where(hole, 255 - images()[:8], images()[:8])
    again = plain_batch(task, changed)
    assert torch.equal(again.inputs, batch.inputs)
    assert torch.equal(weight_of(again), weight_of(batch))
    assert (again.targets != batch.targets)[hole.expand_as(again.targets)].any()


@pytest.mark.parametrize("options", MASKS)
def test_everything_outside_the_hole_is_visible(options: dict) -> None:
    task = new_task("context_encoder", **options)
    batch = plain_batch(task)
    hole = (weight_of(batch) == 1).expand_as(batch.inputs)
    assert torch.equal(batch.inputs[~hole], (images()[:8] / 255)[~hole])
    assert torch.equal(batch.targets, images()[:8] / 255)


def test_the_hole_is_filled_with_the_mean_color_of_the_training_images() -> None:
    task = new_task("context_encoder", mask="center")
    batch = plain_batch(task)
    hole = weight_of(batch)[0, 0] == 1
    color = (images() / 255).mean(dim=(0, 2, 3))
    torch.testing.assert_close(batch.inputs[0][:, hole], color[:, None].expand(3, int(hole.sum())))


def test_the_overlap_band_is_visible_and_counts_ten_times() -> None:
    task = new_task("context_encoder", side=32, mask="center", overlap=2)
    mask = weight_of(plain_batch(task))[0, 0]
    expected = torch.zeros(32, 32)
    expected[8:24, 8:24] = 10
    expected[10:22, 10:22] = 1
    assert torch.equal(mask, expected)


def test_the_objective_is_the_weighted_error_of_the_painted_region() -> None:
    for kind in ("l2", "l1"):
        task = new_task("context_encoder", mask="center", overlap=2, loss=kind)
        batch = plain_batch(task)
        difference = task.mean_image - batch.targets  # what an untrained decoder paints
        error = difference.square() if kind == "l2" else difference.abs()
        weight = weight_of(batch)
        assert {*weight.unique().tolist()} == {0.0, 1.0, OVERLAP_WEIGHT}
        by_image = (error * weight).sum(dim=(1, 2, 3)) / (3 * weight.sum(dim=(1, 2, 3)))
        output = task(batch)
        assert output.objective.item() == pytest.approx(by_image.mean().item(), rel=1e-5)
        in_hole = (weight == 1).expand_as(error)
        expected = torch.stack([each[hole].mean() for each, hole in zip(error, in_hole, strict=True)])
        torch.testing.assert_close(output.metrics["loss"], expected)


def test_a_band_that_would_leave_no_hole_is_left_out() -> None:
    task = new_task("context_encoder", side=32, mask="center", mask_ratio=0.05, overlap=16)
    mask = weight_of(plain_batch(task))
    assert {*mask.unique().tolist()} == {0.0, 1.0}


@pytest.mark.parametrize("ratio", [0.05, 0.25, 0.5, 0.9])
def test_the_masked_share_is_the_ratio(ratio: float) -> None:
    center = weight_of(plain_batch(new_task("context_encoder", side=32, mask="center", mask_ratio=ratio)))
    assert abs(math.sqrt(float(center[0].mean())) - math.sqrt(ratio)) <= 0.5 / 32  # a side in whole pixels
    blocks = weight_of(plain_batch(new_task("context_encoder", side=32, block_size=4, mask_ratio=ratio)))
    shares = blocks.mean(dim=(1, 2, 3))
    assert ((shares - ratio).abs() <= 0.5 * 16 / 32**2).all()  # whole blocks


def test_blocks_that_do_not_divide_the_side_mask_the_ratio_on_average() -> None:
    task = new_task("context_encoder", side=20, block_size=8, mask_ratio=1 / 3)
    masks = weight_of(task.draw(images().repeat(40, 1, 1, 1), PLAIN, generator("cpu", 0, "draw")))
    assert float(masks.mean()) == pytest.approx(1 / 3, abs=0.01)


def test_every_image_and_every_step_has_random_blocks_of_its_own() -> None:
    task = new_task("context_encoder", block_size=4)
    first, second = (weight_of(sample_batch(task, seed=seed)) for seed in (0, 1))
    assert not torch.equal(first, second)
    assert len(first.flatten(1).unique(dim=0)) == len(first)


@pytest.mark.parametrize("options", [{"mask": "center"}, {"mask": "random_blocks", "block_size": 10}])
@pytest.mark.parametrize("side", [8, 20])
def test_something_stays_visible_at_the_largest_ratio(options: dict, side: int) -> None:
    if side == 8 and "block_size" in options:
        options = {**options, "block_size": 4}
    task = new_task("context_encoder", side=side, mask_ratio=0.9, **options)
    assert (weight_of(plain_batch(task)) == 0).flatten(1).any(dim=1).all()


def test_a_block_that_would_hide_the_whole_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task_options.context_encoder.block_size = 20: .* at most 10"):
        new_task("context_encoder", side=20, block_size=20)


def test_an_untrained_decoder_paints_the_mean_image_and_scores_one() -> None:
    for kind in ("l2", "l1"):
        task = new_task("context_encoder", loss=kind)
        for training in (True, False):
            batch = sample_batch(task.train(training))
            metrics = task(batch).metrics
            assert float(metrics["loss_fraction"].mean()) == pytest.approx(1, abs=1e-5)


def test_painting_the_truth_scores_zero_and_a_wrong_color_more_than_one() -> None:
    task = new_task("context_encoder", mask="center")
    for level, color in ((255, 40.0), (0, -40.0)):  # the ends of the output's range are those of the targets'
        task.decoder[-1].bias.data.fill_(color)
        right = plain_batch(task, torch.full((4, 3, SIDE, SIDE), level, dtype=torch.uint8))
        wrong = plain_batch(task, torch.full((4, 3, SIDE, SIDE), 255 - level, dtype=torch.uint8))
        assert float(task(right).metrics["loss_fraction"].mean()) == pytest.approx(0, abs=1e-6)
        assert float(task(wrong).metrics["loss"].mean()) == pytest.approx(1, abs=1e-4)  # never beyond the range
        assert float(task(wrong).metrics["loss_fraction"].mean()) > 1


def test_the_mean_image_is_that_of_the_images_it_was_fitted_to() -> None:
    for kind in ("l2", "l1"):
        task = new_task("context_encoder", loss=kind)
        pictures = images() / 255
        torch.testing.assert_close(task.mean_image, pictures.mean(dim=0))
        difference = pictures - pictures.mean(dim=0)
        error = difference.square().mean() if kind == "l2" else difference.abs().mean()
        assert task.chance(8, training=True)["loss"] == pytest.approx(float(error), rel=1e-5)


def test_a_mean_image_of_many_images_is_exact() -> None:
    many = torch.randint(256, (2500, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator("cpu", 0, "many"))
    task = new_task("context_encoder")
    task.fit_to(many)
    torch.testing.assert_close(task.mean_image, many.double().div(255).mean(dim=0).float())


def test_the_discriminator_learns_and_the_decoder_gets_its_gradient_reversed() -> None:
    weight = 0.01
    task = new_task("context_encoder", adversarial_weight=weight)
    batch = plain_batch(task)
    region = weight_of(batch) > 0
    painted = torch.rand(batch.targets.shape, generator=generator("cpu", 0, "painted"), requires_grad=True)
    critics = list(task.discriminator.parameters())

    found = torch.autograd.grad(task._adversarial(painted, batch.targets, region), [painted, *critics])
    real = task.discriminator(batch.targets)
    fake = task.discriminator(torch.where(region, painted, batch.targets))
    loss = F.binary_cross_entropy_with_logits(real, torch.ones_like(real)) + F.binary_cross_entropy_with_logits(
        fake, torch.zeros_like(fake)
    )
    expected = torch.autograd.grad(loss, [painted, *critics])
    torch.testing.assert_close(found[0], -weight * expected[0], rtol=1e-4, atol=0)
    for ours, theirs in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert all(gradient.abs().sum() > 0 for gradient in found)


def test_the_adversarial_term_is_part_of_training_only() -> None:
    plain, adversarial = new_task("context_encoder"), new_task("context_encoder", adversarial_weight=0.5)
    batch = plain_batch(plain)
    assert adversarial(batch).objective.item() > plain(batch).objective.item() + 1  # two coin flips cost 2 ln 2
    assert adversarial.eval()(batch).objective.item() == pytest.approx(plain.eval()(batch).objective.item())
    assert not hasattr(plain, "discriminator")
