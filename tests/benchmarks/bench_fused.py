"""Trials per hour of fused training, of one trial after another, and of several processes that share the device.

All are measured in one run. Fused and single trials alternate, and the output shows medians. `over one` compares whole
trials, from the first image to the last report, and `steps` only the training steps of the second half of the budget.
It needs neither Ray nor MLflow.

    python tests/benchmarks/bench_fused.py --device cuda --encoders conv4,resnet18 --counts 1,2,4,8,16,32
    python tests/benchmarks/bench_fused.py --counts 1,4 --steps 20 --batch-size 32 --processes 0      # a CPU
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from search_spaces import SPECS
from trainables.data import Splits, load_splits
from trainables.training.fused import Job, fit_fused
from trainables.training.loop import Report, Worker, fit
from trainables.trial import TrialConfig


@dataclass(frozen=True)
class Speed:
    """Trials per hour: of whole trials, and of their training steps alone."""

    whole: float
    steps: float


class Clock:
    """A report callback that keeps the last rate of the training steps."""

    def __init__(self) -> None:
        self.images_per_s = 0.0

    def __call__(self, report: Report) -> None:
        self.images_per_s = report.metrics.get("images_per_s", 0.0)


def fused(trials: list[TrialConfig], splits: Splits, device: torch.device) -> Speed:
    """Return the speed of trials that are trained as one network."""
    clocks = [Clock() for _ in trials]
    began = _now(device)
    fit_fused([Job(trial, clock) for trial, clock in zip(trials, clocks, strict=True)], splits, device=device)
    return _speed(trials, clocks, _now(device) - began)


def one_by_one(trials: list[TrialConfig], splits: Splits, device: torch.device) -> Speed:
    """Return the speed of trials that are trained one after another."""
    clock = Clock()
    began = _now(device)
    rates = []
    for trial in trials:
        fit(trial, splits, clock, worker=Worker(device))
        rates.append(clock.images_per_s)
    whole = 3600 * len(trials) / (_now(device) - began)
    return Speed(whole, statistics.mean(rates) * _per_hour(trials[0]))


def _speed(trials: list[TrialConfig], clocks: list[Clock], seconds: float) -> Speed:
    steps = sum(clock.images_per_s for clock in clocks) * _per_hour(trials[0])
    return Speed(3600 * len(trials) / seconds, steps)


def _per_hour(trial: TrialConfig) -> float:
    """Return the trials per hour of one image per second."""
    return 3600 / (trial.budget_steps * trial.batch_size)


def processes(count: int, trials: list[TrialConfig], device: torch.device) -> Speed:
    """Return the speed of processes that each train these trials one after another, after a first one."""
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(count), context.Queue()
    workers = [context.Process(target=_process, args=(trials, device, ready, results)) for _ in range(count)]
    for worker in workers:
        worker.start()
    speeds: list[Speed] = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return Speed(sum(speed.whole for speed in speeds), sum(speed.steps for speed in speeds))


def _process(trials: list[TrialConfig], device: torch.device, ready: Any, results: Any) -> None:
    torch.set_num_threads(1)
    splits = load_splits("shapes", root=None)
    one_by_one(trials[:1], splits, device)
    ready.wait()
    results.put(one_by_one(trials, splits, device))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _trials(arguments: argparse.Namespace, encoder: str, count: int) -> list[TrialConfig]:
    """Return trials that differ in seed, learning rate and augmentation strength."""
    defaults = dict(SPECS[arguments.task].defaults)
    if arguments.batch_size:
        defaults["batch_size"] = arguments.batch_size
    every = arguments.report_every or max(1, arguments.steps // 2)
    trial = TrialConfig(
        phase="bench", task=arguments.task, encoder=encoder, width=arguments.width, budget_steps=arguments.steps,
        report_every=every, **defaults,
    )  # fmt: skip
    return [
        trial.replace(seed=seed, lr=trial.lr * 0.9**seed, augmentation_strength=1 - seed / 2 / count)
        for seed in range(count)
    ]


def _median(speeds: list[Speed]) -> Speed:
    return Speed(*(statistics.median(getattr(speed, name) for speed in speeds) for name in ("whole", "steps")))


def _compare(arguments: argparse.Namespace, splits: Splits, encoder: str, counts: list[int]) -> None:
    """Print one row per number of fused trials."""
    device = torch.device(arguments.device)
    alone = _trials(arguments, encoder, 2)
    found: dict[Any, list[Speed]] = {key: [] for key in ("alone", *counts)}
    for i in range(arguments.rounds + 1):
        measured = {"alone": one_by_one(alone, splits, device)}
        measured |= {count: fused(_trials(arguments, encoder, count), splits, device) for count in counts}
        for key, speed in measured.items() if i else ():  # the first round warms up
            found[key].append(speed)
    one = _median(found["alone"])
    print(f"{encoder}, {arguments.task}, one trial at a time: {one.whole:.0f} trials/h", flush=True)
    several = processes(arguments.processes, alone, device) if arguments.processes else Speed(math.nan, math.nan)
    if arguments.processes:
        print(f"{arguments.processes} processes: {several.whole:.0f} trials/h")
    print(f"{'K':>4}{'trials/h':>12}{'over one':>12}{'steps':>8}{'over processes':>18}{'steps':>8}")
    for count in counts:
        speed = _median(found[count])
        row = f"{count:>4}{speed.whole:>12.0f}{speed.whole / one.whole:>12.2f}{speed.steps / one.steps:>8.2f}"
        print(f"{row}{speed.whole / several.whole:>18.2f}{speed.steps / several.steps:>8.2f}", flush=True)


def main() -> None:
    """Print one table per encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--task", default="rotation")
    parser.add_argument("--encoders", default="conv4")
    parser.add_argument("--counts", default="1,2,4,8,16,32")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--report-every", type=int, help="by default two reports after step 0")
    parser.add_argument("--batch-size", type=int, help="by default the task's")
    parser.add_argument("--width", type=int, default=24)
    parser.add_argument("--processes", type=int, default=4, help="processes to compare with; 0 leaves them out")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    splits = load_splits("shapes", root=None)
    for encoder in arguments.encoders.split(","):
        _compare(arguments, splits, encoder, [int(count) for count in arguments.counts.split(",")])


if __name__ == "__main__":
    main()
