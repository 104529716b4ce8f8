"""Behavior on a GPU only: augmentation and steps are replayed as CUDA graphs, and no step waits for the device."""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tests.trainables import tiny
from tests.trainables.smooth_images import smooth_images
from trainables.augmentation import OPS, Augmentation
from trainables.augmentation.cuda_graphs import MAX_GRAPHS
from trainables.probes.linear import lbfgs_path, linear_probe
from trainables.probes.newton import NewtonPath
from trainables.tasks import TASKS
from trainables.training import loop
from trainables.training.fused import Job, fit_fused

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

EVERYTHING = dict.fromkeys(OPS, 1.0)


def everything_for(task: str) -> dict[str, float]:
    return {op: 1.0 for op in OPS if op not in TASKS[task].refused_ops}


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def on_gpu(seed: int) -> torch.Generator:
    return torch.Generator("cuda").manual_seed(seed)


@pytest.mark.parametrize("policy", [EVERYTHING, {"flip": 1.0, "color_jitter": 0.5}, {}], ids=["all", "two ops", "none"])
def test_recorded_views_are_to_the_bit_those_of_an_augmentation_that_was_never_called_before(policy: Any) -> None:
    augmentation = Augmentation(policy)
    for seed in range(4):
        images = smooth_images(32).roll(seed, dims=0).cuda()
        fresh = Augmentation(policy)(images, on_gpu(seed))
        assert torch.equal(augmentation(images, on_gpu(seed)), fresh)


@pytest.mark.parametrize("options", [{}, {"color_drop": 0.5, "pairs_per_image": 1}, {"jitter": 0.0, "gray": 0.0}])
def test_recorded_patches_are_to_the_bit_those_of_a_task_that_has_drawn_none_before(options: dict[str, Any]) -> None:
    trial = tiny.trial("context_prediction", options=options, augmentation=EVERYTHING)
    task, augmentation = loop.build_task(trial, 32).cuda(), Augmentation(EVERYTHING)
    for seed in range(4):
        images = smooth_images(32).roll(seed, dims=0).cuda()
        fresh = loop.build_task(trial, 32).cuda().draw(images, Augmentation(EVERYTHING), on_gpu(seed))
        drawn = task.draw(images, augmentation, on_gpu(seed))
        assert torch.equal(drawn.inputs, fresh.inputs)
        assert torch.equal(drawn.targets, fresh.targets)


def test_a_call_leaves_the_views_of_the_call_before_alone() -> None:
    images, augmentation = smooth_images(32).cuda(), Augmentation(EVERYTHING)
    augmentation(images, on_gpu(0))
    first = augmentation(images, on_gpu(1))
    kept = first.clone()
    assert not torch.equal(augmentation(images, on_gpu(2)), kept)
    assert torch.equal(first, kept)


def test_batches_of_many_sizes_are_augmented_alike_though_not_all_are_recorded() -> None:
    augmentation = Augmentation(EVERYTHING)
    for _ in range(3):
        for n in range(1, MAX_GRAPHS + 4):
            images = smooth_images(n).cuda()
            assert torch.equal(augmentation(images, on_gpu(n)), Augmentation(EVERYTHING)(images, on_gpu(n)))
    assert len(augmentation._graphs._by_shape) == MAX_GRAPHS


def test_old_recordings_that_wait_to_be_collected_do_not_spoil_a_new_one() -> None:
    images, thresholds = smooth_images(32).cuda(), gc.get_threshold()
    for seed in range(4):
        circle: list[Any] = [Augmentation(EVERYTHING)]
        circle.append(circle)
        for _ in range(2):
            circle[0](images, on_gpu(seed))
    del circle
    augmentation = Augmentation(EVERYTHING)
    augmentation(images, on_gpu(0))
    gc.set_threshold(1, 1, 1)
    try:
        views = augmentation(images, on_gpu(1))
    finally:
        gc.set_threshold(*thresholds)
    assert torch.equal(views, Augmentation(EVERYTHING)(images, on_gpu(1)))


def test_an_augmentation_does_not_wait_for_the_device() -> None:
    images, generator, augmentation = smooth_images().cuda(), on_gpu(0), Augmentation(EVERYTHING)
    for _ in range(2):
        augmentation(images, generator)
    with waiting_is_an_error():
        views = augmentation(images, generator)
    assert views.device == images.device
    assert views.shape == images.shape


@pytest.mark.parametrize("task", TASKS)
def test_no_step_between_two_reports_waits_for_the_device(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = loop._RunningMeans.values

    def at_the_report(means: Any) -> dict[str, float]:
        torch.cuda.set_sync_debug_mode("default")
        return values(means)

    def report(found: loop.Report) -> None:
        reached.append(found.step)
        if found.step == 3:  # everything has been made, warmed up and recorded
            torch.cuda.set_sync_debug_mode("error")

    monkeypatch.setattr(loop._RunningMeans, "values", at_the_report)
    reached: list[int] = []
    trial = tiny.trial(
        task, budget_steps=9, report_every=3, augmentation=everything_for(task), augmentation_strength=0.5
    )
    try:
        loop.fit(trial, tiny.splits(), report, worker=loop.Worker(torch.device("cuda")))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert reached == [0, 3, 6, 9]


def trained(task: str, *, resume: dict[str, Any] | None = None) -> tuple[dict[str, Any], list[loop.Report]]:
    """Return the encoder's state after nine steps and all reports; each keeps its checkpoint."""
    reports, states = [], []

    def report(found: loop.Report) -> None:
        reports.append(found)
        states.append(copy.deepcopy(found.state()))

    trial = tiny.trial(
        task, budget_steps=9, report_every=3, augmentation=everything_for(task), augmentation_strength=0.5
    )
    encoder = loop.fit(trial, tiny.splits(), report, worker=loop.Worker(torch.device("cuda")), resume=resume)
    return {"encoder": encoder.state_dict(), "states": states}, reports


@pytest.mark.parametrize("task", TASKS)
def test_replayed_steps_train_like_launched_ones_and_resume(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert TASKS[task].replayable
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    replayed, reports = trained(task)
    again, _ = trained(task, resume=replayed["states"][1])
    monkeypatch.setattr(TASKS[task], "replayable", False)
    launched, expected = trained(task)
    for found, other in zip(reports, expected, strict=True):
        for name in ("train/loss", "grad_norm") if found.step else ():
            assert found.metrics[name] == pytest.approx(other.metrics[name], rel=1e-4)
    for name, value in launched["encoder"].items():
        torch.testing.assert_close(replayed["encoder"][name], value, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(again["encoder"][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_fused_trials_train_on_a_gpu_as_they_do_alone(task: str) -> None:
    device = torch.device("cuda")
    first = tiny.trial(task, budget_steps=9, report_every=3, augmentation=everything_for(task), optimizer="sgd")
    trials = [first, first.replace(seed=1, lr=3e-3, augmentation_strength=0.5)]
    together: list[list[loop.Report]] = [[], []]
    jobs = [Job(trial, reports.append) for trial, reports in zip(trials, together, strict=True)]
    fit_fused(jobs, tiny.splits(), device=device)
    for trial, reports in zip(trials, together, strict=True):
        alone: list[loop.Report] = []
        loop.fit(trial, tiny.splits(), alone.append, worker=loop.Worker(device))
        for found, expected in zip(reports, alone, strict=True):
            for name in ("train/loss", "val/loss"):  # the passes round to bfloat16
                if name in expected.metrics:
                    assert found.metrics[name] == pytest.approx(expected.metrics[name], rel=0.02)


def test_a_loss_that_diverges_ends_a_replayed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "lr_at", lambda trial, step: 1e30)
    reports: list[loop.Report] = []
    trial = tiny.trial("rotation", budget_steps=60, report_every=5)
    loop.fit(trial, tiny.splits(), reports.append, worker=loop.Worker(torch.device("cuda")))
    assert reports[-1].step < 60
    assert not math.isfinite(reports[-1].metrics["train/loss"])


def test_an_online_probe_scores_like_l_bfgs() -> None:
    draw = on_gpu(0)
    y = torch.arange(2000, device="cuda") % 10
    x = torch.randn(10, 192, device="cuda", generator=draw)[y] + 3 * torch.randn(
        2000, 192, device="cuda", generator=draw
    )
    splits = (x[:1500], y[:1500], x[1500:], y[1500:])
    fitted = [linear_probe(*splits, n_classes=10, path=path).validation.top1 for path in (lbfgs_path, NewtonPath())]
    assert abs(fitted[0] - fitted[1]) * 500 <= 1.001
