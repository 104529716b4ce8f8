"""Three self tests of a pretext task: it can learn, it cannot cheat, and it starts at chance.

They run as ordinary tests and as `--self-test` before a study, on the study's own images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainables.augmentation import Augmentation
from trainables.encoders import build_encoder
from trainables.rng import generator
from trainables.tasks import TASKS, Batch, PretextTask, build_options, shuffled

IMAGES = 64
STEPS = 300
SHUFFLED_STEPS = 60
CHANCE_TOLERANCE = 0.1
LR = 3e-3
SOLVED_ACCURACY = 0.99
SOLVED_FRACTION = 0.5  # of the mean image's error: an inpainting that has learned its batch
SHUFFLED_FRACTION = 0.98


@dataclass(frozen=True)
class SelfTest:
    """One self test's outcome: the measured value, the bound it was held against, and whether it kept it."""

    task: str
    test: str
    metric: str
    value: float
    bound: float
    passed: bool


def self_tests(name: str, images: torch.Tensor, *, options: dict | None = None, seed: int = 0) -> list[SelfTest]:
    """Run the three self tests of one task on images (uint8 [N, 3, S, S], N >= 128)."""
    return [
        starts_at_chance(make_task(name, images, options, seed), images),
        overfits_one_batch(make_task(name, images, options, seed), images),
        stays_at_chance_when_shuffled(make_task(name, images, options, seed), images),
    ]


def make_task(name: str, images: torch.Tensor, options: dict | None = None, seed: int = 0) -> PretextTask:
    """Return a task on a small untrained encoder, fitted to `images`."""
    kind = TASKS[name]
    encoder = build_encoder("conv4", width=16, image_size=images.shape[-1], seed=seed)
    task = kind(encoder, build_options(kind, options or {}), images.shape[-1], seed)
    task.fit_to(images)
    return task.to(memory_format=torch.channels_last)


@torch.no_grad()
def starts_at_chance(task: PretextTask, images: torch.Tensor) -> SelfTest:
    """Check that the untrained task's loss is within 10 % of the stated chance level."""
    task.eval()
    batch = task.draw(images[:IMAGES], Augmentation(task.validation_policy), generator("cpu", 0, "self-test"))
    metric = "loss_fraction" if task.primary_metric == "val/loss_fraction" else "loss"
    chance = task.chance(IMAGES, training=False)[metric]
    task.train()
    # BatchNorm must see data once: an untrained encoder has no statistics to evaluate with.
    value = float(task(batch).metrics[metric].mean())
    passed = abs(value / chance - 1) <= CHANCE_TOLERANCE
    return SelfTest(task.name, "starts at chance", metric, value, chance, passed)


def overfits_one_batch(task: PretextTask, images: torch.Tensor) -> SelfTest:
    """Check that the task learns one fixed batch by heart."""
    task.train()
    fixed = task.draw(images[:IMAGES], Augmentation(task.validation_policy), generator("cpu", 0, "self-test"))
    value = _train(task, lambda step: fixed, STEPS, until=_solved)
    bound = SOLVED_FRACTION if task.primary_mode == "min" else SOLVED_ACCURACY
    return SelfTest(task.name, "overfits one batch", _metric(task), value, bound, _solved(task, value))


def stays_at_chance_when_shuffled(task: PretextTask, images: torch.Tensor) -> SelfTest:
    """Check that nothing is learned where targets and inputs do not belong together.

    Every step draws a new batch and shuffles its targets; new shuffled batches are then predicted. The bound on an
    accuracy is four standard errors above chance; an inpainting may not get below 0.98 of the mean image's error.
    """

    augmentation = Augmentation(task.validation_policy)

    def draw(step: int) -> Batch:
        stream = generator("cpu", 0, "self-test", step)
        rows = torch.randperm(len(images), generator=stream)[:IMAGES]
        return shuffled(task.draw(images[rows], augmentation, stream), stream)

    task.train()
    _train(task, draw, SHUFFLED_STEPS)
    metric = _metric(task)
    with torch.no_grad():
        samples = torch.cat([task(draw(STEPS + i)).metrics[metric] for i in range(8)])
    value, chance = float(samples.mean()), task.chance(IMAGES, training=True)[metric]
    if task.primary_mode == "min":
        bound, passed = SHUFFLED_FRACTION, value >= SHUFFLED_FRACTION
    else:
        bound = chance + 4 * math.sqrt(chance * (1 - chance) / len(samples))
        passed = value <= bound
    return SelfTest(task.name, "shuffled stays at chance", metric, value, bound, passed)


def _train(
    task: PretextTask,
    draw: Callable[[int], Batch],
    steps: int,
    until: Callable[[PretextTask, float], bool] = lambda task, value: False,
) -> float:
    """Train until `until` says so or the steps are used up; return the last batch's metric."""
    optimizer = torch.optim.AdamW(task.parameters(), lr=LR)
    value = math.nan
    for step in range(steps):
        output = task(draw(step))
        optimizer.zero_grad(set_to_none=True)
        output.objective.backward()
        optimizer.step()
        value = float(output.metrics[_metric(task)].mean())
        if until(task, value):
            break
    return value


def _solved(task: PretextTask, value: float) -> bool:
    return value <= SOLVED_FRACTION if task.primary_mode == "min" else value >= SOLVED_ACCURACY


def _metric(task: PretextTask) -> str:
    return task.primary_metric.removeprefix("val/")
