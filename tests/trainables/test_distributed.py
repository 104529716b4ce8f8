"""Two workers in two processes train like one: the same curve, the same metrics, and they stop together."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.trainables.tiny import trial
from tests.trainables.two_workers import Curve, assert_as_one, run_both, trained
from trainables.augmentation import OPS
from trainables.tasks import TASKS

EVERY_OP = {task: {op: 0.5 for op in OPS if op not in kind.refused_ops} for task, kind in TASKS.items()}
TRIALS = {
    "rotation": trial("rotation", lr=1e-2, augmentation=EVERY_OP["rotation"], options={"head_hidden": 8}),
    "context_encoder": trial("context_encoder", augmentation=EVERY_OP["context_encoder"]),
    "context_encoder, adversarial": trial("context_encoder", options={"adversarial_weight": 0.1, "mask": "center"}),
    "simclr": trial("simclr", augmentation=EVERY_OP["simclr"]),
    "simclr, another optimizer": trial("simclr", optimizer="lars", lr=0.3),
    "context_prediction": trial(
        "context_prediction", augmentation=EVERY_OP["context_prediction"], options={"color_drop": 0.5}
    ),
    "context_prediction, a pair": trial("context_prediction", options={"pairs_per_image": 1}),
    "rotation, timm": trial("rotation", encoder="timm/test_efficientnet"),
    "context_encoder, a vision transformer": trial("context_encoder", encoder="timm/test_vit"),
}


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Curve, Curve]]:
    """The curves of TRIALS as the first and the second of two workers report them."""
    first, second = trained(tmp_path_factory.mktemp("workers"), *TRIALS.values())
    return dict(zip(TRIALS, zip(first, second, strict=True), strict=True))


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("name", TRIALS)
def test_two_workers_follow_the_curve_of_one(of_two: dict[str, tuple[Curve, Curve]], name: str) -> None:
    """Gradients, batch statistics, negatives, order and augmentation draws cover the whole batch."""
    assert_as_one(TRIALS[name], *of_two[name])


NORMS = """
    import os
    import sys
    import torch
    from torch import nn
    from trainables.distributed import synchronize_batchnorm

    rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    images = torch.randn(3, 8, 3, 4, 4, generator=torch.Generator().manual_seed(0))  # three batches
    for settings in ({}, {"track_running_stats": False}, {"momentum": None}, {"affine": False}):
        alone, own = nn.BatchNorm2d(3, **settings), nn.BatchNorm2d(3, **settings)
        shared = synchronize_batchnorm(nn.Sequential(own))
        for batch in images:
            whole, half = alone(batch), shared(batch.chunk(2)[rank])
            torch.testing.assert_close(half, whole.chunk(2)[rank], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(dict(shared[0].named_buffers()), dict(alone.named_buffers()))
    open(f"{out}/{rank}", "w").close()
    torch.distributed.destroy_process_group()
    os._exit(0)  # as in `tests.trainables.two_workers`
"""


def test_batchnorm_of_two_workers_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    run_both(NORMS, str(tmp_path / "store"), str(tmp_path))
    assert (tmp_path / "0").exists()
    assert (tmp_path / "1").exists()


@pytest.mark.core
@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_worker_ends_the_trial_on_all(tmp_path: Path) -> None:
    (first,), (second,) = trained(tmp_path, trial(), bad_step=4)
    assert [step for step, _ in first] == [step for step, _ in second] == [0, 2, 4]
    assert math.isnan(first[-1][1]["train/loss"])
    assert math.isnan(second[-1][1]["train/loss"])
    assert math.isfinite(first[-2][1]["train/loss"])
