"""Duration of a report and its linear probe by L-BFGS and by Newton's method, and of a step launched and replayed.

Both members of a pair alternate within one run; the output shows medians.

    python tests/benchmarks/bench_reports.py [--device cuda] [--encoders conv4,resnet18] [--steps 100] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from search_spaces import SPECS
from trainables.data import Splits, load_splits
from trainables.devices import synchronized_time
from trainables.probes.linear import lbfgs_path
from trainables.tasks import TASKS
from trainables.training import monitor
from trainables.training.loop import Report, Worker, build_task, fit
from trainables.trial import TrialConfig


def seconds(device: torch.device, work: Callable[[], Any]) -> float:
    """Return how long `work` takes, with the kernels that it has launched."""
    began = synchronized_time(device)
    work()
    return synchronized_time(device) - began


def reports(trial: TrialConfig, splits: Splits, device: torch.device, rounds: int) -> tuple[float, float]:
    """Return the seconds of a report of the untrained task with the probe by L-BFGS and by Newton's method."""
    table = splits.pretext_train
    task = build_task(trial, table.image_size, table.n_channels).to(device, memory_format=torch.channels_last)
    measured = monitor.Monitor(trial, task, table, splits, device)
    times = []
    for _ in range(rounds + 1):
        with mock.patch.object(measured.probes, "path", lbfgs_path):
            before = seconds(device, lambda: measured.validate(0))
        times.append((before, seconds(device, lambda: measured.validate(0))))
    return tuple(statistics.median(column) for column in zip(*times[1:], strict=True))


def steps(trial: TrialConfig, splits: Splits, device: torch.device, rounds: int) -> tuple[float, float]:
    """Return images/s between reports with kernels launched one by one and replayed as a CUDA graph."""

    def rate() -> float:
        rates: list[float] = []

        def report(found: Report) -> None:
            rates.append(found.metrics.get("images_per_s", 0.0))

        fit(trial, splits, report, worker=Worker(device))
        return rates[-1]

    pairs = []
    for _ in range(rounds):
        with mock.patch.object(TASKS[trial.task], "replayable", False):
            launched = rate()
        pairs.append((launched, rate()))
    return tuple(statistics.median(column) for column in zip(*pairs, strict=True))


def main() -> None:
    """Print one row per encoder and task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dataset", default="shapes")
    parser.add_argument("--root", type=Path, default=None)
    parser.add_argument("--encoders", default="conv4,resnet18")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    splits = load_splits(arguments.dataset, root=arguments.root)
    print(f"{'':<30}{'report ms: L-BFGS':>20}{'Newton':>10}{'images/s: launched':>20}{'replayed':>10}{'ratio':>8}")
    for encoder in arguments.encoders.split(","):
        for name in arguments.tasks.split(","):
            trial = TrialConfig(
                phase="bench", task=name, encoder=encoder, budget_steps=2 * arguments.steps,
                report_every=arguments.steps, **SPECS[name].defaults,
            )  # fmt: skip
            lbfgs, newton = reports(trial, splits, device, arguments.rounds)
            row = f"{encoder + ' ' + name:<30}{1000 * lbfgs:>20.1f}{1000 * newton:>10.1f}"
            if device.type == "cuda":  # nothing is replayed on a CPU
                launched, replayed = steps(trial, splits, device, arguments.rounds)
                row += f"{launched:>20.0f}{replayed:>10.0f}{replayed / launched:>8.2f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
