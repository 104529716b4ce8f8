"""Fused training: each trial's curve and checkpoints are those of training alone, whatever the others do."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import CORE
from tests.trainables.tiny import splits, trial
from trainables import devices
from trainables.errors import FusionError
from trainables.rng import generator
from trainables.tasks import TASKS
from trainables.training import checkpoint
from trainables.training import fused as fused_module
from trainables.training.fused import (
    TIMED_STEPS,
    WARM_UP_STEPS,
    Job,
    check_fusible,
    fit_fused,
    fuses_faster,
    fusible_groups,
)
from trainables.training.loop import Report, build_task, fit
from trainables.training.optimizers import build_optimizer
from trainables.training.stack import Stack
from trainables.trial import TrialConfig

STEPS = 20
# Alone, too, a change of the first weights by 1e-7 of their size moves a gradient's norm by up to 0.9 % in 20 steps.
TOLERANCE = 0.015
ADVERSARIAL = {"adversarial_weight": 0.01}
# The other metrics count predictions among few images, or are errors of small differences: rounding shows in them.
CONTINUOUS = ("train/loss", "val/loss", "val/loss_se", "grad_norm", "health/feature_std", "health/alignment", "lr")

Curve = dict[int, dict[str, float]]


class Recorder:
    """A report callback that keeps the curve of a trial, and each checkpoint as the bytes that a store would keep."""

    def __init__(self, *, stop_at: int | None = None) -> None:
        self.curve: Curve = {}
        self.saved: dict[int, bytes] = {}
        self._stop_at = stop_at

    def __call__(self, report: Report) -> bool:
        self.curve[report.step] = report.metrics
        self.saved[report.step] = checkpoint.to_bytes(report.state())
        return report.step == self._stop_at

    def state(self, step: int) -> dict[str, Any]:
        return checkpoint.from_bytes(self.saved[step], where="here")


def variants(task: str = "rotation", **changes: Any) -> list[TrialConfig]:
    """Return three trials that differ in every number that fused trials may differ in.

    They are trained by SGD: Adam divides gradients by their size, which turns rounding errors of those that should be
    zero (of a bias before BatchNorm) into whole steps.
    """
    plain = trial(task, **{"budget_steps": STEPS, "report_every": STEPS, "optimizer": "sgd", "lr": 0.01, **changes})
    return [
        plain,
        plain.replace(seed=1, lr=2 * plain.lr, weight_decay=0.1, augmentation_strength=0.3, n_images=48),
        plain.replace(
            seed=2, data_seed=3, n_images=40, lr=plain.lr / 2, report_every=STEPS // 2, augmentation={"gray": 0.5}
        ),
    ]


@functools.cache
def alone(config: TrialConfig) -> Recorder:
    recorder = Recorder()
    fit(config, splits(), recorder)
    return recorder


def together(trials: list[TrialConfig], resume: list[dict[str, Any] | None] | None = None) -> list[Recorder]:
    recorders = [Recorder() for _ in trials]
    states = resume or [None] * len(trials)
    fit_fused([Job(*each) for each in zip(trials, recorders, states, strict=True)], splits())
    return recorders


def assert_same(found: Recorder, expected: Recorder) -> None:
    """Check that two runs of a trial agree up to rounding, in their reports and their last checkpoint."""
    assert found.curve.keys() == expected.curve.keys()
    for step, metrics in expected.curve.items():
        assert found.curve[step].keys() == metrics.keys()
        for name in metrics.keys() & set(CONTINUOUS):
            assert found.curve[step][name] == pytest.approx(metrics[name], rel=TOLERANCE, abs=1e-5), (step, name)
    last = max(expected.saved)
    network, other = found.state(last)["task"], expected.state(last)["task"]
    assert network.keys() == other.keys()
    weights, expected_weights = (
        torch.cat([each.flatten() for each in state.values() if each.is_floating_point()]) for state in (network, other)
    )
    assert (weights - expected_weights).norm() < TOLERANCE * expected_weights.norm()


@pytest.mark.parametrize("task", [pytest.param(task, marks=CORE if task != "simclr" else ()) for task in TASKS])
def test_fused_trials_train_as_they_do_alone(task: str) -> None:
    trials = variants(task)
    for fused, config in zip(together(trials), trials, strict=True):
        assert_same(fused, alone(config))


@pytest.mark.slow
@pytest.mark.core
@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_every_optimizer_trains_fused_trials(optimizer: str) -> None:
    trials = variants(optimizer=optimizer, lr=1e-3, budget_steps=10)
    for fused, config in zip(together(trials), trials, strict=True):
        assert_same(fused, alone(config))


@pytest.mark.slow
@pytest.mark.core
def test_a_resnet_and_an_adversarial_loss_can_be_fused() -> None:
    for task, options in (("rotation", {"encoder": "resnet18"}), ("context_encoder", {"options": ADVERSARIAL})):
        config = trial(task, **options, budget_steps=2, batch_size=4, n_images=8, optimizer="sgd")
        trials = [config, config.replace(seed=1, lr=0.01)]
        for fused, each in zip(together(trials), trials, strict=True):
            assert_same(fused, alone(each))


class Scaled(nn.Sequential):
    """A layer, BatchNorm and a parameter without axes."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(5, 4), nn.BatchNorm1d(4))
        self.scale = nn.Parameter(torch.tensor(2.0))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_rows_are_updated_as_by_their_own_optimizers(optimizer: str) -> None:
    configs = [trial(optimizer=optimizer, lr=10.0**-k, weight_decay=0.1 * k) for k in range(1, 4)]
    stacked, separate = ([Scaled() for _ in configs] for _ in range(2))
    for one, other in zip(stacked, separate, strict=True):
        other.load_state_dict(one.state_dict())
    optimizers, expected = (
        [build_optimizer(module, config) for module, config in zip(modules, configs, strict=True)]
        for modules in (stacked, separate)
    )
    stack = Stack(stacked, optimizers)
    for _ in range(5):
        for name in ("0.weight", "0.bias", "1.weight", "1.bias", "scale"):
            stack.tensors[name].grad = torch.randn(stack.tensors[name].shape)
            for k, module in enumerate(separate):
                module.get_parameter(name).grad = stack.tensors[name].grad[k].clone()  # type: ignore[index]
        stack.update()
        for each in expected:
            each.step()
    for k in range(len(configs)):
        for one, other in zip(stacked[k].parameters(), separate[k].parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        one, other = optimizers[k].state_dict(), expected[k].state_dict()
        torch.testing.assert_close(one["state"], other["state"], rtol=1e-5, atol=1e-6)
        assert one["param_groups"] == other["param_groups"]


# --- isolation ---------------------------------------------------------------------------------------------------


def test_a_trial_that_diverges_ends_and_leaves_the_others_alone() -> None:
    plain, *trials = variants()
    # Each step multiplies these weights by about -99.
    wild = plain.replace(seed=9, lr=100.0, weight_decay=1.0, warmup_fraction=0.0, report_every=10)
    diverged, *others = together([wild, *trials])
    assert list(diverged.curve) == [0, 10]
    assert not math.isfinite(diverged.curve[10]["train/loss"])
    for run, config in zip(others, trials, strict=True):
        assert_same(run, alone(config))
        assert all(math.isfinite(value) for value in run.curve[STEPS].values())


def test_a_trial_whose_report_returns_true_ends_and_leaves_the_others_alone() -> None:
    trials = variants()[::2]
    trials[0] = trials[0].replace(report_every=10)
    stopped, other = Recorder(stop_at=10), Recorder()
    encoder, _ = fit_fused([Job(trials[0], stopped), Job(trials[1], other)], splits())
    assert list(stopped.curve) == [0, 10]
    assert_same(other, alone(trials[1]))
    saved = stopped.state(10)["task"]
    for name, weight in encoder.state_dict().items():
        assert torch.equal(weight, saved[f"encoder.{name}"]), name


# --- checkpoints -------------------------------------------------------------------------------------------------


def test_a_trial_may_begin_fused_and_resume_alone_or_the_reverse() -> None:
    trials = [each.replace(report_every=10) for each in variants(optimizer="adamw", lr=1e-3)[:2]]
    fused, separate = together(trials), [alone(config) for config in trials]
    rest = Recorder()
    fit(trials[0], splits(), rest, resume=fused[0].state(10))
    resumed = together(trials, [separate[0].state(10), None])  # at different steps
    assert list(rest.curve) == list(resumed[0].curve) == [STEPS]
    for run, expected in zip([rest, *resumed], [separate[0], *separate], strict=True):
        assert run.curve[STEPS]["train/loss"] == pytest.approx(expected.curve[STEPS]["train/loss"], rel=1e-3)


def test_a_checkpoint_of_a_fused_trial_has_its_own_tensors_only() -> None:
    trials = [each.replace(report_every=10) for each in variants(optimizer="adamw", lr=1e-3)[:2]]
    fused, separate = together(trials)[0], alone(trials[0])
    for step in (10, STEPS):
        assert len(fused.saved[step]) == pytest.approx(len(separate.saved[step]), rel=0.02)
        assert fused.state(step).keys() == separate.state(step).keys()
        optimizers = fused.state(step)["optimizer"], separate.state(step)["optimizer"]
        assert optimizers[0]["param_groups"] == optimizers[1]["param_groups"]
        assert optimizers[0]["state"].keys() == optimizers[1]["state"].keys()


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"width": 8}, "differ in width: 4 and 8"),
        ({"options": {"head_hidden": 16}}, "differ in options"),
        ({"optimizer": "adamw"}, "differ in optimizer: 'sgd' and 'adamw'"),
        ({"batch_size": 8}, "differ in batch_size"),
        ({"task": "simclr"}, "differ in task"),
    ],
)
def test_trials_of_different_shapes_are_refused(changes: dict[str, Any], problem: str) -> None:
    first = trial(optimizer="sgd")
    with pytest.raises(FusionError, match=problem):
        fit_fused([Job(first, Recorder()), Job(first.replace(**changes), Recorder())], splits())


def test_worker_groups_and_tasks_that_do_not_declare_replayable_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FusionError, match="workers = 2"):
        check_fusible([trial(workers=2)])
    monkeypatch.setattr(TASKS["rotation"], "replayable", False)
    with pytest.raises(FusionError, match="replayable"):
        check_fusible([trial()])


class WithDropout(nn.Module):
    """A network that draws numbers in its forward pass."""

    feature_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.dropout(images.mean(dim=(2, 3)) * self.scale, training=self.training)


class WithAnUnusedLayer(WithDropout):
    """A network with a layer that it does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)) * self.scale


@pytest.mark.parametrize(
    ("network", "problem"),
    [(WithDropout, "several trials at once .*random"), (WithAnUnusedLayer, "has no gradient")],
)
def test_networks_that_cannot_be_computed_together_are_refused(network: type, problem: str) -> None:
    config = trial(encoder=f"{__name__}:{network.__name__}")
    with pytest.raises(FusionError, match=problem):
        together([config, config.replace(seed=1)])


# --- groups ------------------------------------------------------------------------------------------------------


def test_groups_hold_trials_that_differ_in_numbers_alone() -> None:
    first, *others = variants()
    wider, larger = first.replace(width=8), first.replace(batch_size=4)
    mixed = [first, wider, *others, larger, wider.replace(seed=5)]
    assert fusible_groups(mixed, 16) == [[first, *others], [wider, wider.replace(seed=5)]]


def test_groups_are_of_about_equal_size_and_never_of_one_trial() -> None:
    seeds = [variants()[0].replace(seed=seed) for seed in range(9)]
    assert [len(group) for group in fusible_groups(seeds, 8)] == [5, 4]
    assert [len(group) for group in fusible_groups(seeds, 2)] == [2, 2, 2, 2]  # the ninth runs alone
    assert fusible_groups(seeds, 1) == fusible_groups([], 8) == []
    assert fusible_groups([each.replace(workers=2) for each in seeds], 8) == []


@pytest.mark.parametrize(("together_s", "pays"), [(2.9, True), (3.1, False)])
def test_fusing_pays_if_a_step_of_all_takes_less_time_than_a_step_of_each(
    together_s: float, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times, timed = iter([1.0, together_s]), []

    def seconds(step: Callable[[], object], device: torch.device) -> float:
        timed.append(step())
        return next(times)

    monkeypatch.setattr(fused_module, "_seconds", seconds)
    assert fuses_faster(variants(), splits(), torch.device("cpu")) == pays
    alone, together = timed
    assert isinstance(alone, dict)
    assert [means.keys() for means in together] == [alone.keys()] * 3


def test_steps_are_timed_after_their_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, steps = [0.0], itertools.count()

    def step() -> None:
        clock[0] += 100.0 if next(steps) < WARM_UP_STEPS else 2.0

    monkeypatch.setattr(devices, "synchronized_time", lambda device: clock[0])
    assert fused_module._seconds(step, torch.device("cpu")) == 2.0 * TIMED_STEPS


@pytest.mark.slow
def test_whether_fusing_pays_is_measured() -> None:
    cpu = torch.device("cpu")
    tiny = [variants()[0].replace(seed=seed, width=1, batch_size=2) for seed in range(24)]  # mostly overhead
    assert fuses_faster(tiny, splits(), cpu)
    wide = [variants()[0].replace(seed=seed, width=64, batch_size=32) for seed in range(2)]  # mostly arithmetic
    assert not fuses_faster(wide, splits(), cpu)


def test_a_number_of_the_task_that_is_no_buffer_is_refused_where_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit_to(self: Any, images: Tensor) -> None:
        self.brightness = float(images.float().mean())

    monkeypatch.setattr(TASKS["rotation"], "fit_to", fit_to)
    first, *others = variants()
    with pytest.raises(FusionError, match="attribute brightness of the task differs between the trials"):
        together([first, *others])
    together([first, first.replace(seed=5, lr=0.5)])


def test_a_graph_of_the_patches_reads_no_tensor_that_fused_training_moves() -> None:
    task = build_task(trial("context_prediction", options={"gray": 1.0}), 20)
    images = torch.rand(4, 3, 20, 20)
    cells = torch.arange(9).expand(4, 9)
    arguments = (images, cells, task.luma_weights.clone(), *task._numbers(cells, 3, generator("cpu", 0, "draw")))
    expected = task._patches(*arguments)
    task.luma_weights.fill_(torch.nan)
    assert torch.equal(task._patches(*arguments), expected)


def test_the_speed_of_a_trial_leaves_out_the_reports_of_others() -> None:
    class Slow(Recorder):
        def __call__(self, report: Report) -> bool:
            time.sleep(0.3)
            return super().__call__(report)

    often, seldom = (variants()[0].replace(seed=seed, report_every=every) for seed, every in ((0, 1), (1, STEPS)))
    slow, other = Slow(), Recorder()
    fit_fused([Job(often, slow), Job(seldom, other)], splits())
    seconds = STEPS * seldom.batch_size / other.curve[STEPS]["images_per_s"]
    assert seconds < 0.3 * STEPS
