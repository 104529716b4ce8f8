"""Study: the results of one study as tidy frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True, eq=False)
class Study:
    """A study's results. Everything else in `analysis` is a function of these frames.

    runs: one row a trial; curves: one row a point; columns in `analysis.data.frames.frames`.
    config: the study's configuration; empty where the source does not hold it.
    folder: where it was read from; None for a tracking server.
    datasets: {name: {fingerprint, image_size, n_classes, class_names, counts {split: images}}}.
    outcomes: {phase: what the phase decided}, for example the configurations that `confirm` chose.
    """

    name: str
    runs: pd.DataFrame
    curves: pd.DataFrame
    config: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def designs(self) -> pd.DataFrame:
        """The cells of the ablations (str columns task, design, cell, baseline), one row for each cell of each design.

        baseline: the cell that it is compared with, the cell itself for a reference, "" where a design is analyzed by
        its main effects. Without an ablation there are no rows.
        """
        rows = self.outcomes.get("ablate", {}).get("designs", [])
        return pd.DataFrame(rows, columns=["task", "design", "cell", "baseline"], dtype="str")
