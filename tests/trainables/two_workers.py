"""Two workers in two processes, and the comparison of their training with that of one."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.trainables.tiny import splits
from trainables.training.loop import Report, fit
from trainables.trial import TrialConfig

TRAINING = """
    import json
    import math
    import os
    import sys
    import torch
    from torch.nn.parallel import DistributedDataParallel
    from tests.trainables.tiny import splits
    from trainables import plugins
    from trainables.training.loop import Worker, fit
    from trainables.tasks.rotation import Rotation
    from trainables.trial import TrialConfig
    from trainables.distributed import synchronize_batchnorm

    rank, store, out, bad_step = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    for path in sys.argv[6:]:
        plugins.obtain(path)
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
    os._exit(0)  # threads of gloo that are still alive abort an interpreter that shuts down (pytorch issue 190489)
"""

Curve = list[tuple[int, dict[str, float]]]


def trained(folder: Path, *trials: TrialConfig, bad_step: int = 0, plugins: tuple[Path, ...] = ()) -> list[list[Curve]]:
    """Return the curves of the trials as each of two workers reports them.

    Args:
        folder: Empty folder.
        trials: Trials to train, one after another.
        bad_step: Step at which the loss of rotation is NaN on the second worker; 0 for none.
        plugins: Files of the plug-ins that both workers load.
    """
    arguments = [str(folder / "store"), str(folder), str(bad_step), json.dumps([each.to_dict() for each in trials])]
    arguments += map(str, plugins)
    run_both(TRAINING, *arguments)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def run_both(code: str, *arguments: str) -> None:
    """Run code in two processes, each with its rank and the arguments; both must succeed."""
    code = textwrap.dedent(code)
    workers = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, str(r), *arguments]) for r in (0, 1)]
    try:
        assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def assert_as_one(trial: TrialConfig, first: Curve, second: Curve) -> None:
    """Assert that two workers have followed the curve of one, and that both have reported the same training metrics."""
    reports: list[Report] = []
    fit(trial, splits(), reports.append)
    assert [step for step, _ in first] == [step for step, _ in second] == [report.step for report in reports]
    for report, (_, metrics), (_, others) in zip(reports, first, second, strict=True):
        continuous = {each for each in report.metrics if not each.startswith(("probe/", "images_per_s"))}
        assert {each: metrics[each] for each in continuous} == pytest.approx(
            {each: report.metrics[each] for each in continuous}, rel=1e-3, abs=1e-5
        )
        assert {each: others[each] for each in others if each.startswith("train/")} == {
            each: metrics[each] for each in metrics if each.startswith("train/")
        }
