"""Self-tests of a pretext task: it starts at chance, can learn, and cannot learn from shuffled targets.

They run in the test suite and, with `--self-test`, on a study's own images before the study.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from trainables.augmentation import Augmentation
from trainables.encoders import build_encoder
from trainables.rng import generator
from trainables.tasks import TASKS, Batch, Metric, PretextTask, build_options, shuffled

IMAGES = 64
STEPS = 300
SHUFFLED_STEPS = 60
CHANCE_TOLERANCE = 0.1
LR = 3e-3
# Bounds on the primary metric: shares for a metric with direction `max`, fractions of its level at chance for one with
# direction `min`.
SOLVED_SHARE = 0.99
SOLVED_FRACTION = 0.5
SHUFFLED_FRACTION = 0.98
OP_STEPS = 100
KEPT_SHARE, LEAKED_SHARE = 0.55, 0.1  # measured: rotation keeps 0.71 with `crop_resize`, 0.38 with a vertical flip


@dataclass(frozen=True)
class SelfTest:
    """Outcome of one self-test: the measured value, its bound, and whether the value is within it."""

    task: str
    test: str
    metric: str
    value: float
    bound: float
    passed: bool


def self_tests(name: str, images: torch.Tensor, *, options: dict | None = None, seed: int = 0) -> list[SelfTest]:
    """Run the three self-tests of one task.

    Args:
        name: Name of the task.
        images: uint8, uint16 or float32 [N, C, S, S]; batches have at most IMAGES of them.
        options: Options that differ from the task's defaults.
        seed: Seed of the initialization.
    """
    return [
        starts_at_chance(make_task(name, images, options, seed), images),
        overfits_one_batch(make_task(name, images, options, seed), images),
        stays_at_chance_when_shuffled(make_task(name, images, options, seed), images),
    ]


def make_task(name: str, images: torch.Tensor, options: dict | None = None, seed: int = 0) -> PretextTask:
    """Return a task on a small untrained encoder, fitted to `images`."""
    kind = TASKS[name]
    encoder = build_encoder("conv4", width=16, image_size=images.shape[-1], in_channels=images.shape[1], seed=seed)
    task = kind(encoder, build_options(kind, options or {}), images.shape[-1], seed)
    task.fit_to(images)
    return task.to(memory_format=torch.channels_last)


@torch.no_grad()
def starts_at_chance(task: PretextTask, images: torch.Tensor) -> SelfTest:
    """Check that the untrained task is within 10% of its chance level.

    The metric is the task's normalized metric, if any, since its chance level is valid on any images, otherwise the
    loss.
    """
    task.eval()
    batch = task.draw(images[:IMAGES], Augmentation(task.validation_policy), generator("cpu", 0, "self-test"))
    metric = next((metric.name for metric in task.metrics if metric.normalized), "loss")
    chance = task.chance(min(IMAGES, len(images)), training=False)[metric]
    task.train()
    # BatchNorm must see data once: an untrained encoder has no statistics to evaluate with.
    value = float(task(batch).metrics[metric].mean())
    passed = abs(value / chance - 1) <= CHANCE_TOLERANCE
    return SelfTest(task.name, "starts at chance", metric, value, chance, passed)


def overfits_one_batch(task: PretextTask, images: torch.Tensor) -> SelfTest:
    """Check that the task memorizes one fixed batch."""
    task.train()
    fixed = task.draw(images[:IMAGES], Augmentation(task.validation_policy), generator("cpu", 0, "self-test"))
    metric, chance = _primary(task, min(IMAGES, len(images)))
    bound = SOLVED_SHARE if metric.mode == "max" else SOLVED_FRACTION * chance

    def solved(value: float) -> bool:
        return value >= bound if metric.mode == "max" else value <= bound

    value = _train(task, lambda step: fixed, STEPS, until=solved)
    return SelfTest(task.name, "overfits one batch", metric.name, value, bound, solved(value))


def stays_at_chance_when_shuffled(task: PretextTask, images: torch.Tensor) -> SelfTest:
    """Check that nothing is learned from shuffled targets.

    Every step draws a new batch and shuffles its targets; new shuffled batches are then predicted. The bound on a share
    is four standard errors above chance; the bound on a metric with direction `min` is 0.98 of its level at chance.
    """
    augmentation = Augmentation(task.validation_policy)

    def draw(step: int) -> Batch:
        stream = generator("cpu", 0, "self-test", step)
        rows = torch.randperm(len(images), generator=stream)[:IMAGES]
        return shuffled(task.draw(images[rows], augmentation, stream), stream)

    task.train()
    _train(task, draw, SHUFFLED_STEPS)
    metric, chance = _primary(task, min(IMAGES, len(images)))
    with torch.no_grad():
        samples = torch.cat([task(draw(STEPS + i)).metrics[metric.name] for i in range(8)])
    value = float(samples.mean())
    if metric.mode == "min":
        bound = SHUFFLED_FRACTION * chance
        passed = value >= bound
    else:
        bound = chance + 4 * math.sqrt(chance * (1 - chance) / len(samples))
        passed = value <= bound
    return SelfTest(task.name, "shuffled stays at chance", metric.name, value, bound, passed)


def keeps_the_answer(name: str, op: str, images: torch.Tensor, *, steps: int = OP_STEPS) -> tuple[SelfTest, SelfTest]:
    """Measure whether an augmentation op blurs a task's answer, or gives it away.

    A task that accepts the op must pass both tests; an op that fails one belongs in `refused_ops`.

    Args:
        name: Name of the task.
        op: Name of the op, applied alone and at full magnitude.
        images: Images from which the task can be learned, uint8 [N, C, S, S].
        steps: Steps to train for.

    Returns:
        What is learned with the op, as a share of what is learned without it, which is at least KEPT_SHARE; and how
        much more is learned from noise with the op than without it, as a share of the way from chance to a perfect
        score, which is at most LEAKED_SHARE.
    """
    plain, augmentation = Augmentation({}), Augmentation({op: 1.0})
    learned = _learned(name, images, augmentation, steps) / _learned(name, images, plain, steps)
    leaked = _learned(name, images, augmentation, steps, noise=True) - _learned(name, images, plain, steps, noise=True)
    metric = TASKS[name].metrics[0].name
    return (
        SelfTest(name, f"{op} leaves the answer", metric, learned, KEPT_SHARE, learned >= KEPT_SHARE),
        SelfTest(name, f"{op} does not give it away", metric, leaked, LEAKED_SHARE, leaked <= LEAKED_SHARE),
    )


def _learned(name: str, images: torch.Tensor, augmentation: Augmentation, steps: int, *, noise: bool = False) -> float:
    """Return the share of the way from chance to a perfect score that a new network reaches on further batches.

    Every step draws its images, or new noise of their shape.
    """
    task = make_task(name, images)

    def draw(step: int) -> Batch:
        stream = generator("cpu", 0, "self-test", step)
        rows = torch.randperm(len(images), generator=stream)[: IMAGES // 2]
        drawn = images[rows]
        if noise:
            drawn = torch.randint(0, 256, drawn.shape, dtype=torch.uint8, generator=stream)
        return task.draw(drawn, augmentation, stream)

    task.train()
    _train(task, draw, steps)
    metric, chance = _primary(task, min(IMAGES // 2, len(images)))
    with torch.no_grad():
        value = float(torch.cat([task(draw(steps + i)).metrics[metric.name] for i in range(8)]).mean())
    return (value - chance) / (1 - chance) if metric.mode == "max" else 1 - value / chance


def _train(
    task: PretextTask,
    draw: Callable[[int], Batch],
    steps: int,
    until: Callable[[float], bool] = lambda value: False,
) -> float:
    """Train for `steps`, or until the primary metric of a batch satisfies `until`; return the metric's last value."""
    optimizer = torch.optim.AdamW(task.parameters(), lr=LR)
    metric, value = task.metrics[0].name, math.nan
    for step in range(steps):
        output = task(draw(step))
        optimizer.zero_grad(set_to_none=True)
        output.objective.backward()
        optimizer.step()
        task.after_step()
        value = float(output.metrics[metric].mean())
        if until(value):
            break
    return value


def _primary(task: PretextTask, batch_size: int) -> tuple[Metric, float]:
    """Return the task's primary metric and its level at chance in training."""
    metric = task.metrics[0]
    return metric, task.chance(batch_size, training=True)[metric.name]
