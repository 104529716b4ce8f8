"""Two workers in two processes, as under DistributedDataParallel: they see the same metrics and stop together."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

TRAINING = """
    import json
    import math
    import sys
    import torch
    from torch.nn.parallel import DistributedDataParallel
    from tests.trainables.tiny import splits, trial
    from trainables.loop import Worker, fit
    from trainables.tasks.rotation import Rotation

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

    Rotation.forward = poisoned
    reports = []
    worker = Worker(rank=rank, world_size=2, wrap=DistributedDataParallel)
    fit(trial(), splits(), reports.append, worker=worker)
    names = ("train/loss", "train/accuracy")
    curve = [[report.step, *map(report.metrics.get, names)] for report in reports]
    with open(f"{out}/{rank}.json", "w") as file:
        json.dump(curve, file)
    torch.distributed.destroy_process_group()
"""


def trained(folder: Path, bad_step: int = 0) -> list[list[list[Any]]]:
    """Return the steps, losses and accuracies that each of two workers reports; one has a NaN loss at `bad_step`."""
    arguments = [str(folder / "store"), str(folder), str(bad_step)]
    code = textwrap.dedent(TRAINING)
    workers = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, str(r), *arguments]) for r in (0, 1)]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.core
@pytest.mark.slow
def test_workers_report_the_training_metrics_of_the_whole_batch(tmp_path: Path) -> None:
    first, second = trained(tmp_path)
    assert [step for step, *_ in first] == [0, 2, 4, 6]
    assert first == second
    assert all(math.isfinite(value) for _, *values in first[1:] for value in values)


@pytest.mark.core
@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_worker_ends_the_trial_on_all(tmp_path: Path) -> None:
    first, second = trained(tmp_path, bad_step=4)
    assert [step for step, *_ in first] == [step for step, *_ in second] == [0, 2, 4]
    assert math.isnan(first[-1][1])
    assert math.isnan(second[-1][1])
    assert math.isfinite(first[-2][1])
