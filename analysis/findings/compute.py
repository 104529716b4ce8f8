"""Compute the findings of a study: verdicts, effects, interactions and convergence rates, and write their tables."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.comparisons.designs import (
    COMPARED_DTYPES,
    SEED_DTYPES,
    Compared,
    Metric,
    cells_against_untrained,
    chosen_against_untrained,
    chosen_against_weights,
    compare,
    task_comparisons,
    task_metrics,
)
from analysis.comparisons.event_times import Event
from analysis.comparisons.few_labels import compare_few_labels
from analysis.comparisons.rates import (
    RATE_DIFFERENCE_DTYPES,
    RATE_DTYPES,
    convergence_rates,
    rate_differences,
)
from analysis.comparisons.selection import left_out
from analysis.comparisons.tasks import compare_tasks
from analysis.convergence import CONVERGED, cell_verdicts, ended, verdicts
from analysis.data import tables
from analysis.data.baselines import are_baselines
from analysis.data.classes import comparison_columns
from analysis.data.load import load
from analysis.data.study import Study
from analysis.findings.joint_effects import (
    ablation_settings,
    across_tasks,
    cells_of,
    factorials,
    joined,
    no_rows,
    synergies,
)
from analysis.records.layout import EFFECTS_FILE, VERDICTS_FILE
from analysis.records.phases import ABLATE, CONFIRM
from trainables import files
from trainables.errors import UserError, suggestion
from trainables.trial import is_baseline

COUNTED_PHASES = (CONFIRM, ABLATE)  # one trial per cell and seed, so that convergence can be counted

_ABOUT = ["trial_id", "phase", "task", "cell", "seed", "status"]


@dataclass(frozen=True, eq=False)
class Findings:
    """Findings of a study. The frames of a part that did not run are empty.

    Attributes:
        study: The study.
        verdicts: trial_id, phase, task, cell, seed, status, verdict, possible, left_chance, evidence, cure; one row per
            trial that trained.
        cell_verdicts: `analysis.convergence.cell_verdicts` of the confirm and ablate phases.
        ablated: Runs of the ablate phase that trained, with `last/METRIC`, verdict and converged (boolean, missing
            where a trial has no verdict or its numbers leave it open).
        metrics: Metric of each ablated task that has a value.
        margin: The smallest difference that matters, in the metrics' units.
        effects: `effects` of every task, with the columns metric, mode and split of `analysis.comparisons.compare`.
        against_untrained: The same columns for ablated cells (design PRETRAINING) and confirmed encoders on the test
            split (PRETRAINING_TEST, one metric per data set) against untrained encoders of the same seeds.
        against_weights: The same columns for confirmed encoders on the test split against pretrained weights (design
            WEIGHTS_TEST), whose names are in `baseline`.
        between_tasks: The same columns for every pair of tasks (design TASKS_TEST): their confirmed encoders on
            the test split, one family per data set.
        few_labels: The same columns for frozen features, fine-tuning and supervised training (design `few labels`).
        differences: `paired_differences` of all these comparisons, with the column metric.
        factorial: `factorial_effects` of the factorial and screening designs, with the column design.
        synergy: `pair_synergy` of the pairs designs.
        across_tasks: `task_interaction` of the cells that all tasks have, if the tasks share a metric.
        rates: `convergence_rates` by phase, task and cell.
        rate_changes: `rate_differences` of the comparisons of `effects`: how much more often cells converge.
        take_off_changes: The same for leaving chance, however training ended.
    """

    study: Study
    verdicts: pd.DataFrame
    cell_verdicts: pd.DataFrame
    ablated: pd.DataFrame
    metrics: dict[str, Metric]
    margin: float | None
    effects: pd.DataFrame
    against_untrained: pd.DataFrame
    against_weights: pd.DataFrame
    between_tasks: pd.DataFrame
    few_labels: pd.DataFrame
    differences: pd.DataFrame
    factorial: pd.DataFrame
    synergy: pd.DataFrame
    across_tasks: pd.DataFrame
    rates: pd.DataFrame
    rate_changes: pd.DataFrame
    take_off_changes: pd.DataFrame

    @property
    def every_effect(self) -> pd.DataFrame:
        """All comparisons, by `design`: with baselines, untrained encoders, weights, other tasks and few labels."""
        parts = [self.effects, self.against_untrained, self.against_weights, self.between_tasks, self.few_labels]
        return pd.concat(parts, ignore_index=True)


def compute_findings(
    study: Study,
    *,
    task: str | None = None,
    metric: str | None = None,
    baseline: str | None = None,
    margin: float | None = None,
) -> Findings:
    """Compute the findings of a study.

    The cells of a task are compared by the final linear probe on the data set it trained on, if there is one (by its
    balanced accuracy where classes are imbalanced), and otherwise by its primary metric at the last report. The designs
    and their baselines are those that the study ran. Until the ablate phase has ended they are unknown, and every cell
    is compared with the base.

    Args:
        study: The study.
        task: Restrict the findings to this task and the baselines. Answers stay those of the whole study.
        metric: Column of `runs`, or metric of `curves`, by which all tasks are compared instead.
        baseline: Cell to compare every other cell with, instead of the designs' baselines.
        margin: The smallest difference that matters, instead of the study's margin.

    Raises:
        UserError: If the study has no such task, metric or baseline, or the margin is not positive.
    """
    whole, study = study, study if task is None else _restrict(study, task)
    trial_verdicts = verdicts(study.runs, study.curves, study.plugins)
    ablated = _ablated(study, trial_verdicts)
    if ablated.empty and (metric or baseline):
        raise UserError(f"{study.name}: no ablation was run; name designs under `ablate` in the study's YAML")
    metrics = task_metrics(ablated, comparison_columns(study.runs.loc[study.runs["phase"] == ABLATE]), metric)
    margin = margin if margin is not None else ablation_settings(study).get("margin")
    by_task = {str(name): own for name, own in ablated.groupby("task", sort=False) if name in metrics}
    designs = {name: task_comparisons(study.designs, own, baseline) for name, own in by_task.items()}
    designs = {name: wanted for name, wanted in designs.items() if len(wanted)}
    inside = [
        compare(by_task[name], wanted, metrics[name], margin, study.per_image) for name, wanted in designs.items()
    ]
    chosen = chosen_against_untrained(whole, margin)  # all tasks are one family, whichever is asked for
    untrained = [*cells_against_untrained(study, ablated, metrics, margin), *_of_task(chosen, task)]
    weights = chosen_against_weights(study, margin)
    labels, between = compare_few_labels(study, margin), compare_tasks(study, margin)
    counted = _counted(study.runs.loc[study.runs["phase"].isin(COUNTED_PHASES)], trial_verdicts)
    of_cells = counted.loc[counted["phase"] == ABLATE]
    return Findings(
        study=study,
        verdicts=study.runs[_ABOUT].merge(trial_verdicts, on="trial_id"),
        cell_verdicts=cell_verdicts(
            study.runs.loc[study.runs["phase"].isin(COUNTED_PHASES)], study.curves, study.plugins
        ),
        ablated=ablated,
        metrics=metrics,
        margin=margin,
        effects=_effects(inside),
        against_untrained=_effects(untrained),
        against_weights=_effects(weights),
        between_tasks=_effects(between),
        few_labels=_effects(labels),
        differences=joined([seeds for _, seeds in (*inside, *untrained, *weights, *between, *labels)], SEED_DTYPES),
        factorial=factorials(study, by_task, metrics),
        synergy=synergies(study, by_task, metrics),
        across_tasks=across_tasks(ablated, metrics),
        rates=_rates(counted, trial_verdicts),
        rate_changes=_rate_changes(of_cells, trial_verdicts, designs, "converged"),
        take_off_changes=_rate_changes(of_cells, trial_verdicts, designs, "left_chance"),
    )


def write_tables(folder: Path, findings: Findings | None = None) -> list[Path]:
    """Write `verdicts.csv` and `effects.csv`, which is `Findings.every_effect`, into a study's folder.

    Each file is written atomically, after both tables have been computed.

    Args:
        folder: Folder of the study.
        findings: Findings of the study; None computes them from the folder.

    Returns:
        The paths of both files.

    Raises:
        UserError: If the folder has no study.
    """
    findings = findings or compute_findings(load(folder))
    frames = {VERDICTS_FILE: findings.verdicts, EFFECTS_FILE: findings.every_effect}
    contents = {folder / name: frame.to_csv(index=False).encode() for name, frame in frames.items()}
    for path, content in contents.items():
        files.write(path, content)
    return list(contents)


def design_runs(findings: Findings, task: str, design: str) -> pd.DataFrame:
    """Return the rows of `findings.ablated` whose cells belong to one design of one task."""
    own = findings.ablated.loc[findings.ablated["task"] == task]
    return own.loc[own["cell"].isin(cells_of(findings.study, task, design))]


def _restrict(study: Study, task: str) -> Study:
    """Return the study with the runs of one task and of the baselines."""
    known = [name for name in study.runs["task"].unique() if not is_baseline(name)]
    if task not in known:
        raise UserError(f"{study.name}: no trial of {task!r}; {suggestion(task, known)}")
    runs = study.runs.loc[(study.runs["task"] == task) | are_baselines(study.runs["task"])]
    return dataclasses.replace(
        study, runs=runs, curves=study.curves.loc[study.curves["trial_id"].isin(runs["trial_id"])]
    )


def _of_task(compared: list[Compared], task: str | None) -> list[Compared]:
    if task is None:
        return compared
    return [tuple(frame.loc[frame["task"] == task] for frame in both) for both in compared]


def _ablated(study: Study, trial_verdicts: pd.DataFrame) -> pd.DataFrame:
    runs = tables.last_values(study.runs, study.curves)
    trained = runs.loc[(runs["phase"] == ABLATE) & ~are_baselines(runs["task"])]
    found = trial_verdicts.assign(converged=ended(trial_verdicts, [CONVERGED]))
    return trained.merge(found[["trial_id", "verdict", "converged"]], on="trial_id", how="left")


def _rates(counted: pd.DataFrame, trial_verdicts: pd.DataFrame) -> pd.DataFrame:
    if counted.empty:
        return no_rows(RATE_DTYPES)
    return convergence_rates(counted, trial_verdicts, ["phase", "task", "cell"])


def _counted(runs: pd.DataFrame, trial_verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the runs over which convergence is counted, possibly none; `left_out` lists the others with reasons."""
    trained = runs.loc[runs["trial_id"].isin(trial_verdicts["trial_id"])]
    return trained.loc[~trained["trial_id"].isin(left_out(trained)["trial_id"])]


def _rate_changes(
    counted: pd.DataFrame, trial_verdicts: pd.DataFrame, designs: dict[str, pd.DataFrame], event: Event
) -> pd.DataFrame:
    parts = []
    for task, comparisons in designs.items():
        own = counted.loc[counted["task"] == task]
        wanted = comparisons.loc[comparisons["cell"].isin(own["cell"]) & comparisons["baseline"].isin(own["cell"])]
        if len(wanted):
            parts.append(rate_differences(own, trial_verdicts, wanted, event=event))
    return joined(parts, RATE_DIFFERENCE_DTYPES)


def _effects(compared: list[Compared]) -> pd.DataFrame:
    return joined([found for found, _ in compared], COMPARED_DTYPES)
