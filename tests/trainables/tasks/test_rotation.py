"""Rotation: the label is the rotation of the image, and nothing else reveals it."""

from __future__ import annotations

import torch

from trainables.augmentation import Augmentation
from trainables.rng import generator
from trainables.tasks.rotation import quarter_turns
from trainables.testing.tasks import POLICY, images, new_task, sample_batch


def test_quarter_turns_are_those_of_rot90() -> None:
    for turned, k in zip(quarter_turns(images()), range(4), strict=True):
        assert torch.equal(turned, torch.rot90(images(), k, dims=(2, 3)))


def test_all_four_copies_of_an_image_are_in_the_batch_under_their_labels() -> None:
    task, few = new_task("rotation"), images()[:5]
    batch = task.draw(few, Augmentation({}), generator("cpu", 0, "draw"))
    assert batch.targets.tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    for k in range(4):
        assert torch.equal(batch.inputs[5 * k : 5 * k + 5], torch.rot90(few / 255, k, dims=(2, 3)))


def test_the_label_tells_where_a_marked_corner_went() -> None:
    marked = torch.zeros(3, 3, 20, 20, dtype=torch.uint8)
    marked[:, :, :5, :5] = 255  # top left
    batch = new_task("rotation").draw(marked, Augmentation({}), generator("cpu", 0, "draw"))
    corners = {"top left": (0, 0), "bottom left": (19, 0), "bottom right": (19, 19), "top right": (0, 19)}
    for turned, label in zip(batch.inputs, batch.targets.tolist(), strict=True):
        lit = [name for name, (row, column) in corners.items() if turned[0, row, column] == 1]
        assert lit == [list(corners)[label]]  # counter-clockwise


def test_an_image_is_turned_after_it_is_augmented() -> None:
    batch = sample_batch(new_task("rotation"), policy=POLICY, n=6)
    upright = batch.inputs[:6]
    assert torch.equal(upright, POLICY(images()[:6], generator("cpu", 0, "conformance")))
    for k in range(4):
        assert torch.equal(batch.inputs[6 * k : 6 * k + 6], torch.rot90(upright, k, dims=(2, 3)))


def test_validation_images_stay_as_they_are() -> None:
    task = new_task("rotation").eval()
    batch = task.draw(images()[:4], Augmentation(task.validation_policy), generator("cpu", 0, "draw"))
    assert torch.equal(batch.inputs[:4], images()[:4] / 255)


def test_a_hidden_layer_in_the_head_starts_at_chance_too() -> None:
    task = new_task("rotation", head_hidden=16)
    metrics = task(sample_batch(task)).metrics
    chance = task.chance(8, training=True)
    assert len(task.classifier) == 4
    torch.testing.assert_close(metrics["loss"], torch.full((32,), chance["loss"]))
    assert metrics["accuracy"].mean() == chance["accuracy"] == 0.25
