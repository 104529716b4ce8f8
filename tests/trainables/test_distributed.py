"""Two workers in two processes train like one: the same curve, the same metrics, and they stop together."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.trainables.tiny import splits, trial
from trainables.augmentation import OPS
from trainables.tasks import TASKS
from trainables.training.loop import Report, fit
from trainables.trial import TrialConfig

TRAINING = """
    import json
    import math
    import sys
    import torch
    from torch.nn.parallel import DistributedDataParallel
    from tests.trainables.tiny import splits
    from trainables.training.loop import Worker, fit
    from trainables.tasks.rotation import Rotation
    from trainables.trial import TrialConfig
    from trainables.distributed import synchronize_batchnorm

    rank, store, out, bad_step = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    forward, steps = Rotation.forward, 0

    def poisoned(self, batch):
        global steps
        steps += self.training
        output = forward(self, batch)
        if not (self.training and rank == 1 and steps == bad_step):
            return output
        return output._replace(metrics={name: samples * math.nan for name, samples in output.metrics.items()})

    hooked = []
    Rotation.forward = poisoned
    Rotation.after_step = lambda self: hooked.append(type(self).__name__)
    worker = Worker(rank=rank, world_size=2, wrap=lambda task: DistributedDataParallel(synchronize_batchnorm(task)))
    curves = []
    for values in json.loads(sys.argv[5]):
        reports = []
        fit(TrialConfig.from_dict(values), splits(), reports.append, worker=worker)
        curves.append([(report.step, report.metrics) for report in reports])
    assert hooked == ["Rotation"] * steps  # the task itself, after every step
    with open(f"{out}/{rank}.json", "w") as file:
        json.dump(curves, file)
    torch.distributed.destroy_process_group()
"""

Curve = list[tuple[int, dict[str, float]]]


def trained(folder: Path, *trials: TrialConfig, bad_step: int = 0) -> list[list[Curve]]:
    """Return the curves of the trials as each of two workers reports them; one has a NaN loss at `bad_step`."""
    arguments = [str(folder / "store"), str(folder), str(bad_step), json.dumps([each.to_dict() for each in trials])]
    code = textwrap.dedent(TRAINING)
    workers = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, str(r), *arguments]) for r in (0, 1)]
    try:
        assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


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
    reports: list[Report] = []
    fit(TRIALS[name], splits(), reports.append)
    first, second = of_two[name]
    assert [step for step, _ in first] == [step for step, _ in second] == [report.step for report in reports]
    for report, (_, metrics), (_, others) in zip(reports, first, second, strict=True):
        continuous = {each for each in report.metrics if not each.startswith(("probe/", "images_per_s"))}
        assert {each: metrics[each] for each in continuous} == pytest.approx(
            {each: report.metrics[each] for each in continuous}, rel=1e-3, abs=1e-5
        )
        assert {each: others[each] for each in others if each.startswith("train/")} == {
            each: metrics[each] for each in metrics if each.startswith("train/")
        }


@pytest.mark.core
@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_worker_ends_the_trial_on_all(tmp_path: Path) -> None:
    (first,), (second,) = trained(tmp_path, trial(), bad_step=4)
    assert [step for step, _ in first] == [step for step, _ in second] == [0, 2, 4]
    assert math.isnan(first[-1][1]["train/loss"])
    assert math.isnan(second[-1][1]["train/loss"])
    assert math.isfinite(first[-2][1]["train/loss"])
