"""Training speed of each task relative to the bare training step on a batch that is already on the device.

The bound is forward, backward and optimizer step on one batch drawn beforehand, without data loading, augmentation and
reports. It is compared with `fit`, including reports and checkpoints. Rounds alternate; the output shows medians.

    python tests/benchmarks/bench_training.py [--device cuda] [--steps 100] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from search_spaces import SPECS
from trainables import files
from trainables.augmentation import Augmentation
from trainables.data import Splits, load_splits
from trainables.devices import synchronized_time
from trainables.rng import generator
from trainables.tasks import TASKS
from trainables.training import checkpoint
from trainables.training.loop import Report, Worker, build_task, fit
from trainables.training.optimizers import build_optimizer
from trainables.trial import TrialConfig


def bound(trial: TrialConfig, splits: Splits, device: torch.device) -> float:
    """Return images/s of the bare training step."""
    images = torch.from_numpy(splits.pretext_train.images[: trial.batch_size].copy()).to(device)
    task = build_task(trial, images.shape[-1]).to(device, memory_format=torch.channels_last)
    task.fit_to(images)
    optimizer = build_optimizer(task, trial)
    augmentation = Augmentation(dict(trial.augmentation), trial.augmentation_strength)
    batch = task.draw(images, augmentation, generator(device, 0, "bench"))

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            output = task(batch)
        optimizer.zero_grad(set_to_none=True)
        output.objective.backward()
        optimizer.step()

    for _ in range(3):
        step()
    began = synchronized_time(device)
    for _ in range(trial.budget_steps):
        step()
    return trial.budget_steps * trial.batch_size / (synchronized_time(device) - began)


def whole(trial: TrialConfig, splits: Splits, device: torch.device, folder: Path) -> tuple[float, float]:
    """Return images/s of `fit` from its first to its last report, and images/s between reports."""
    times, rates = [], []

    def report(found: Report) -> None:
        files.write(folder / "state.pt", checkpoint.to_bytes(found.state()))
        times.append(synchronized_time(device))
        rates.append(found.metrics.get("images_per_s"))

    fit(trial, splits, report, worker=Worker(device))
    between = statistics.median(rate for rate in rates[1:] if rate)
    return trial.budget_steps * trial.batch_size / (times[-1] - times[0]), between


def main() -> None:
    """Print one row per task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--encoder", default="conv4")
    parser.add_argument("--tasks", default=",".join(TASKS))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    splits = load_splits("shapes", root=None)
    print(f"{'task':<20}{'bound images/s':>16}{'steps':>10}{'ratio':>8}{'with reports':>14}{'ratio':>8}")
    for name in arguments.tasks.split(","):
        trial = TrialConfig(
            phase="bench", task=name, encoder=arguments.encoder, budget_steps=arguments.steps, report_every=50,
            **SPECS[name].defaults,
        )  # fmt: skip
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(arguments.rounds):
                rows.append((bound(trial, splits, device), *whole(trial, splits, device, Path(folder))))
        top, with_reports, steps = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name:<20}{top:>16.0f}{steps:>10.0f}{steps / top:>8.2f}{with_reports:>14.0f}{with_reports / top:>8.2f}")


if __name__ == "__main__":
    main()
