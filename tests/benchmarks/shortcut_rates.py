"""How often the report warns of a shortcut: on real images, and on the same images with a planted cue.

python tests/benchmarks/shortcut_rates.py --data-root DIR [--steps 20 100 300] [--seeds 3]

docs/statistics.md has the table. Each trial is a small encoder (conv4 of width 16) on at most 2,000 training images.
The cues are a light from above, 25% brighter at the upper side and 25% darker at the lower one, and a gray line of 2 px
along the upper side.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from analysis.comparisons.shortcuts import COLUMNS, CUES, is_shortcut
from search_spaces import SPECS
from trainables.data import ImageTable, Splits, load_splits
from trainables.training.loop import Report, fit
from trainables.trial import TrialConfig

DATASETS = ("shapes", "cifar10", "fashion_mnist")
TASKS = {"rotation": 16, "context_prediction": 32}  # images per batch
N_TRAIN = 2000
Plant = Callable[[np.ndarray], np.ndarray]


def light(images: np.ndarray) -> np.ndarray:
    """Return images uint8 [N, C, S, S] with a light from above."""
    factor = np.linspace(1.25, 0.75, images.shape[-1])[:, None]
    return np.rint((images + 30.0) * factor).clip(0, 255).astype(np.uint8)


def line(images: np.ndarray) -> np.ndarray:
    """Return images uint8 [N, C, S, S] with a gray line along the upper side."""
    marked = images.copy()
    marked[:, :, :2] = 128
    return marked


PLANTS: dict[str, Plant] = {"none": lambda images: images, "light": light, "line": line}


def planted(splits: Splits, plant: Plant) -> Splits:
    """Return the splits with a cue in every image."""

    def with_cue(table: ImageTable) -> ImageTable:
        return dataclasses.replace(table, images=np.ascontiguousarray(plant(table.images)))

    train, validation = with_cue(splits.pretext_train), with_cue(splits.pretext_validation)
    return Splits(train, validation, None, None, splits.test)


def measured(splits: Splits, trial: TrialConfig) -> Iterator[dict[str, object]]:
    """Train one trial; yield a row of `analysis.comparisons.shortcuts` for each cue."""
    reports: list[Report] = []
    fit(trial, splits, reports.append)
    last, metric = reports[-1].metrics, reports[-1].facts["primary_metric"]
    chance = reports[-1].facts["chance"][metric]
    for cue in CUES:
        error = 1.96 * last[f"{cue}_se"]
        values = (last[metric], last[cue], chance, last[cue] - error, last[cue] + error)
        left = (last[cue] - chance) / (last[metric] - chance)
        yield dict(zip(COLUMNS, (trial.task, cue, metric, 1, *values, left), strict=True))


def main() -> None:
    """Train all trials, printing each, and the share of trials with a warning."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--datasets", nargs="+", default=DATASETS)
    parser.add_argument("--plants", nargs="+", default=list(PLANTS))
    parser.add_argument("--steps", nargs="+", type=int, default=[20, 100, 300])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="CSV file of all trials")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in arguments.datasets:
        real = load_splits(name, root=arguments.data_root, max_train=N_TRAIN, leak="allow")
        for plant in arguments.plants:
            splits = planted(real, PLANTS[plant])
            for task, batch_size in TASKS.items():
                for steps in arguments.steps:
                    for seed in range(arguments.seeds):
                        fields = {**SPECS[task].defaults, "batch_size": batch_size, "lr": 4e-3}
                        trial = TrialConfig(
                            phase="search", task=task, dataset=name, seed=seed, width=16, **fields
                        ).replace(budget_steps=steps, report_every=-(-steps // 4))
                        own = pd.DataFrame(measured(splits, trial))
                        own = own.assign(dataset=name, plant=plant, steps=steps, seed=seed, warns=is_shortcut(own))
                        rows.append(own)
                        shown = own[["dataset", "plant", "task", "steps", "cue", "whole", "reduced", "left", "warns"]]
                        print(shown.round(3).to_string(header=False, index=False), flush=True)
                        if arguments.output:
                            pd.concat(rows).to_csv(arguments.output, index=False)
    every = pd.concat(rows)
    by_trial = every.groupby(["plant", "task", "dataset", "steps", "seed"])["warns"].any().rename("warns").reset_index()
    print(by_trial.groupby(["plant", "task", "dataset"])["warns"].agg(["sum", "count"]))


if __name__ == "__main__":
    main()
