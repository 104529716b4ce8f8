"""Per-image validation: whose values are whose, fair statistics, affordable numbers, and errors of paired changes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainables.tiny import SIDE, splits, trial
from trainables.data.table import ImageTable, as_tensor
from trainables.tasks import TASKS, PretextTask
from trainables.training.loop import build_task, fit
from trainables.training.validation import History, SampleSizes, Validation, sample_sizes

CPU = torch.device("cpu")
CHOSEN = SampleSizes(images=16, batch=8, draws=1, calibration=32)


def built(name: str) -> PretextTask:
    """Return a task whose head is not zero any more, so that its predictions depend on the images."""
    task = build_task(trial(name), SIDE)
    task.fit_to(as_tensor(splits().pretext_train.images))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in task.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return task


def measured(task: PretextTask, validation: ImageTable, chosen: SampleSizes = CHOSEN) -> dict[str, torch.Tensor]:
    return Validation(task, splits().pretext_train, validation, chosen, CPU).per_image()


def other_image(table: ImageTable, row: int) -> ImageTable:
    images = table.images.copy()
    images[row] = splits().test.images[3]
    return dataclasses.replace(table, images=images)


@pytest.mark.parametrize("name", ["rotation", "context_encoder", "context_prediction"])
def test_a_value_belongs_to_its_image_alone(name: str) -> None:
    task, table = built(name), splits().pretext_validation
    before, after = measured(task, table), measured(task, other_image(table, 5))
    changed = (before["loss"] != after["loss"]).nonzero().flatten().tolist()
    assert changed == [5]


def test_the_two_views_of_an_image_are_averaged() -> None:
    task = built("simclr")
    samples = torch.tensor([0.0, 1.0, 2.0, 10.0, 11.0, 12.0])  # views of three images, then their other views
    assert task.by_image(samples, 3).tolist() == [5.0, 6.0, 7.0]


@pytest.mark.parametrize("name", TASKS)
def test_the_running_statistics_neither_matter_nor_change(name: str) -> None:
    task, table = built(name), splits().pretext_validation
    expected = measured(task, table)
    for module in task.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.fill_(3.0)
            module.momentum = 0.25
    buffers = {key: value.clone() for key, value in task.state_dict().items()}
    found = measured(task, table)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert all(torch.equal(value, buffers[key]) for key, value in task.state_dict().items())
    norms = [module for module in task.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert {norm.momentum for norm in norms} == {0.25}
    assert all(norm.training for norm in norms)


def test_several_draws_are_averaged_where_they_differ() -> None:
    chosen = dataclasses.replace(CHOSEN, draws=4)
    table = splits().pretext_validation
    rotation = Validation(built("rotation"), splits().pretext_train, table, chosen, CPU)
    assert rotation.draws == 1  # its validation images are not augmented
    inpainting = built("context_encoder")
    once, often = measured(inpainting, table), measured(inpainting, table, chosen)
    assert not torch.equal(once["loss"], often["loss"])
    assert len(often["loss"]) == 16
    several = Validation(inpainting, splits().pretext_train, table, chosen, CPU)
    assert several.draws == 4


def test_a_value_is_the_mean_of_its_images_draws() -> None:
    task, table = built("context_encoder"), splits().pretext_validation
    chosen = dataclasses.replace(CHOSEN, draws=4)
    validation = Validation(task, splits().pretext_train, table, chosen, CPU)
    measure, each = validation._measure, []

    def record(images: torch.Tensor, draw: int) -> dict[str, torch.Tensor]:
        each.append(measure(images, draw))
        return each[-1]

    validation._measure = record  # type: ignore[method-assign]
    found = validation.per_image()
    assert len(each) == 4
    assert all(not torch.equal(each[0]["loss"], other["loss"]) for other in each[1:])
    for name, values in found.items():
        np.testing.assert_allclose(values, np.mean([draw[name].numpy() for draw in each], axis=0), rtol=1e-12)
    torch.testing.assert_close(each[0]["loss"], measured(task, table)["loss"])  # the first draw is that of a single one


@pytest.mark.parametrize("n_validation", [1, 25, 200, 1000, 10_000])
@pytest.mark.parametrize(
    ("steps", "every", "batch"), [(50, 25, 32), (500, 25, 128), (2000, 500, 128), (20_000, 50, 256)]
)
def test_validation_takes_all_images_that_five_percent_of_the_trial_pay_for(
    n_validation: int, steps: int, every: int, batch: int
) -> None:
    config = trial(budget_steps=steps, report_every=every, batch_size=batch)
    chosen = sample_sizes(config, n_train=1000, n_validation=n_validation)
    passes = (steps / every + 1) * (chosen.images * chosen.draws + chosen.calibration)
    affordable = 0.05 * 2.5 * steps * batch
    if chosen.images > chosen.batch or chosen.draws > 1:
        assert passes <= affordable
    if chosen.images + chosen.batch <= n_validation and passes <= affordable:  # another batch would cost too much
        assert passes + (steps / every + 1) * chosen.batch > affordable
    assert chosen.images % chosen.batch == 0
    assert chosen.batch <= 100
    assert 1 <= chosen.images <= n_validation
    assert chosen.batch == sample_sizes(trial(), 1000, n_validation).batch


def test_errors_of_changes_are_those_of_paired_differences() -> None:
    rng = np.random.default_rng(0)
    easy = rng.normal(size=200)  # how easy each image is, the same at all reports
    values = [easy + 0.1 * step + 0.05 * rng.normal(size=200) for step in range(5)]
    history = History()
    for step, each in enumerate(values):
        metrics = history.add(10 * step, {"loss": torch.from_numpy(each)})
    recent = values[4] - values[2]  # the last quarter and the second quarter of five reports
    assert metrics["val/loss"] == pytest.approx(values[4].mean())
    assert metrics["val/loss_se"] == pytest.approx(values[4].std(ddof=1) / math.sqrt(200), rel=1e-5)
    assert metrics["val/loss_recent_se"] == pytest.approx(recent.std(ddof=1) / math.sqrt(200), rel=1e-4)
    gain = values[4] - values[0]
    assert metrics["val/loss_gain_se"] == pytest.approx(gain.std(ddof=1) / math.sqrt(200), rel=1e-4)
    assert metrics["val/loss_recent_se"] < metrics["val/loss_se"] / 5


def test_a_history_forgets_reports_that_are_made_again_and_images_that_are_others() -> None:
    history = History()
    for step in (0, 10, 20):
        history.add(step, {"loss": torch.full((8,), float(step)) + torch.arange(8)})
    again = History(history.state())
    assert again.add(20, {"loss": torch.arange(8.0)}).keys() == history.add(20, {"loss": torch.arange(8.0)}).keys()
    assert again.state()["steps"].tolist() == [0, 10, 20]
    others = again.add(30, {"loss": torch.arange(4.0)})
    assert others.keys() == {"val/loss", "val/loss_se"}
    assert again.state()["steps"].tolist() == [30]


def test_a_trial_that_resumes_from_an_older_checkpoint_reports_no_errors_of_changes() -> None:
    states: list = []
    config = trial()
    fit(config, splits(), lambda report: states.append(report.state()))
    old = {name: value for name, value in states[1].items() if name != "validation"}
    found: list = []
    fit(config, splits(), found.append, resume=old)
    assert "val/loss_se" in found[-1].metrics
    assert not any(name.endswith(("_gain_se", "_recent_se")) for name in found[-1].metrics)
