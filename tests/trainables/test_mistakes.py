"""Mistakes of the original report: each check passes on our code and fails on the mistake itself.

`docs/mistakes.md` lists them all, with the tests elsewhere that catch the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.trainables.tiny import splits, trial
from trainables.augmentation import Augmentation
from trainables.data import Splits
from trainables.data.table import ImageTable
from trainables.errors import CheckpointError
from trainables.probes.evaluation import evaluate
from trainables.ray_adapter.storage import CheckpointStore
from trainables.rng import generator
from trainables.tasks import Batch, shuffled
from trainables.tasks.context_prediction import cut
from trainables.testing.tasks import images, new_task
from trainables.training.loop import build_task, fit

ROOT = Path(__file__).resolve().parents[2]
PLAIN = Augmentation({})
Change = Callable[[Tensor], Tensor]


def test_labels_follow_their_inputs_into_another_place_of_the_batch() -> None:
    """Labels in another order than their inputs make a task that cannot be learned, while a probe looks fine."""

    def belong_together(change: Callable[[Batch], Batch]) -> bool:
        task = build_task(trial("rotation", options={}), 20)
        batch = change(task.draw(images(8, 20), PLAIN, generator("cpu", 0, "draw")))
        upright = [torch.rot90(view, -int(label), dims=(1, 2)) for view, label in zip(*batch[:2], strict=True)]
        return torch.equal(torch.stack(upright), (images(8, 20) / 255).repeat(4, 1, 1, 1))

    assert belong_together(lambda batch: batch)
    assert not belong_together(lambda batch: shuffled(batch, generator("cpu", 0, "shuffle")))


def once(pixels: Tensor) -> Tensor:
    return pixels


def twice_in_uint8(pixels: Tensor) -> Tensor:
    return (pixels.float() * 255).to(torch.int64).remainder(256).to(torch.uint8)  # 256 - x: a negative


@pytest.mark.parametrize(("scaled", "right"), [(once, True), (twice_in_uint8, False)])
def test_a_patch_has_the_pixels_of_its_image_scaled_once(scaled: Change, right: bool) -> None:
    options = {"gray": 0.0, "color_drop": 0.0, "standardize": False, "jitter": 0.0, "gap": 0.1}
    task = new_task("context_prediction", side=32, pairs_per_image=8, **options)
    photographs = images(8, 32)
    batch = task.draw(scaled(photographs), PLAIN, generator("cpu", 0, "draw"))
    pitch = task.patch + task.spacing
    first = (32 - 3 * pitch + task.spacing + 1) // 2
    cells = torch.arange(9).expand(8, 9)
    expected = cut(photographs / 255, first + pitch * (cells // 3), first + pitch * (cells % 3), task.patch)
    assert torch.equal(batch.inputs, expected) == right


def test_a_missing_checkpoint_is_an_error_and_never_a_random_model(tmp_path: Path) -> None:
    from trainables.ray_adapter.trainable import trained_encoder

    probing = trial("rotation", init_from="0123456789ab", budget_steps=0)
    with pytest.raises(CheckpointError, match="no checkpoint of trial 0123456789ab"):
        trained_encoder(probing, CheckpointStore(str(tmp_path)), splits())


def test_the_encoder_that_is_probed_is_the_one_that_was_trained(tmp_path: Path) -> None:
    from trainables.ray_adapter.trainable import trained_encoder

    store, trained = CheckpointStore(str(tmp_path)), trial("rotation", lr=0.01)
    encoder = fit(trained, splits(), lambda report: store.save(trained.trial_id, report.state()))  # type: ignore[arg-type,return-value]
    found = trained_encoder(trained.replace(init_from=trained.trial_id), store, splits())
    weights = dict(found.named_parameters())
    assert all(torch.equal(weights[name], weight) for name, weight in encoder.named_parameters())
    untrained = build_task(trained, 20).encoder.state_dict()
    assert not all(torch.equal(weights[name], untrained[name]) for name in weights)


def colored(n_images: int, first: int, seed: int) -> ImageTable:
    """Return images of three colors, red, green and blue, which are the classes beginning with number `first`."""
    rng = np.random.default_rng(seed)
    color = np.arange(n_images) % 3
    pixels = rng.integers(0, 60, (n_images, 3, 16, 16))
    pixels[np.arange(n_images), color] += 120
    return ImageTable("colored", pixels.astype(np.uint8), (color + first) % 3, class_names=("a", "b", "c"))


def test_a_probe_is_refitted_where_the_classes_mean_something_else() -> None:
    """The original bars of 9 to 11% are the accuracy of a probe that was fitted to other classes, or to none."""
    probing = trial("raw_pixels", probe_datasets=("colored",), probe_split="test", budget_steps=0)

    def score(fitted_to: int, judged_on: int) -> float:
        train, validation, test = colored(60, fitted_to, 0), colored(30, fitted_to, 1), colored(90, judged_on, 2)
        datasets = {"colored": Splits(train, validation, train, validation, test)}
        return evaluate(probing, None, datasets, torch.device("cpu")).results["probe/colored/linear"]

    assert score(fitted_to=0, judged_on=0) == score(fitted_to=1, judged_on=1) == 1
    assert score(fitted_to=0, judged_on=1) == 0


def test_every_test_that_the_list_of_mistakes_names_is_there() -> None:
    listed = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8"))
    assert len(listed) >= 15
    for path, name in listed:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"def {name}\(", text), f"{path} has no {name}"


def test_an_encoder_whose_last_checkpoint_is_damaged_is_not_replaced_by_an_earlier_one(tmp_path: Path) -> None:
    from trainables.ray_adapter.trainable import trained_encoder

    store, trained = CheckpointStore(str(tmp_path)), trial("rotation")
    saved: list[str] = []
    fit(trained, splits(), lambda report: saved.append(store.save(trained.trial_id, report.state())))  # type: ignore[func-returns-value]
    content = bytearray(Path(saved[-1]).read_bytes())
    content[len(content) // 2] ^= 1
    Path(saved[-1]).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"the last checkpoint of trial \w+ under .* is damaged"):
        trained_encoder(trained.replace(init_from=trained.trial_id), store, splits())
