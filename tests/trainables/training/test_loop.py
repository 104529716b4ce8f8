"""The loop: reports where they are due, resumes to the bit, and keeps its random streams apart."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import CORE
from tests.trainables.tiny import SIDE, splits, trial, with_unreadable_test
from trainables.data.table import as_tensor
from trainables.errors import ConfigError, DataError
from trainables.tasks import TASKS
from trainables.tasks.rotation import Rotation
from trainables.training import checkpoint
from trainables.training.batches import batches
from trainables.training.loop import Report, Worker, build_task, fit
from trainables.training.monitor import Monitor
from trainables.training.optimizers import lr_at
from trainables.training.shortcuts import CONTROLS
from trainables.trial import ONLINE_SCORES, TrialConfig

HEALTH = {f"health/{name}" for name in ("feature_std", "rankme", "uniformity", "alignment")}


class Run:
    """A finished fit: its reports, and the checkpoint of each as the bytes that a store would keep."""

    def __init__(self, trial: TrialConfig, *, resume: bytes | None = None, **arguments: Any) -> None:
        self.reports: list[Report] = []
        self.saved: dict[int, bytes] = {}
        state = None if resume is None else checkpoint.from_bytes(resume, where="here", trial_id=trial.trial_id)
        self.encoder = fit(trial, arguments.pop("splits", splits()), self._keep, resume=state, **arguments)

    def _keep(self, report: Report) -> None:
        self.reports.append(report)
        self.saved[report.step] = checkpoint.to_bytes(report.state())

    @property
    def steps(self) -> list[int]:
        return [report.step for report in self.reports]

    def curve(self) -> dict[int, dict[str, float]]:
        """Return all metrics by step, without the one that is a clock's."""
        clock = "images_per_s"
        return {
            report.step: {name: value for name, value in report.metrics.items() if name != clock}
            for report in self.reports
        }

    def weights(self, step: int) -> dict[str, Tensor]:
        return checkpoint.from_bytes(self.saved[step], where="here")["task"]


@contextmanager
def recorded_draws(task: str = "rotation") -> Iterator[list[tuple[Tensor, int]]]:
    """Record the images and the seed of the generator of every training draw of a task."""
    draws: list[tuple[Tensor, int]] = []
    original = TASKS[task].draw

    def draw(self: Any, images: Tensor, augmentation: Any, generator: torch.Generator) -> Any:
        if self.training:
            draws.append((images.clone(), generator.initial_seed()))
        return original(self, images, augmentation, generator)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TASKS[task], "draw", draw)
        yield draws


def test_the_hook_runs_after_every_step_and_sees_the_new_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(Rotation, "after_step", lambda self: seen.append(self.classifier[-1].weight.detach().clone()))
    run = Run(trial(budget_steps=4))
    assert len(seen) == 4
    assert torch.equal(seen[1], run.weights(2)["classifier.0.weight"])
    assert torch.equal(seen[3], run.weights(4)["classifier.0.weight"])
    assert not torch.equal(seen[1], seen[0])


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# --- reports -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "every", "expected"),
    [(6, 2, [0, 2, 4, 6]), (5, 2, [0, 2, 4, 5]), (3, 10, [0, 3]), (1, 1, [0, 1]), (0, 2, [0])],
)
def test_reports_come_at_the_start_every_few_steps_and_at_the_end(budget: int, every: int, expected: list) -> None:
    with recorded_draws() as draws:
        run = Run(trial(budget_steps=budget, report_every=every))
    assert run.steps == expected
    assert len(draws) == budget


@pytest.mark.parametrize("task", TASKS)
def test_a_report_has_every_metric_of_a_curve(task: str) -> None:
    run = Run(trial(task, budget_steps=2))
    first, last = run.reports
    samples = {name.removeprefix("val/") for name in first.facts["chance"] if name.startswith("val/")}
    validation = {f"val/{name}{end}" for name in samples for end in ("", "_se")} | {*ONLINE_SCORES} | HEALTH
    assert first.metrics.keys() == validation
    training = {f"train/{name}" for name in samples} | {"images_per_s", "lr", "grad_norm"}
    changes = {f"val/{name}_{change}_se" for name in samples for change in ("gain", "recent")}
    controls = {f"shortcut/{cue}{end}" for cue in CONTROLS for end in ("", "_se") if TASKS[task].has_shortcuts}
    assert last.metrics.keys() == validation | training | changes | controls
    assert all(math.isfinite(value) for value in last.metrics.values())
    assert last.metrics["lr"] == lr_at(trial(task, budget_steps=2), 1)
    assert last.metrics["grad_norm"] > 0


def test_features_are_measured_as_often_as_the_trial_says_and_nothing_else_changes() -> None:
    often, seldom = (Run(trial(budget_steps=8, probe_every=every)).curve() for every in (None, 5))
    assert [step for step, metrics in seldom.items() if "probe/linear" in metrics] == [0, 6, 8]
    for step, metrics in seldom.items():
        measured = trial(budget_steps=8, probe_every=5).measures_features(step)
        assert metrics.keys() == {name for name in often[step] if measured or not name.startswith(("probe", "health"))}
        assert metrics == {name: often[step][name] for name in metrics}


def test_a_trial_that_diverges_is_measured_at_its_end_whatever_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Rotation) -> None:
        with torch.no_grad():
            self.classifier[-1].bias.fill_(math.nan)

    monkeypatch.setattr(Rotation, "after_step", broken)
    curve = Run(trial(budget_steps=8, probe_every=6)).curve()
    assert list(curve) == [0, 2]
    assert "probe/linear" in curve[2]


@pytest.mark.parametrize(
    ("probe_every", "expected"),
    [(None, [0, 2, 4, 6, 8, 9]), (1, [0, 2, 4, 6, 8, 9]), (4, [0, 4, 8, 9]), (3, [0, 4, 6, 9]), (50, [0, 9])],
)
def test_features_are_measured_at_the_first_report_from_each_multiple_on(probe_every: Any, expected: list) -> None:
    each = trial(budget_steps=9, probe_every=probe_every)
    assert [step for step in (0, 2, 4, 6, 8, 9) if each.measures_features(step)] == expected


@pytest.mark.parametrize("task", TASKS)
def test_the_untrained_network_is_reported_at_chance(task: str) -> None:
    report = Run(trial(task, budget_steps=0)).reports[0]
    metrics, chance = report.metrics, report.facts["chance"]
    if task == "context_encoder":  # the chance level of its loss is measured on the training images
        assert metrics["val/loss_fraction"] == pytest.approx(chance["val/loss_fraction"], abs=1e-5)
    elif task == "simclr":  # colors tell the views of two images apart before any training
        assert metrics["val/loss"] < chance["val/loss"]
    else:
        assert metrics["val/loss"] == pytest.approx(chance["val/loss"], rel=1e-5)
        assert metrics["val/accuracy"] == chance["val/accuracy"]


@pytest.mark.parametrize("task", TASKS)
def test_facts_hold_what_a_verdict_needs(task: str) -> None:
    facts = Run(trial(task, budget_steps=0, n_images=40)).reports[0].facts
    kind = TASKS[task]
    assert (facts["primary_metric"], facts["primary_mode"]) == (kind.primary_metric, kind.primary_mode)
    assert facts["n_train"] == 40
    predictions = {"rotation": 4, "context_encoder": 1, "simclr": 2, "context_prediction": 8}
    assert facts["n_validation"] == 16 * predictions[task]
    assert facts["n_validation_images"] == 16
    assert facts["n_queries"] == 16
    assert facts["parameters"] > 1000
    if task == "simclr":
        assert facts["chance"]["train/loss"] == pytest.approx(math.log(31))  # batches of 16
        assert facts["chance"]["val/loss"] == pytest.approx(math.log(31))


def test_train_metrics_are_means_since_the_last_report() -> None:
    fine, coarse = Run(trial(report_every=1)).curve(), Run(trial(report_every=3)).curve()
    for name in ("train/loss", "train/accuracy"):
        mean = np.mean([fine[step][name] for step in (4, 5, 6)])
        assert coarse[6][name] == pytest.approx(mean, rel=1e-6)
    assert coarse[6]["val/loss"] == fine[6]["val/loss"]  # looking more often changes nothing


def test_the_validation_is_the_same_whatever_the_augmentation_and_the_learning_rate() -> None:
    changes: tuple[dict[str, Any], ...] = ({}, {"augmentation": {}}, {"lr": 0.1, "batch_size": 8})
    first, *others = [Run(trial("simclr", budget_steps=0, **change)).curve()[0] for change in changes]
    assert all(other["val/loss"] == first["val/loss"] for other in others)
    assert all(other["health/alignment"] == first["health/alignment"] for other in others)


def test_health_is_measured_on_the_same_images_whatever_the_validation_may_cost() -> None:
    made = splits(n_validation=250)
    found = []
    for budget_steps in (6, 6000):
        config = trial(budget_steps=budget_steps, report_every=budget_steps)
        monitor = Monitor(config, build_task(config, SIDE), made.pretext_train, made, torch.device("cpu"))
        found.append((monitor.facts["n_validation_images"], monitor.features()))
    assert found[0][0] < found[1][0]
    assert found[0][1] == found[1][1]


def test_the_encoder_that_is_returned_is_the_one_of_the_last_report() -> None:
    run = Run(trial())
    weights = {f"encoder.{name}": value for name, value in run.encoder.state_dict().items()}
    last = run.weights(6)
    assert equal(weights, {name: last[name] for name in weights})
    assert not equal(last, run.weights(0))


def test_training_never_reads_the_test_split() -> None:
    for task in TASKS:
        Run(trial(task, budget_steps=1), splits=with_unreadable_test(splits()))


def test_images_without_labels_train_too() -> None:
    tables = dataclasses.asdict(splits()) | {"probe_train": None, "probe_validation": None}
    bare: dict[str, Any] = {
        name: None if table is None else dataclasses.replace(getattr(splits(), name), labels=None, class_names=())
        for name, table in tables.items()
    }
    metrics = Run(trial(budget_steps=1), splits=dataclasses.replace(splits(), **bare)).reports[-1].metrics
    assert not {"probe/knn", "probe/linear"} & metrics.keys()
    assert metrics.keys() >= HEALTH


# --- resuming ----------------------------------------------------------------------------------------------------

RESUMED = [
    *({"task": task} for task in TASKS),
    pytest.param({"task": "context_encoder", "options": {"adversarial_weight": 0.01}}, marks=CORE),
    pytest.param({"task": "rotation", "optimizer": "sgd"}, marks=CORE),
    pytest.param({"task": "rotation", "optimizer": "lars", "lr": 1.0}, marks=CORE),
]


@pytest.mark.parametrize("changes", RESUMED, ids=lambda changes: "-".join(map(str, changes.values())))
def test_a_resumed_trial_gives_the_same_curve_to_the_bit(changes: dict) -> None:
    config = trial(**changes)  # 4 steps per epoch, so step 6 is in the second
    whole = Run(config)
    for step in (0, 2, 4):
        resumed = Run(config, resume=whole.saved[step])
        expected = {at: metrics for at, metrics in whole.curve().items() if at > step or at == step == 0}
        assert resumed.curve() == expected
        assert equal(resumed.weights(6), whole.weights(6))


def test_a_trial_that_wakes_up_at_its_end_reports_again_and_trains_nothing() -> None:
    whole = Run(trial())
    with recorded_draws() as draws:
        again = Run(trial(), resume=whole.saved[6])
    assert again.steps == [6]
    assert not draws
    assert equal(again.weights(6), whole.weights(6))
    expected = {name: value for name, value in whole.curve()[6].items() if name.startswith(("val/", "probe/"))}
    assert {name: again.curve()[6][name] for name in expected} == expected


def test_a_state_may_be_resumed_twice() -> None:
    state = checkpoint.from_bytes(Run(trial(lr=0.1)).saved[2], where="here")
    curves = []
    for _ in range(2):
        reports: list[Report] = []
        fit(trial(lr=0.1), splits(), reports.append, resume=state)
        curves.append([report.metrics["train/loss"] for report in reports])
    assert curves[0] == curves[1]


def test_a_resumed_trial_decays_weights_as_it_is_told_now() -> None:
    saved = Run(trial(lr=0.1)).saved[2]
    state = checkpoint.from_bytes(saved, where="here")
    reports: list[dict[str, Any]] = []
    fit(trial(lr=0.1, weight_decay=0.5), splits(), lambda report: reports.append(report.state()), resume=state)
    assert [group["weight_decay"] for group in reports[-1]["optimizer"]["param_groups"]] == [0.5, 0.0]


# --- random streams ----------------------------------------------------------------------------------------------


def images_of(draws: list[tuple[Tensor, int]]) -> list[Tensor]:
    return [images for images, _ in draws]


def test_augmentation_changes_neither_initialization_nor_order() -> None:
    runs, orders, seeds = [], [], []
    for policy in ({}, {"crop_resize": 1.0, "noise": 1.0}):
        with recorded_draws() as draws:
            runs.append(Run(trial(augmentation=policy)))
        orders.append(images_of(draws))
        seeds.append([seed for _, seed in draws])
    assert equal(runs[0].weights(0), runs[1].weights(0))
    assert not equal(runs[0].weights(6), runs[1].weights(6))
    assert all(torch.equal(a, b) for a, b in zip(*orders, strict=True))
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 6  # every step augments anew


def test_one_seed_starts_from_the_same_weights_whatever_else_differs() -> None:
    changes = ({}, {"batch_size": 8}, {"lr": 0.1}, {"n_images": 32}, {"optimizer": "sgd"}, {"data_seed": 1})
    first, *others = [Run(trial(budget_steps=0, **change)).weights(0) for change in changes]
    assert all(equal(first, other) for other in others)


def test_another_seed_changes_weights_order_and_augmentation() -> None:
    runs, recorded = [], []
    for seed in (0, 1):
        with recorded_draws() as draws:
            runs.append(Run(trial(seed=seed)))
        recorded.append(list(draws))
    name = "encoder.blocks.0.0.weight"
    assert not torch.equal(runs[0].weights(0)[name], runs[1].weights(0)[name])
    for (images, seed), (other_images, other_seed) in zip(*recorded, strict=True):
        assert not torch.equal(images, other_images)
        assert seed != other_seed


def test_encoders_of_different_tasks_start_alike() -> None:
    weights = [Run(trial(task, budget_steps=0)).encoder.state_dict() for task in TASKS]
    assert all(equal(weights[0], other) for other in weights[1:])


def test_global_random_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = Run(trial()).curve()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert Run(trial()).curve() == first
    assert torch.equal(torch.get_rng_state(), before)


class Forgetful(nn.Module):
    """An encoder with dropout, and with noise that is there in evaluation, too."""

    feature_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).mean(dim=(2, 3)) + 0.01 * torch.rand(len(images), 4)


def test_layers_that_draw_numbers_draw_those_of_the_seed_and_the_step() -> None:
    forgetful = trial(encoder=f"{__name__}:Forgetful")
    torch.manual_seed(1)
    run = Run(forgetful)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, resumed, ended = Run(forgetful), Run(forgetful, resume=run.saved[4]), Run(forgetful, resume=run.saved[6])
    assert torch.equal(torch.get_rng_state(), before)
    assert again.curve() == run.curve()
    assert resumed.curve() == {6: run.curve()[6]}
    measured = {name: value for name, value in run.curve()[6].items() if name.startswith(("val/", "probe/", "health/"))}
    assert ended.curve()[6].items() >= measured.items()
    assert Run(forgetful.replace(seed=1)).curve() != run.curve()


def test_the_images_of_a_smaller_subset_are_among_those_of_a_larger() -> None:
    def seen(n_images: int) -> set[bytes]:
        with recorded_draws() as draws:
            Run(trial(n_images=n_images, batch_size=n_images, budget_steps=1))
        return {image.numpy().tobytes() for images in images_of(draws) for image in images}

    assert len(seen(16)) == 16
    assert seen(16) < seen(32)


# --- batches -----------------------------------------------------------------------------------------------------


def test_every_epoch_is_a_permutation() -> None:
    rows = np.stack(list(batches(trial(budget_steps=12), 64, first=0))).reshape(3, 64)
    assert (np.sort(rows, axis=1) == np.arange(64)).all()
    assert len(np.unique(rows, axis=0)) == 3


def test_what_is_left_over_by_one_epoch_is_seen_in_others() -> None:
    rows = np.stack(list(batches(trial(budget_steps=40), 70, first=0))).reshape(10, 64)
    assert all(len(set(epoch)) == 64 for epoch in rows)
    assert set(rows.flatten()) == set(range(70))


def test_batches_go_on_in_the_middle_of_an_epoch() -> None:
    whole = list(batches(trial(budget_steps=12), 64, first=0))
    for first in range(13):
        rest = list(batches(trial(budget_steps=12), 64, first=first))
        assert all((a == b).all() for a, b in zip(rest, whole[first:], strict=True))


def test_workers_share_every_batch_among_them() -> None:
    seen = []
    for rank in (0, 1):
        with recorded_draws() as draws:
            worker = Worker(rank=rank, world_size=2)
            reports = Run(trial(), worker=worker).reports
        seen.append(list(draws))
        assert ("val/loss" in reports[-1].metrics) == (rank == 0)  # one worker looks at the validation
    images = as_tensor(splits().pretext_train.images)
    for rows, (first, seed), (second, other_seed) in zip(batches(trial(), 64, first=0), *seen, strict=True):
        assert len(first) == len(second) == 8
        assert torch.equal(torch.cat([first, second]), images[torch.from_numpy(rows)])
        assert seed == other_seed


@pytest.mark.parametrize(
    ("changes", "workers", "message"),
    [
        ({"batch_size": 65}, 1, r"shapes: batch_size = 65 is more than the 64 .* at most 64"),
        ({"batch_size": 32, "n_images": 20}, 1, r"batch_size = 32 is more than the 20"),
        ({"batch_size": 15}, 2, r"batch_size = 15 cannot be shared by workers = 2"),
        ({"batch_size": 2}, 2, r"batch_size = 2 cannot be shared by workers = 2"),
        ({"batch_size": 1}, 1, r"batch_size = 1 .* at least 2"),
    ],
)
def test_batches_that_cannot_be_made_are_refused(changes: dict, workers: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Run(trial(**changes), worker=Worker(world_size=workers))


def test_more_images_than_there_are_is_refused() -> None:
    with pytest.raises(DataError, match="n_images = 65, but only 64"):
        Run(trial(n_images=65))


# --- divergence --------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_trial_after_a_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    original, steps = Rotation.draw, itertools.count(1)

    def draw(self: Rotation, *arguments: Any) -> Any:
        batch = original(self, *arguments)
        return batch._replace(inputs=batch.inputs * math.nan) if self.training and next(steps) == 3 else batch

    monkeypatch.setattr(Rotation, "draw", draw)
    run = Run(trial(budget_steps=20))
    assert run.steps == [0, 2, 4]
    last = run.reports[-1].metrics
    assert math.isnan(last["train/loss"])
    assert math.isfinite(run.reports[1].metrics["train/loss"])
    assert all(math.isnan(last[name]) for name in ("val/loss", "probe/linear", "probe/knn", "health/rankme"))

    with recorded_draws() as draws:
        again = Run(trial(budget_steps=20), resume=run.saved[4])
    assert again.steps == [4]
    assert not draws
    expected = {name: value for name, value in last.items() if name.startswith(("val/", "probe/", "health/"))}
    found = {name: again.reports[0].metrics[name] for name in expected}
    np.testing.assert_equal(found, expected)  # with NaN in the same places
