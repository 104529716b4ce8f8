"""Study: the results of one study as tidy frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.data.per_image import PerImage
from analysis.records.phases import ABLATE

SIMULATED = (
    "Simulated: no network was trained. Every curve, probe and cost comes from a formula, so nothing here is a result."
)


@dataclass(frozen=True, eq=False)
class Study:
    """Results of one study. Everything else in `analysis` is a function of these frames.

    Attributes:
        name: Name of the study.
        runs: One row per trial; columns as in `analysis.data.frames.frames`.
        curves: One row per point; columns as in `analysis.data.frames.frames`.
        config: The study's configuration; empty if the source does not have it.
        folder: Folder that the study was read from; None for a tracking server.
        datasets: {name: {fingerprint, image_size, n_classes, class_names, counts {split: images}}}, and `leaks` if
            there are near duplicates across splits, as in `study.provenance.describe`.
        outcomes: {phase: what the phase decided}, for example the configurations that `confirm` chose.
        per_image: Results of the final probes on each image.
        elapsed_s: {phase: seconds on the clock while it ran}, without pauses between drivers; trials run side by side,
            so they take more time together. Empty for a tracking server.
        missing_plugins: Names of the study's plug-ins that could not be loaded.
    """

    name: str
    runs: pd.DataFrame
    curves: pd.DataFrame
    config: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    datasets: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    per_image: PerImage = field(default_factory=PerImage)
    elapsed_s: Mapping[str, float] = field(default_factory=dict)
    missing_plugins: tuple[str, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether the study's trials were simulated and trained nothing."""
        return bool(self.config.get("simulate"))

    @property
    def plugins(self) -> tuple[str, ...]:
        """Names of the study's plug-ins that are loaded. Their verdicts and sections of the report apply to it."""
        named = (each["name"] for each in self.config.get("plugins") or [])
        return tuple(name for name in named if name not in self.missing_plugins)

    @property
    def tested(self) -> pd.DataFrame:
        """Rows of `runs` whose final probes were measured on the test split."""
        return self.runs.loc[self.runs["probe_split"] == "test"]

    @property
    def designs(self) -> pd.DataFrame:
        """Cells of the ablations, one row per cell and design, with str columns task, design, cell and baseline.

        `baseline` is the cell to compare with: the cell itself for a reference, empty if a design is analyzed by its
        main effects. A study without an ablation has no rows.
        """
        rows = self.outcomes.get(ABLATE, {}).get("designs", [])
        return pd.DataFrame(rows, columns=["task", "design", "cell", "baseline"], dtype="str")
