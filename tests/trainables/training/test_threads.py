"""A trial computes with as many threads as it has CPUs, whatever was set before in its process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

SCRIPT = """
import sys
import torch
from trainables.ray_adapter import trainable
from tests.trainables.tiny import splits, trial

def fit(*_, **__):
    print(torch.get_num_threads())
    raise SystemExit

trainable.fit, trainable.ray.get = fit, lambda splits: splits
datasets = {trial().dataset: splits()}
trainable._run_here(trial(), trainable.Shared(datasets, sys.argv[1], resources={"CPU": float(sys.argv[2])}))
"""


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize(("cpus", "threads"), [(3, 3), (0.5, 1)])
def test_the_threads_are_the_cpus_of_the_trial_and_not_those_of_the_shell(tmp_path, cpus: float, threads: int):
    """`ray up` and `ray submit` export OMP_NUM_THREADS=1 into everything that they start."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(cpus)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert ended.stdout == f"{threads}\n", ended.stderr
