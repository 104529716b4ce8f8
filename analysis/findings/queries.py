"""Queries on findings, mostly about one task. The answers are decided here; the report only words them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.comparisons import (
    BASE,
    BETTER,
    CHOSEN,
    COMPARISON,
    PRETRAINING,
    PRETRAINING_TEST,
    TOO_FEW,
    rank_tasks,
)
from analysis.convergence import CONVERGED, ended
from analysis.data import tables
from analysis.data.classes import BALANCED, comparison_columns
from analysis.findings.compute import Findings
from analysis.records.phases import ABLATE, CONFIRM, CUT, PHASES
from trainables.trial import NON_TRAINING_FIELDS, TrialConfig, is_baseline

VALIDATION, TEST = "validation", "test"  # splits that can order tasks

_NOT_SETTINGS = (*NON_TRAINING_FIELDS, "report_every", "workers")


@dataclass(frozen=True)
class CellConvergence:
    """How the trials of one cell ended.

    Attributes:
        verdict: The verdict on all seeds together, or on the only one.
        left_chance: Whether it left chance; None where its numbers leave that open.
        converged: Whether it converged; None where its numbers leave that open.
        count: Number of trials with this verdict by themselves.
        n_trials: Number of trials that the verdict is on: those that have ended, once two of them have.
        others: Number of trials with each other verdict.
        evidence: Evidence for the verdict.
        cure: Proposed remedy.
    """

    verdict: str
    left_chance: bool | None
    converged: bool | None
    count: int
    n_trials: int
    others: dict[str, int]
    evidence: str
    cure: str


@dataclass(frozen=True)
class UntrainedComparison:
    """Comparison of a task's encoders with untrained ones of the same seeds.

    Attributes:
        n_above: Number of seeds at which the trained encoder is better.
        row: Row of `Findings.against_untrained`.
    """

    n_above: int
    row: pd.Series

    @property
    def is_above(self) -> bool:
        """Whether the trained encoder is better, or better at every seed of too few for a test."""
        few = self.row["answer"] == TOO_FEW and self.n_above == self.row["n_seeds"]
        return bool(self.row["answer"] == BETTER or few)


def tasks(findings: Findings) -> list[str]:
    """Return the pretext tasks of the study, in the order in which they were first tried."""
    return [task for task in findings.study.runs["task"].unique() if not is_baseline(task)]


def chosen(findings: Findings) -> dict[str, dict[str, Any]]:
    """Return the choice of the confirm phase for each task: config, metric, mode, mean, values, seeds, trial_ids."""
    return findings.study.outcomes.get(CONFIRM, {}).get("chosen", {})


def main_baseline(findings: Findings, task: str) -> str:
    """Return the base if any cell of a task is compared with it, otherwise the baseline with the most comparisons."""
    own = distinct(findings.effects.loc[findings.effects["task"] == task])
    counts = own["baseline"].value_counts()
    return BASE if counts.empty or BASE in counts else str(counts.index[0])


def ranked(findings: Findings, task: str, baseline: str = BASE) -> pd.DataFrame:
    """Return a task's effects against one baseline, one row per cell, the largest gain first.

    Equal gains keep the order of the designs, and cells without a value come last. There are no rows if no cell is
    compared with the baseline: a design may compare its cells with another one, such as `no augmentation`.
    """
    own = distinct(findings.effects.loc[findings.effects["task"] == task])
    own = own.loc[own["baseline"] == baseline]
    if own.empty:
        return own
    sign = -1 if findings.metrics[task].mode == "min" else 1
    return own.sort_values("mean_difference", key=lambda values: -sign * values, kind="stable", ignore_index=True)


def distinct(compared: pd.DataFrame) -> pd.DataFrame:
    """Return each comparison once: designs share comparisons, which have the same numbers in all of them."""
    return compared.drop_duplicates(COMPARISON)


def cures(findings: Findings, task: str) -> pd.DataFrame:
    """Return the cells that are better than the base, the best first: changes to recommend."""
    effects = ranked(findings, task)
    return effects.loc[effects["answer"] == BETTER]


def take_offs(findings: Findings, task: str) -> pd.DataFrame:
    """Return the cells that leave chance at more seeds than the base, the largest gain first.

    The columns are those of `Findings.take_off_changes`, with n_learned and n_baseline_learned: the numbers of its
    pairs in which the cell and the baseline left chance.
    """
    changes = findings.take_off_changes
    own = changes.loc[(changes["task"] == task) & (changes["rate_difference"] > 0)]
    own = distinct(own.loc[own["baseline"] == BASE]).sort_values("rate_difference", ascending=False, kind="stable")
    return own.assign(n_learned=own["both"] + own["only_cell"], n_baseline_learned=own["both"] + own["only_baseline"])


def convergence(findings: Findings, phase: str, task: str, cell: str) -> CellConvergence | None:
    """Return how the trials of a cell ended, by the curves of all seeds together; None if none has a verdict."""
    cells, verdicts = findings.cell_verdicts, findings.verdicts
    found = cells.loc[(cells["phase"] == phase) & (cells["task"] == task) & (cells["cell"] == cell)]
    if len(found):
        row = found.iloc[0]
        counts = row["n_verdict"], row["n_seeds"], row["others"]
        return CellConvergence(row["verdict"], *_known(found), *counts, row["evidence"], row["cure"])
    own = verdicts.loc[(verdicts["phase"] == phase) & (verdicts["task"] == task) & (verdicts["cell"] == cell)]
    if own.empty:
        return None
    row = own.iloc[0]
    return CellConvergence(row["verdict"], *_known(own), 1, 1, {}, row["evidence"], row["cure"])


def with_ends(findings: Findings, compared: pd.DataFrame) -> pd.DataFrame:
    """Return comparisons of ablated cells with the columns base_converged, base_learned, converged and learned.

    They say whether the base and the cell converged, and whether they left chance; None where that is not known.
    """
    found = []
    for task, cell in zip(compared["task"], compared["cell"], strict=True):
        base, own = (convergence(findings, ABLATE, task, name) for name in (BASE, cell))
        ends = ((end and end.converged, end and end.left_chance) for end in (base, own))
        found.append(tuple(value for pair in ends for value in pair))
    columns = ["base_converged", "base_learned", "converged", "learned"]
    return compared.join(pd.DataFrame(found, compared.index, columns, dtype=object))


def leads_out_of_chance(changes: pd.DataFrame) -> pd.Series:
    """Whether each change is better and known to have left chance, which its base is not shown to have left.

    Args:
        changes: Rows that `with_ends` returns.
    """
    known = changes[["base_learned", "learned"]].astype("boolean").fillna(value=False)
    return (changes["answer"] == BETTER) & known["learned"] & ~known["base_learned"]


def _known(verdicts: pd.DataFrame) -> tuple[bool | None, bool | None]:
    """Return whether the first of these left chance, and whether it converged."""
    first = verdicts.iloc[:1]
    left_chance, converged = (
        None if pd.isna(known.iloc[0]) else bool(known.iloc[0])
        for known in (first["left_chance"], ended(first, [CONVERGED]))
    )
    return left_chance, converged


def chosen_cell(findings: Findings, task: str) -> str:
    """Return the chosen cell of the confirm phase; empty if none was chosen."""
    trials = chosen(findings).get(task, {}).get("trial_ids", [])
    cells = findings.study.runs.loc[findings.study.runs["trial_id"].isin(trials), "cell"]
    return str(cells.iloc[0]) if len(cells) else ""


def n_candidates(findings: Findings, task: str) -> int:
    """Return the number of configurations that the confirm phase compared for a task."""
    runs = findings.study.runs
    return int(runs.loc[(runs["phase"] == CONFIRM) & (runs["task"] == task), "cell"].nunique())


def base_changes(findings: Findings, task: str) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which the ablation's base differs from the chosen configuration: {name: (chosen, base)}.

    A setting that one of the two leaves at its default is None there. Empty if either did not run.
    """
    base = base_settings(findings, task)
    if not base or task not in chosen(findings):
        return {}
    before = _settings(TrialConfig.from_dict(chosen(findings)[task]["config"]).to_columns())
    return {
        name: (before.get(name), base.get(name))
        for name in dict.fromkeys([*before, *base])
        if before.get(name) != base.get(name)
    }


def base_settings(findings: Findings, task: str) -> dict[str, Any]:
    """Return the settings of the ablation's base; empty if it did not run."""
    own = findings.ablated.loc[(findings.ablated["task"] == task) & (findings.ablated["cell"] == BASE)]
    return _settings(own.iloc[0].to_dict()) if len(own) else {}


def against_untrained(findings: Findings, task: str, dataset: str) -> UntrainedComparison | None:
    """Compare a task's chosen configuration with untrained encoders on the test split of a data set.

    `comparison_columns` chooses the metric: the linear probe, or the segmentation probe for a data set with masks only.
    None if it was not evaluated.
    """
    columns = (f"probe/{dataset}/{probe}" for probe in (BALANCED, *tables.COMPARISON_PROBES))
    compared = (_comparison(findings, task, PRETRAINING_TEST, CHOSEN, column) for column in columns)
    return next((comparison for comparison in compared if comparison is not None), None)


def base_against_untrained(findings: Findings, task: str) -> UntrainedComparison | None:
    """Compare the ablation's base with untrained encoders; None if the ablate phase has none of the same shape."""
    return (
        _comparison(findings, task, PRETRAINING, BASE, findings.metrics[task].column)
        if task in findings.metrics
        else None
    )


def ordered_tasks(findings: Findings, test_means: Mapping[str, float]) -> tuple[list[str], str]:
    """Return tasks, the best first, and the split that orders them.

    A study chooses on validation, so validation means order the tasks. Test means do so only where validation means
    are not comparable, because not all tasks were chosen by the same probe.

    Args:
        findings: What was computed for the study.
        test_means: Mean on the test split of each task to order.

    Returns:
        The tasks, and `validation` or `test`.
    """
    ranks = [task for task in rank_tasks(findings.study) if task in test_means]
    if len(ranks) == len(test_means):
        return ranks, VALIDATION
    return sorted(test_means, key=lambda task: -test_means[task]), TEST


def task_rivals(findings: Findings, task: str, metric: str) -> pd.DataFrame:
    """Return a task's comparisons with the tasks that rank after it on the test split, with the task as the cell.

    Args:
        findings: What was computed for the study.
        task: The task; tasks rank by `rank_tasks`, or else by their means on the test split.
        metric: Column of the runs by which the tasks are compared.

    Returns:
        Rows of `Findings.between_tasks`. The first is the runner-up: of the tasks that are not told apart from `task`
        if there are any, and otherwise of all, the one with the highest mean.
    """
    own = findings.between_tasks
    own = own.loc[(own["cell"] == task) & (own["metric"] == metric)]
    own = own.assign(apart=own["answer"] == BETTER)
    return own.sort_values(["apart", "baseline_mean"], ascending=[True, False], kind="stable").drop(columns="apart")


def rivals_before(findings: Findings, task: str, metric: str) -> pd.DataFrame:
    """Return the comparisons of the tasks that rank before a task with it, on the test split; see `task_rivals`."""
    own = findings.between_tasks
    return own.loc[(own["baseline"] == task) & (own["metric"] == metric)]


def rate(findings: Findings, phase: str, task: str, cell: str) -> pd.Series | None:
    """Return the row of `findings.rates` of a cell; None if its convergence is not counted."""
    rates = findings.rates
    own = rates.loc[(rates["phase"] == phase) & (rates["task"] == task) & (rates["cell"] == cell)]
    return own.iloc[0] if len(own) else None


def ablated_tasks(findings: Findings) -> list[str]:
    """Return the tasks that the ablate phase trained."""
    return [str(task) for task in findings.ablated["task"].unique()]


def main_dataset(findings: Findings) -> str:
    """Return the data set that the study trains on; empty if that is unknown."""
    named = findings.study.config.get("dataset")
    trained = findings.study.runs["dataset"]
    return str(named or (trained.iloc[0] if len(trained) else ""))


def answered_dataset(findings: Findings) -> str:
    """Return the data set whose test split answers whether pre-training helps.

    It is the one that the study trains on or, if that was not probed, the first one that was.
    """
    runs = findings.study.tested
    probed = [tables.dataset_of(column) for column in comparison_columns(runs) if runs[column].notna().any()]
    trained_on = main_dataset(findings)
    return trained_on if trained_on in probed or not probed else probed[0]


def unfinished_phases(findings: Findings) -> list[str]:
    """Return the phases of the study's configuration that have not ended, or ended before all their trials did."""
    study = findings.study
    left_out = () if study.config.get("ablate", {}).get("designs") else (ABLATE,)
    return [
        phase
        for phase in PHASES
        if phase not in left_out and (phase not in study.outcomes or CUT in study.outcomes[phase])
    ]


def failures(findings: Findings, task: str) -> pd.DataFrame:
    """Return the failed trials of a task's ablation."""
    runs = findings.ablated
    return runs.loc[(runs["task"] == task) & (runs["status"] == "FAILED")]


def _comparison(findings: Findings, task: str, design: str, cell: str, metric: str) -> UntrainedComparison | None:
    found = findings.against_untrained
    own = found.loc[
        (found["task"] == task) & (found["design"] == design) & (found["cell"] == cell) & (found["metric"] == metric)
    ]
    if own.empty or not own["n_seeds"].iloc[0]:
        return None
    row = own.iloc[0]
    seeds = findings.differences
    seeds = seeds.loc[
        (seeds["task"] == task)
        & (seeds["design"] == design)
        & (seeds["cell"] == cell)
        & (seeds["metric"] == metric)
        & seeds["difference"].notna()
    ]
    n_above = int((seeds["difference"] > 0).sum() if row["mode"] == "max" else (seeds["difference"] < 0).sum())
    return UntrainedComparison(n_above, row)


def _settings(columns: dict[str, Any]) -> dict[str, Any]:
    """Return a trial's training settings by name, without missing ones and ops that are off."""
    fields = [
        name for name in TrialConfig.__dataclass_fields__ if name not in (*_NOT_SETTINGS, "options", "augmentation")
    ]
    names = [*fields, *(name for name in columns if name.startswith(("option/", "augmentation/")))]
    known = {name: columns[name] for name in names if name in columns and not pd.isna(columns[name])}
    return {name: value for name, value in known.items() if not (name.startswith("augmentation/") and value == 0)}
