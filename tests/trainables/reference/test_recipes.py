"""The reference recipes: the published network, the probe of the paper, pieces of a training, and lightly's loss."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.trainables import tiny
from trainables.augmentation import Augmentation
from trainables.encoders import build_encoder
from trainables.errors import CheckpointError, ConfigError, DataError
from trainables.reference import lightly_task, running
from trainables.reference.probes import adam_probe
from trainables.reference.recipes import LIGHTLY_TASK, RECIPES, Recipe, chosen
from trainables.reference.running import obstacle, read_result, results, run_recipe
from trainables.tasks import TASKS
from trainables.tasks.simclr import SimCLR, nt_xent_logits
from trainables.training.loop import build_task

CPU, POLICY = torch.device("cpu"), Augmentation({"flip": 1.0})
ROTATION = next(recipe for recipe in RECIPES if recipe.name == "conv4-rotation")
LIGHTLY = next(recipe for recipe in RECIPES if recipe.name == "lightly")

needs_lightly = pytest.mark.skipif(importlib.util.find_spec("lightly") is None, reason="lightly is not installed")


def small(recipe: Recipe) -> Recipe:
    """Return a recipe of six steps with one seed, for the images of `tiny.splits`."""
    trial = recipe.trial.replace(batch_size=16, budget_steps=6, report_every=2)
    return replace(recipe, trial=trial, seeds=(0,), n_images=10)


def quiet(line: str) -> None:
    """Ignore a line."""


def test_the_network_of_the_paper_pools_between_four_stages_of_8_to_64_channels():
    network = build_encoder(ROTATION.trial.encoder, width=ROTATION.trial.width)
    shapes = [tuple(stage.shape[1:]) for stage in network.stages(torch.rand(2, 3, 32, 32))]
    assert shapes == [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert sum(weight.numel() for weight in network.parameters()) == 24_648  # 24,408 of convolutions, 240 of BatchNorm


def test_a_training_in_two_pieces_gives_the_result_of_one_and_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(running, "CHECKPOINT_S", 0.0)
    recipe, splits = small(ROTATION), tiny.splits()
    whole = run_recipe(recipe, splits, tmp_path / "whole", CPU, quiet)

    def stop_at_step_4(line: str) -> None:
        if "step 4" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, splits, tmp_path / "pieces", CPU, stop_at_step_4)
    lines: list[str] = []
    pieces = run_recipe(recipe, splits, tmp_path / "pieces", CPU, lines.append)
    assert "step 0" not in " ".join(lines)
    assert [each.accuracy for each in pieces] == [each.accuracy for each in whole]
    assert run_recipe(recipe, splits, tmp_path / "pieces", CPU, pytest.fail) == pieces
    assert results(recipe, tmp_path / "pieces") == pieces


def test_a_damaged_result_is_named_with_its_remedy(tmp_path: Path):
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(DataError, match=r"result.json: not a readable result; delete it to run the trial again"):
        read_result(tmp_path / "result.json")


def test_a_damaged_checkpoint_is_named_with_its_remedy(tmp_path: Path):
    recipe, saved = small(ROTATION), tmp_path / "half.pt"
    saved.write_bytes(b"half")
    with pytest.raises(
        CheckpointError, match=r"half.pt: not a readable checkpoint .*; delete it to train from the start"
    ):
        running.train(recipe, recipe.trial, tiny.splits(), saved, CPU, quiet)


def test_a_learning_rate_that_stays_constant_trains_another_network_than_a_cosine():
    def trained(recipe: Recipe) -> torch.Tensor:
        encoder, _ = running.train(recipe, recipe.trial, tiny.splits(), Path("absent.pt"), CPU, quiet)
        return torch.cat([weight.flatten() for weight in encoder.parameters()])

    recipe = small(ROTATION)
    assert recipe.constant_lr
    assert not torch.equal(trained(recipe), trained(replace(recipe, constant_lr=False)))


def test_recipes_that_cannot_run_here_say_what_they_need():
    reasons = {recipe.name: obstacle(recipe, tiny.splits(), CPU) for recipe in RECIPES}
    assert reasons["conv4-rotation"] == "needs 50,000 training images, and there are 80"
    assert obstacle(replace(RECIPES[-1], n_images=10), tiny.splits(), CPU).startswith("needs an NVIDIA GPU")
    assert "pretext-study[reference]" in obstacle(
        replace(LIGHTLY, n_images=10, needs="no_such_library"), tiny.splits(), CPU
    )


def test_an_unknown_recipe_is_refused_with_the_closest_name():
    with pytest.raises(ConfigError, match="no reference recipe 'conv4-rotatoin'; did you mean 'conv4-rotation'"):
        chosen(["conv4-rotatoin"])


def test_the_probe_of_the_paper_separates_what_a_line_separates():
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    features = F.one_hot(labels, 3) * 4.0 + torch.randn(300, 3, generator=draw)
    classifier = adam_probe(features, labels, 3, seed=0, epochs=200)
    assert (classifier(features).argmax(dim=1) == labels).float().mean() > 0.9


@needs_lightly
def test_our_nt_xent_is_lightlys():
    from lightly.loss import NTXentLoss

    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(12, 8, generator=draw) for _ in range(2))
    logits, positives = nt_xent_logits(first, second, 0.5, gather=False)
    torch.testing.assert_close(F.cross_entropy(logits, positives), NTXentLoss(temperature=0.5)(first, second))


@needs_lightly
def test_lightlys_task_draws_its_own_repeatable_views_for_training_only():
    lightly_task.register()
    try:
        trial = LIGHTLY.trials[1].replace(batch_size=8)
        assert trial.task == LIGHTLY_TASK
        ours, theirs = (build_task(trial.replace(task=name), tiny.SIDE) for name in (SimCLR.name, LIGHTLY_TASK))
        images = torch.tensor(tiny.splits().pretext_train.images[:8])
        running_views = [theirs.draw(images, POLICY, torch.Generator().manual_seed(3)) for _ in range(2)]
        assert torch.equal(running_views[0].inputs, running_views[1].inputs)
        assert not torch.equal(running_views[0].inputs, running_views[0].targets)
        assert 0 <= running_views[0].inputs.min() < running_views[0].inputs.max() <= 1
        batches = [task.eval().draw(images, POLICY, torch.Generator().manual_seed(3)) for task in (ours, theirs)]
        assert torch.equal(batches[0].inputs, batches[1].inputs)
    finally:
        TASKS.remove(LIGHTLY_TASK)
