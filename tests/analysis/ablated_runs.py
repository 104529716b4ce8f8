"""Runs of an ablation for tests: cells with values or verdicts by seed, and their effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from analysis.comparisons import effects
from analysis.records import FAILED, FINISHED

METRIC = "probe/cifar10/linear"
SPREAD = np.array(
    [0.31, -1.2, 0.74, 0.05, -0.62, 1.33, -0.18, -0.43, 0.9, -0.9, 0.5, -0.5]
)  # mean 0, standard deviation 0.8
Cells = Mapping[tuple[str, str], "list[float] | np.ndarray"]


def runs_of(cells: Cells, **columns: object) -> pd.DataFrame:
    """Return runs of each (task, cell), one value per seed from seed 100 on, in random order."""
    rows = [
        {"phase": "ablate", "task": task, "cell": cell, "seed": 100 + i, "status": "FINISHED", METRIC: value, **columns}
        for (task, cell), values in cells.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0).reset_index(drop=True)


def one_cell(differences: list[float] | np.ndarray, baseline: list[float] | np.ndarray | None = None) -> pd.DataFrame:
    base = 0.5 + 0.02 * np.cos(np.arange(len(differences))) if baseline is None else np.asarray(baseline)
    return runs_of({("a", "base"): base, ("a", "cell"): base + np.asarray(differences)})


def only_effect(runs: pd.DataFrame, **options: object) -> pd.Series:
    found = effects(runs, METRIC, **options)  # type: ignore[arg-type]
    assert len(found) == 1
    return found.iloc[0]


def with_value(runs: pd.DataFrame, cell: str, seed: int, **columns: object) -> pd.DataFrame:
    """Return the runs with columns of one of them changed."""
    changed = runs.copy()
    for name, value in columns.items():
        changed.loc[(runs["cell"] == cell) & (runs["seed"] == seed), METRIC if name == "value" else name] = value
    return changed


def design(*rows: tuple[str, str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["task", "design", "cell", "baseline"], dtype="str")


def ablation(outcomes: Mapping[tuple[str, str], Sequence[str]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return runs and verdicts of cells {(task, cell): a verdict for each seed}."""
    flat = [(*key, seed, verdict) for key, verdicts in outcomes.items() for seed, verdict in enumerate(verdicts)]
    runs = pd.DataFrame(flat, columns=["task", "cell", "seed", "verdict"])
    runs.insert(0, "trial_id", [f"t{row}" for row in range(len(runs))])
    runs = runs.assign(phase="ablate", status=FINISHED, budget_steps=500, init_from="")
    runs.loc[runs["verdict"] == "failed", "status"] = FAILED
    return runs.drop(columns="verdict"), runs[["trial_id", "verdict"]]
