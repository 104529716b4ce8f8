"""`study.plan`: what a study would run, and how long that takes, before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import escape

from study.api.sources import Source, config
from study.cli.words import dataset_lines
from study.config.schema import StudyConfig
from study.driver import load_datasets
from study.plan.feasibility import check_plan
from study.plan.phases import Plan
from study.plan.unsearched import unsearched, unsearched_lines
from study.provenance import describe
from study.timing.fit_to_budget import fit_to_budget
from study.timing.rehearsal import this_machine


@dataclass(frozen=True, eq=False)
class PlannedStudy:
    """What a study would run. A notebook shows it as a table.

    Attributes:
        config: The study's configuration, sized if it has a time budget.
        phases: One row per phase, one for the start and one for the report: `phase`, upper bounds of `trials` and
            `steps`, and the time on this machine, expected `seconds` and their range from `low` to `high`.
        time: The time of the whole study in words: `3 to 4 minutes on 2 cores, 2 trials at a time`.
        unsearched: Per task, the hyperparameters of its own search space that `search.space` leaves out, each with its
            fixed value.
        datasets: Facts about each data set: image size, classes, images per split, fingerprint and what was found.
    """

    config: StudyConfig
    phases: pd.DataFrame
    time: str
    unsearched: Mapping[str, Mapping[str, Any]]
    datasets: Mapping[str, dict[str, Any]]

    def __str__(self) -> str:
        table = self.phases.round(1).to_string(index=False)
        return "\n".join([*self._found(), table, self.time, *unsearched_lines(self.unsearched)])

    def _repr_html_(self) -> str:
        table = self.phases.round(1).to_html(index=False)
        rest = [self.time, *unsearched_lines(self.unsearched)]
        return "".join([*_paragraphs(self._found()), table, *_paragraphs(rest)])

    def _found(self) -> list[str]:
        return [f"{self.config.name}: {', '.join(self.config.tasks)}", *dataset_lines(self.datasets)]


def plan(
    source: Source = "quick",
    *,
    set: Mapping[str, Any] | None = None,
    simulate: bool = False,
    download: bool = False,
    **fields: Any,
) -> PlannedStudy:
    """Return what a study would run, as `--dry-run` prints it. The data are read; no trial of the study is trained.

    Some steps, reports and probes are timed. The first call on a machine also rehearses a tiny study for half a minute.

    Args:
        source: See `study.config`.
        set: See `study.config`.
        simulate: See `study.config`.
        download: Whether to download missing data sets.
        fields: See `study.config`.

    Raises:
        ConfigError: The configuration is invalid, or does not fit the data.
        DataError: A data set cannot be used.
    """
    checked = config(source, set=set, simulate=simulate, **fields)
    planned = Plan(checked, load_datasets(checked, download=download))
    check_plan(planned)
    datasets = {name: describe(splits) for name, splits in planned.datasets.items()}
    planned, found = fit_to_budget(planned, this_machine())
    phases = pd.DataFrame([vars(phase) for phase in found.phases])
    return PlannedStudy(planned.config, phases, found.words(), unsearched(planned), datasets)


def _paragraphs(lines: Iterable[str]) -> Iterator[str]:
    return (f"<p>{escape(line)}</p>" for line in lines)
