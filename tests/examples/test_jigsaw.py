"""The example of a plug-in: jigsaw puzzles pass the conformance suite, learn on real images, and run as a study."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.conftest import REPOSITORY
from trainables import plugins
from trainables.augmentation import Augmentation
from trainables.data import load_splits
from trainables.data.table import as_tensor
from trainables.errors import ConfigError
from trainables.rng import generator
from trainables.tasks import shuffled
from trainables.tasks.self_test import make_task
from trainables.testing import TaskConformance
from trainables.testing.tasks import SELF_TESTS, new_task

PLUGIN = REPOSITORY / "examples" / "jigsaw" / "jigsaw_task.py"
STEPS, BATCH = 150, 64


@pytest.fixture(scope="module", autouse=True)
def jigsaw() -> Iterator[None]:
    """Jigsaw puzzles are a task during these tests alone."""
    plugin = plugins.find(str(PLUGIN))
    plugins.load(plugin)
    yield
    plugins.unload(plugin)


@pytest.mark.parametrize("name", ["jigsaw"])
class TestJigsaw(TaskConformance):
    """The conformance suite; its self-tests train for half a minute."""

    defining = {"jigsaw": frozenset({"grid", "permutations", "normalize"})}  # noqa: RUF012 - a constant of the suite

    @pytest.mark.slow
    @pytest.mark.parametrize("self_test", SELF_TESTS, ids=lambda test: test.__name__)
    def test_passes_the_self_test(self, name: str, self_test: Any) -> None:
        super().test_passes_the_self_test(name, self_test)


def test_permutations_are_distinct_and_far_apart() -> None:
    orders = new_task("jigsaw", grid=3, permutations=50).orders
    different = (orders[:, None] != orders[None]).sum(dim=2).float()
    assert (orders.sort(dim=1).values == torch.arange(9)).all()
    assert different[~torch.eye(50, dtype=torch.bool)].mean() > 8.1  # 8 for permutations drawn at random
    assert len(orders.unique(dim=0)) == 50
    assert len(new_task("jigsaw").orders.unique(dim=0)) == 24


def test_tiles_are_shown_in_the_order_of_the_target() -> None:
    task = new_task("jigsaw", normalize=False)
    half = task.image_size // 2
    levels = torch.tensor([0, 60, 120, 240], dtype=torch.uint8)  # of the four tiles, row by row
    picture = levels.view(2, 2).repeat_interleave(half, dim=0).repeat_interleave(half, dim=1)
    batch = task.draw(picture.expand(16, 3, -1, -1).contiguous(), Augmentation({}), generator("cpu", 0, "jigsaw"))
    shown = (batch.inputs.mean(dim=(1, 2, 3)) * 255).round().view(16, 4)
    inside = batch.inputs.flatten(1)
    assert torch.equal(shown, levels.float()[task.orders[batch.targets]])
    torch.testing.assert_close(inside.amax(dim=1), inside.amin(dim=1))  # no tile reaches into another cell


def test_its_options_are_refused_where_there_are_not_so_many_permutations() -> None:
    with pytest.raises(ConfigError, match=r"task_options\.jigsaw\.permutations = 25: 4 tiles have 24"):
        new_task("jigsaw", permutations=25)


@pytest.mark.slow
def test_it_learns_on_photographs_and_its_shuffled_control_does_not(data_root: Path) -> None:
    splits = load_splits("cifar10", root=data_root, max_train=3000)
    train, held_out = (as_tensor(table.images) for table in (splits.pretext_train, splits.pretext_validation))
    found = {control: _accuracy_after_training(train, held_out, control) for control in (False, True)}
    chance, error = 1 / 24, np.sqrt(1 / 24 * 23 / 24 / len(held_out))
    assert found[False] > chance + 6 * error, found
    assert abs(found[True] - chance) < 4 * error, found


def _accuracy_after_training(train: torch.Tensor, held_out: torch.Tensor, control: bool) -> float:
    """Return the accuracy on held-out images; the control is trained on shuffled targets."""
    task = make_task("jigsaw", train)
    optimizer = torch.optim.AdamW(task.parameters(), lr=2e-3)
    stream, policy = generator("cpu", 0, "train"), Augmentation({"flip": 1.0})
    for _ in range(STEPS):
        chosen = torch.randint(len(train), (BATCH,), generator=stream)
        batch = task.draw(train[chosen], policy, stream)
        optimizer.zero_grad()
        task(shuffled(batch, stream) if control else batch).objective.backward()
        optimizer.step()
    with torch.no_grad():
        batch = task.eval().draw(held_out, Augmentation({}), generator("cpu", 1, "held out"))
        return float(task(batch).metrics["accuracy"].mean())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_study_of_it_runs_from_the_command_line_and_its_encoder_embeds_images(tmp_path: Path) -> None:
    small = ("budget_steps=4", "report_every=2", "max_train=200", "search.num_samples=1", "confirm.seeds=2")
    settings = [word for setting in (*small, "ablate.designs=[]") for word in ("--set", setting)]
    _run(tmp_path, "study/run.py", "quick", "--plugin", str(PLUGIN), "--tasks", "jigsaw", *settings)
    study = tmp_path / "studies" / "quick"
    assert (study / "plugins" / PLUGIN.name).read_bytes() == PLUGIN.read_bytes()
    assert "jigsaw" in (study / "report.html").read_text(encoding="utf-8")
    (tmp_path / "photos").mkdir()
    for index in range(3):
        picture = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "photos" / f"{index}.png")
    _run(tmp_path, "-m", "study", "embed", str(study), "photos", "--task", "jigsaw", "--output", "features.csv")
    features = pd.read_csv(tmp_path / "features.csv").drop(columns="path")
    assert len(features) == 3
    assert np.isfinite(features.to_numpy()).all()


def _run(folder: Path, *arguments: str) -> None:
    """Run a command in a folder, whose study is on a local Ray of its own."""
    left_out = {"MLFLOW_TRACKING_URI", "RAY_ADDRESS"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    words = [str(REPOSITORY / word) if word.startswith("study/") else word for word in arguments]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
