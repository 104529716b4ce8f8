"""Answers: what findings say about one task. They are decided here, and worded in the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from analysis.comparisons.compare import BASE, CHOSEN, PRETRAINING, PRETRAINING_TEST
from analysis.comparisons.effects import BETTER, TOO_FEW
from analysis.data import tables
from analysis.findings.findings import Findings
from analysis.stats.rates import LEARNED
from trainables.trial import BASELINES, NON_TRAINING_FIELDS, TrialConfig

Standing = Literal["better", "above in every seed", "not better"]

_NO_SETTING = (*NON_TRAINING_FIELDS, "report_every", "workers")


@dataclass(frozen=True)
class Convergence:
    """How the trials of one cell ended: the commonest verdict, of how many trials, and what is said of the first."""

    verdict: str
    count: int
    n_trials: int
    others: dict[str, int]
    evidence: str
    cure: str


@dataclass(frozen=True)
class Untrained:
    """How a task's encoders compare with untrained ones of the same seeds: the row of `against_untrained`."""

    standing: Standing
    n_above: int
    row: pd.Series


def tasks(findings: Findings) -> list[str]:
    """Return the pretext tasks of the study, in the order in which they were first tried."""
    return [task for task in findings.study.runs["task"].unique() if task not in BASELINES]


def chosen(findings: Findings) -> dict[str, dict[str, Any]]:
    """Return what the confirm phase chose for each task: config, metric, mode, mean, values, seeds, trial_ids."""
    return findings.study.outcomes.get("confirm", {}).get("chosen", {})


def ranked(findings: Findings, task: str) -> pd.DataFrame:
    """Return a task's effects against its main baseline, one row a cell, the largest gain first.

    The main baseline is the base where anything is compared with that, otherwise the one with most comparisons. A cell
    that several designs ask for stands with the largest adjusted p-value, the most careful of its answers. Cells
    without a value come last.
    """
    own = findings.effects.loc[findings.effects["task"] == task]
    if own.empty:
        return own
    counts = own["baseline"].value_counts()
    own = own.loc[own["baseline"] == (BASE if BASE in counts else counts.index[0])]
    own = own.sort_values("p_holm", ascending=False, kind="stable").drop_duplicates("cell")
    sign = -1 if findings.metrics[task].mode == "min" else 1
    return own.sort_values("mean_difference", key=lambda values: -sign * values, kind="stable", ignore_index=True)


def cures(findings: Findings, task: str) -> pd.DataFrame:
    """Return the rows of `ranked` that are better than their baseline, the best first."""
    found = ranked(findings, task)
    return found.loc[found["answer"] == BETTER]


def take_offs(findings: Findings, task: str) -> pd.DataFrame:
    """Return the cells that leave chance at more seeds than their main baseline, the largest gain first.

    Columns of `findings.take_off_changes`, with n_learned and n_baseline_learned: at how many seeds either left it.
    """
    changes = findings.take_off_changes
    own = changes.loc[(changes["task"] == task) & (changes["rate_difference"] > 0)]
    own = own.loc[own["baseline"].isin(ranked(findings, task)["baseline"].head(1))]
    own = own.sort_values(["rate_difference", "p_holm"], ascending=[False, True], kind="stable").drop_duplicates("cell")
    learned = findings.ablated["verdict"].isin(LEARNED) & (findings.ablated["task"] == task)
    counts = learned.groupby(findings.ablated["cell"]).sum().astype("int64")
    return own.assign(n_learned=own["cell"].map(counts), n_baseline_learned=own["baseline"].map(counts))


def convergence(findings: Findings, phase: str, task: str, cell: str) -> Convergence | None:
    """Return how the trials of a cell ended; None where none has a verdict."""
    verdicts = findings.verdicts
    own = verdicts.loc[(verdicts["phase"] == phase) & (verdicts["task"] == task) & (verdicts["cell"] == cell)]
    if own.empty:
        return None
    counts = {str(name): int(count) for name, count in own["verdict"].value_counts().items()}
    verdict = next(iter(counts))
    first = own.loc[own["verdict"] == verdict].sort_values("seed").iloc[0]
    return Convergence(verdict, counts.pop(verdict), len(own), counts, first["evidence"], first["cure"])


def chosen_cell(findings: Findings, task: str) -> str:
    """Return the cell of the confirm phase that was chosen; empty where none was."""
    trials = chosen(findings).get(task, {}).get("trial_ids", [])
    cells = findings.study.runs.loc[findings.study.runs["trial_id"].isin(trials), "cell"]
    return str(cells.iloc[0]) if len(cells) else ""


def base_changes(findings: Findings, task: str) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which the ablation's base differs from what was chosen: {name: (chosen, base)}.

    None for what one of the two leaves at its default. Nothing where either is missing.
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
    """Return the settings of the ablation's base; nothing where it did not run."""
    own = findings.ablated.loc[(findings.ablated["task"] == task) & (findings.ablated["cell"] == BASE)]
    return _settings(own.iloc[0].to_dict()) if len(own) else {}


def against_untrained(findings: Findings, task: str, dataset: str) -> Untrained | None:
    """Compare what was chosen for a task with untrained encoders on the test split of a data set.

    By the linear probe, on masks alone by the segmentation probe. With fewer seeds than a test needs: whether every
    seed lies above. None where it was not evaluated.
    """
    tried = (
        _standing(findings, task, PRETRAINING_TEST, CHOSEN, f"probe/{dataset}/{probe}") for probe in tables.JUDGING
    )
    return next((found for found in tried if found is not None), None)


def base_against_untrained(findings: Findings, task: str) -> Untrained | None:
    """Compare the ablation's base with untrained encoders; None where the ablate phase has none of its shape."""
    return (
        _standing(findings, task, PRETRAINING, BASE, findings.metrics[task].column)
        if task in findings.metrics
        else None
    )


def best_task(findings: Findings) -> str | None:
    """Return the task whose chosen configuration has the best mean on validation; None where means do not compare.

    They do where all tasks were chosen by the same probe. The test split has no say in it.
    """
    choices = chosen(findings)
    metrics = {choice.get("metric", "") for choice in choices.values()}
    if len(metrics) != 1 or not next(iter(metrics)).startswith("probe/"):
        return None
    return max(choices, key=lambda task: choices[task]["mean"])


def rate(findings: Findings, phase: str, task: str, cell: str) -> pd.Series | None:
    """Return the row of `findings.rates` of a cell; None where its convergence is not counted."""
    rates = findings.rates
    own = rates.loc[(rates["phase"] == phase) & (rates["task"] == task) & (rates["cell"] == cell)]
    return own.iloc[0] if len(own) else None


def ablated_tasks(findings: Findings) -> list[str]:
    """Return the tasks that the ablate phase trained."""
    return [str(task) for task in findings.ablated["task"].unique()]


def main_dataset(findings: Findings) -> str:
    """Return the data set that the study trains on; empty where that is not known."""
    named = findings.study.config.get("dataset")
    trained = findings.study.runs["dataset"]
    return str(named or (trained.iloc[0] if len(trained) else ""))


def failures(findings: Findings, task: str) -> pd.DataFrame:
    """Return the failed trials of a task's ablation."""
    runs = findings.ablated
    return runs.loc[(runs["task"] == task) & (runs["status"] == "FAILED")]


def _standing(findings: Findings, task: str, design: str, cell: str, metric: str) -> Untrained | None:
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
    if row["answer"] == BETTER:
        return Untrained("better", n_above, row)
    if row["answer"] == TOO_FEW and n_above == len(seeds):
        return Untrained("above in every seed", n_above, row)
    return Untrained("not better", n_above, row)


def _settings(columns: dict[str, Any]) -> dict[str, Any]:
    """Return what a trial was trained with by name, without what is missing and ops that are off."""
    fields = [
        name for name in TrialConfig.__dataclass_fields__ if name not in (*_NO_SETTING, "options", "augmentation")
    ]
    names = [*fields, *(name for name in columns if name.startswith(("option/", "augmentation/")))]
    known = {name: columns[name] for name in names if name in columns and not pd.isna(columns[name])}
    return {name: value for name, value in known.items() if not (name.startswith("augmentation/") and value == 0)}
