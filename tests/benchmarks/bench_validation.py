"""Cost of validation as a share of training, which `trainables.training.validation` limits to 5%.

Each task trains on generated images with the settings of `quick` and with the defaults; the ratio of the two times is
taken within one run, so other work on the machine hardly matters.

    python tests/benchmarks/bench_validation.py [--repeats 3]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from search_spaces import SPECS
from trainables.data.load import load_splits
from trainables.training import validation
from trainables.training.loop import fit
from trainables.trial import TrialConfig

SETTINGS: dict[str, dict[str, Any]] = {
    "quick": {"width": 16, "batch_size": 32, "budget_steps": 100, "report_every": 50},
    "defaults": {"width": 24, "batch_size": 128, "budget_steps": 100, "report_every": 20},
}


def main() -> None:
    """Print the share of validation for each task and setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    splits = load_splits("shapes", root=None)
    for name, setting in SETTINGS.items():
        for task, spec in SPECS.items():
            trial = TrialConfig("bench", task, dataset="shapes", **{**spec.defaults, **setting})
            shares = sorted(_share(trial, splits) for _ in range(arguments.repeats))
            print(
                f"{name:9} {task:20} {statistics.median(shares):.1%} of training ({shares[0]:.1%} to {shares[-1]:.1%})"
            )


def _share(trial: TrialConfig, splits: Any) -> float:
    """Return the time of all validation passes over that of the training steps."""
    spent = {"validation": 0.0, "training": 0.0}
    original = validation.Validation.per_image

    def timed(self: validation.Validation) -> dict[str, torch.Tensor]:
        began = time.perf_counter()
        found = original(self)
        spent["validation"] += time.perf_counter() - began
        return found

    def report(found: Any) -> None:
        spent["training"] += _step_time(found, trial)

    validation.Validation.per_image = timed  # type: ignore[method-assign]
    try:
        fit(trial, splits, report)
    finally:
        validation.Validation.per_image = original  # type: ignore[method-assign]
    return spent["validation"] / spent["training"]


def _step_time(report: Any, trial: TrialConfig) -> float:
    """Return the seconds of the training steps since the last report, from the rate that the loop reports."""
    rate = report.metrics.get("images_per_s")
    return trial.report_every * trial.batch_size / rate if rate else 0.0


if __name__ == "__main__":
    main()
