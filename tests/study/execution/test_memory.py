"""A batch that cannot fit into memory is refused before the first trial, by an estimate below what a step takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from study.execution import cluster, memory
from tests.study.studies import plan_of, tiny
from tests.trainables.smooth_images import smooth_images
from trainables.errors import ConfigError
from trainables.tasks import TASKS
from trainables.training.memory import COPIES, FLOAT_BYTES, least_bytes, try_step
from trainables.trial import TrialConfig

MEASURED = """if True:
    import resource, sys
    from tests.trainables.smooth_images import smooth_images
    from trainables.training.memory import _built, _drawn, least_bytes
    from trainables.training.optimizers import build_optimizer
    from trainables.training.step import TrainingStep
    from trainables.trial import TrialConfig
    trial = TrialConfig(phase="search", task=sys.argv[1], dataset="shapes", encoder="conv4", width=16, batch_size=512)
    images = smooth_images(512)
    task = _built(trial.replace(batch_size=4), images[:4])
    step = TrainingStep(task, task, build_optimizer(task, trial), replay=False)
    step(_drawn(trial, task, images[:4]), 1e-3)
    estimate = least_bytes(trial, images)
    before = int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()
    step(_drawn(trial, task, images), 1e-3)
    print(estimate, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"""


def trial_of(task: str, batch_size: int) -> TrialConfig:
    return TrialConfig(phase="search", task=task, dataset="shapes", encoder="conv4", width=8, batch_size=batch_size)


@pytest.fixture
def free_memory(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A cluster of this machine alone, of whose memory all but 10 MB is in use."""
    monkeypatch.setattr(cluster, "is_private", lambda: True)
    monkeypatch.setattr(memory, "get_used_memory", lambda: memory.get_system_memory() - 10_000_000)
    return monkeypatch


@pytest.mark.parametrize("task", list(TASKS))
def test_what_a_step_takes_at_least_grows_with_the_batch(task: str) -> None:
    images = smooth_images(8)
    four, eight, sixteen = (least_bytes(trial_of(task, size), images) for size in (4, 8, 16))
    assert sixteen - eight == 2 * (eight - four) > 0
    assert four - (eight - four) >= COPIES * FLOAT_BYTES * 8 * 3 * 9  # the first layer's weights, at least


class Standardized(nn.Module):
    """A convolution with standardized weights, and weights that are not trained."""

    standardizes, n_frozen, feature_dim = True, 0, 8

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(self.feature_dim, 3, 5, 5))
        self.frozen = nn.Parameter(torch.zeros(self.n_frozen), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean()).exp() if self.standardizes else self.weight
        return functional.conv2d(images, weight).mean(dim=(2, 3))


def test_what_is_saved_of_the_weights_does_not_grow_with_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def bytes_of(batch_size: int, *, standardizes: bool) -> int:
        monkeypatch.setattr(Standardized, "standardizes", standardizes)
        trial = trial_of("rotation", batch_size).replace(encoder=f"{__name__}:Standardized")
        return least_bytes(trial, smooth_images(8))

    few, many = (bytes_of(size, standardizes=True) - bytes_of(size, standardizes=False) for size in (2, 256))
    assert few == many > 0


def test_weights_that_are_not_trained_have_neither_gradient_nor_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_of("rotation", 8).replace(encoder=f"{__name__}:Standardized")
    without = least_bytes(trial, smooth_images(8))
    monkeypatch.setattr(Standardized, "n_frozen", 1000)
    assert least_bytes(trial, smooth_images(8)) - without == 1000 * FLOAT_BYTES


@pytest.mark.slow
@pytest.mark.core
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_the_estimate_is_less_than_what_a_step_takes_and_not_a_tenth_of_it() -> None:
    result = subprocess.run([sys.executable, "-c", MEASURED, "rotation"], capture_output=True, text=True, check=True)
    estimate, measured = map(int, result.stdout.split())
    assert measured / 10 < estimate < measured


def test_a_batch_that_cannot_fit_is_refused_in_one_line(free_memory: pytest.MonkeyPatch) -> None:
    plan = plan_of(tiny())
    memory.check_memory(plan, concurrent=2)
    wide = plan_of(tiny(encoder={"name": "conv4", "width": 128}))
    with pytest.raises(ConfigError) as error:
        memory.check_memory(wide, concurrent=2)
    message = str(error.value)
    assert message.startswith("rotation: batch_size 8 of ")
    assert "with conv4, width 128, takes at least " in message
    assert " in each of 2 trials at once, but 10 MB of memory are free; use smaller batches" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("phases", "at_once"),
    [
        ({"search": {"num_samples": 1}, "confirm": {"seeds": 4}}, 4),
        ({"search": {"num_samples": 5}}, 5),
        ({"search": {"num_samples": 10}}, 8),
        ({"search": {"num_samples": 1}, "ablate": {"designs": ["cures"], "cures": {"lr": [0.5]}, "seeds": 2}}, 6),
    ],
    ids=["confirm", "search", "room for fewer", "ablate"],
)
def test_as_many_trials_are_counted_as_the_largest_phase_runs_at_once(
    free_memory: pytest.MonkeyPatch, phases: dict[str, Any], at_once: int
) -> None:
    wide = plan_of(tiny(encoder={"name": "conv4", "width": 128}, **phases))
    with pytest.raises(ConfigError, match=f"in each of {at_once} trials at once"):
        memory.check_memory(wide, concurrent=8)


def test_a_larger_cell_of_the_ablation_is_checked_too(free_memory: pytest.MonkeyPatch) -> None:
    cells = {"designs": ["cures"], "cures": {"width": [128]}}
    with pytest.raises(ConfigError, match="width 128, takes at least"):
        memory.check_memory(plan_of(tiny(ablate=cells)), concurrent=1)


def test_memory_of_other_nodes_is_not_guessed(free_memory: pytest.MonkeyPatch) -> None:
    free_memory.setattr(cluster, "is_private", lambda: False)
    memory.check_memory(plan_of(tiny(encoder={"name": "conv4", "width": 128})), concurrent=2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_share_of_a_gpu_is_tried() -> None:
    images = smooth_images(8)
    total = torch.cuda.get_device_properties(0).total_memory
    assert try_step(trial_of("rotation", 64), images, data_bytes=1000, fraction=0.5)
    assert not try_step(trial_of("rotation", 64), images, data_bytes=total // 2, fraction=0.4)
    assert try_step(trial_of("rotation", 64), images, data_bytes=1000, fraction=0.5), "what was tried is given back"
