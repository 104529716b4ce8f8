"""Findings: which frames are computed for a study, and by which metric. The report and the tables only show them."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from statsmodels.stats.power import TTestPower

from analysis import paired, rates, tables
from analysis.convergence import verdicts
from analysis.effects import EFFECT_DTYPES, EVERY_CELL, PAIR_DTYPES, Mode, effects, paired_differences
from analysis.load import Study, load
from trainables.errors import UserError, suggestion
from trainables.trial import BASELINES, RANDOM_INIT

ABLATE, EVALUATE, BASE = "ablate", "evaluate", "base"
CHOSEN = "chosen"  # the cell of the confirmed encoders on the test split
PRETRAINING = "pre-training"  # the design that compares with untrained encoders of the same shape and seeds
PRETRAINING_TEST = "pre-training, test split"
COUNTED_PHASES = ("confirm", ABLATE)  # in which a cell has a trial a seed, so that its converged trials can be counted
VERDICTS_FILE, EFFECTS_FILE = "verdicts.csv", "effects.csv"
ALPHA = 0.05
MOST_SEEDS = 10_000

Compared = tuple[pd.DataFrame, pd.DataFrame]  # rows of `Findings.effects`, and of `Findings.differences`

_ABOUT = ["trial_id", "phase", "task", "cell", "seed", "status"]
_KEY = ["task", "design", "cell", "baseline"]
_RATE_DTYPES = {
    **dict.fromkeys(("phase", "task", "cell"), "str"),
    **dict.fromkeys(("n_seeds", "n_converged"), "int64"),
    **dict.fromkeys(("rate", "ci_low", "ci_high"), "float64"),
}
_CHANGE_DTYPES = {
    **dict.fromkeys(_KEY, "str"),
    **dict.fromkeys(("n_pairs", "only_cell", "only_baseline"), "int64"),
    **dict.fromkeys(("rate_difference", "p", "p_holm"), "float64"),
}


class Metric(NamedTuple):
    """What a task's ablation is judged by: a column of `Findings.ablated`, and whether more or less of it is better."""

    column: str
    mode: Mode


@dataclass(frozen=True, eq=False)
class Findings:
    """What was found in a study.

    verdicts: trial_id, phase, task, cell, seed, status, verdict, evidence, cure; one row for each trial that trained.
    ablated: the runs of the ablate phase that trained, with `last/METRIC`, verdict and converged (boolean, missing
        where a trial has no verdict).
    metrics: of each ablated task that has a value. margin: the smallest difference that matters, in their units.
    effects: `analysis.effects.effects` of every task, with the columns metric, mode and seeds_needed: how many seeds a
        paired t-test would need to find a difference as large as the margin with probability 0.8, going by the spread
        of these seeds; missing where the answer is not `inconclusive`.
    against_untrained: the same columns as effects: ablated cells (design PRETRAINING) and confirmed encoders on the
        test split (PRETRAINING_TEST, one metric a data set) against untrained encoders of the same seeds.
    differences: every seed of the comparisons of both, as `analysis.effects.paired_differences` gives them, with the
        column metric.
    rates: phase, task, cell and how many of its seeds converged, as `analysis.rates.convergence_rates` counts.
    rate_changes: `analysis.rates.rate_differences` of the comparisons of `effects`.
    """

    study: Study
    verdicts: pd.DataFrame
    ablated: pd.DataFrame
    metrics: dict[str, Metric]
    margin: float | None
    effects: pd.DataFrame
    against_untrained: pd.DataFrame
    differences: pd.DataFrame
    rates: pd.DataFrame
    rate_changes: pd.DataFrame

    @property
    def every_effect(self) -> pd.DataFrame:
        """The comparisons with a baseline cell and those with untrained encoders, told apart by `design`."""
        return pd.concat([self.effects, self.against_untrained], ignore_index=True)


def find(
    study: Study,
    *,
    task: str | None = None,
    metric: str | None = None,
    baseline: str | None = None,
    margin: float | None = None,
) -> Findings:
    """Return what was found in a study; a part that was not run has frames without rows.

    A task's ablation is judged by the final linear probe of the data set it trained on where there is one, otherwise by
    its primary metric at the last report. Its designs, and the cells that each is compared with, are those the study
    ran; of a phase that has not ended these are not known, and every cell is compared with the base.

    task: that task alone. metric: another column of `runs` or metric of `curves` to judge all tasks by.
    baseline: compare every cell with this one instead. margin: another than the study's.

    Raises UserError where the study has no such task, metric or baseline, and for a margin that is not above 0.
    """
    study = study if task is None else _only(study, task)
    judged = verdicts(study.runs, study.curves)
    ablated = _ablated(study, judged)
    if ablated.empty and (metric or baseline):
        raise UserError(f"{study.name}: no ablation was run; name designs under `ablate` in the study's YAML")
    metrics = _metrics(ablated, metric)
    margin = margin if margin is not None else (study.config.get(ABLATE) or {}).get("margin")
    compared = {name: _designs(study.designs, own, baseline) for name, own in ablated.groupby("task", sort=False)}
    compared = {name: designs for name, designs in compared.items() if name in metrics and len(designs)}
    inside = [
        _compared(ablated.loc[ablated["task"] == name], designs, metrics[name], margin)
        for name, designs in compared.items()
    ]
    untrained = [*_cells_against_untrained(study, ablated, metrics, margin), *_chosen_against_untrained(study, margin)]
    counted = _counted(study.runs.loc[study.runs["phase"].isin(COUNTED_PHASES)], judged)
    return Findings(
        study,
        study.runs[_ABOUT].merge(judged, on="trial_id"),
        ablated,
        metrics,
        margin,
        _joined([found for found, _ in inside], _columns()),
        _joined([found for found, _ in untrained], _columns()),
        _joined([seeds for _, seeds in (*inside, *untrained)], PAIR_DTYPES | {"metric": "str"}),
        rates.convergence_rates(counted, judged, ["phase", "task", "cell"]) if len(counted) else _no_rows(_RATE_DTYPES),
        _rate_changes(counted.loc[counted["phase"] == ABLATE], judged, compared),
    )


def write_tables(folder: Path, findings: Findings | None = None) -> list[Path]:
    """Write `verdicts.csv` and `effects.csv` into the study's folder and return their paths; both, or neither.

    effects.csv holds `Findings.every_effect`.
    findings: computed from the folder where they are not given. Raises UserError where it holds no study.
    """
    findings = findings or find(load(folder))
    contents = {VERDICTS_FILE: findings.verdicts, EFFECTS_FILE: findings.every_effect}
    written = {folder / name: folder / f".{name}.{os.getpid()}" for name in contents}
    try:
        for temporary, frame in zip(written.values(), contents.values(), strict=True):
            frame.to_csv(temporary, index=False)
        for path, temporary in written.items():
            temporary.replace(path)
    finally:
        for temporary in written.values():
            temporary.unlink(missing_ok=True)
    return list(written)


def cells_of(findings: Findings, task: str, design: str) -> pd.DataFrame:
    """Return the rows of `findings.ablated` whose cells belong to one design of one task."""
    designs = findings.study.designs
    cells = designs.loc[(designs["task"] == task) & (designs["design"] == design), "cell"]
    return findings.ablated.loc[(findings.ablated["task"] == task) & findings.ablated["cell"].isin(cells)]


def _only(study: Study, task: str) -> Study:
    """Return the study with the runs of one task and of the baselines."""
    known = [name for name in study.runs["task"].unique() if name not in BASELINES]
    if task not in known:
        raise UserError(f"{study.name}: no trial of {task!r}; {suggestion(task, known)}")
    runs = study.runs.loc[study.runs["task"].isin([task, *BASELINES])]
    return dataclasses.replace(
        study, runs=runs, curves=study.curves.loc[study.curves["trial_id"].isin(runs["trial_id"])]
    )


def _ablated(study: Study, judged: pd.DataFrame) -> pd.DataFrame:
    runs = tables.last_values(study.runs, study.curves)
    trained = runs.loc[(runs["phase"] == ABLATE) & ~runs["task"].isin(BASELINES)]
    trained = trained.merge(judged[["trial_id", "verdict"]], on="trial_id", how="left")
    converged = (trained["verdict"] == "converged").astype("boolean")
    return trained.assign(converged=converged.mask(trained["verdict"].isna()))


def _metrics(ablated: pd.DataFrame, wanted: str | None) -> dict[str, Metric]:
    """Return what each task is judged by; a task without any value has no entry."""
    found = {}
    for task, own in ablated.groupby("task", sort=False):
        if wanted is not None:
            column = next((name for name in (wanted, tables.LAST + wanted) if name in own), wanted)
        else:
            primary = tables.LAST + next((name for name in own["primary_metric"] if name), "")
            probes = [f"probe/{dataset}/linear" for dataset in own["dataset"].unique()]
            column = next((name for name in (*probes, primary) if name in own and own[name].notna().any()), "")
        if column:
            found[str(task)] = Metric(column, tables.mode_of(own, column))
    return found


def _designs(designs: pd.DataFrame, own: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """Return the comparisons that a task's runs allow: rows whose cell and baseline both ran."""
    task, cells = own["task"].iloc[0], list(own["cell"].unique())
    if baseline is not None and baseline not in cells:
        raise UserError(f"{task}: no cell {baseline!r}; there are {', '.join(map(repr, cells))}")
    if baseline is not None or designs.empty:
        reference = baseline or BASE
        rows = [(task, EVERY_CELL, cell, reference) for cell in cells if reference in cells and cell != reference]
        return pd.DataFrame(rows, columns=_KEY, dtype="str")
    ran = designs["cell"].isin(cells) & designs["baseline"].isin(cells)
    return designs.loc[(designs["task"] == task) & ran & (designs["cell"] != designs["baseline"])]


def _compared(runs: pd.DataFrame, designs: pd.DataFrame, metric: Metric, margin: float | None) -> Compared:
    """Return the effects of one task's designs and the seeds behind them, with the metric and the seeds needed."""
    seeds = paired_differences(runs, metric.column, designs=designs).assign(metric=metric.column)
    found = effects(runs, metric.column, designs=designs, mode=metric.mode, margin=margin)
    found = found.assign(metric=metric.column, mode=metric.mode, seeds_needed=pd.array([pd.NA] * len(found), "Int64"))
    if margin is None:
        return found, seeds
    spread = seeds.groupby(_KEY)["difference"].std()
    tested = (found["test"] != "").groupby([found["task"], found["design"]]).transform("sum")
    for index in found.index[found["answer"] == "inconclusive"]:
        sd = spread.loc[tuple(found.loc[index, _KEY])]
        found.loc[index, "seeds_needed"] = _seeds_needed(sd, margin, ALPHA / tested[index])
    return found, seeds


def _seeds_needed(sd: float, difference: float, alpha: float) -> Any:
    """Return how many seeds a paired t-test at level alpha needs to find `difference` with `paired.POWER`."""
    if not sd > 0:
        return pd.NA
    size = difference / sd
    power = TTestPower()
    if power.power(size, paired.MIN_SEEDS, alpha) >= paired.POWER:
        return paired.MIN_SEEDS
    if power.power(size, MOST_SEEDS, alpha) < paired.POWER:
        return MOST_SEEDS
    return math.ceil(float(np.squeeze(power.solve_power(size, alpha=alpha, power=paired.POWER))))


def _cells_against_untrained(
    study: Study, ablated: pd.DataFrame, metrics: dict[str, Metric], margin: float | None
) -> list[Compared]:
    """Compare cells with the untrained encoders of the ablate phase that have their shape."""
    untrained = study.runs.loc[(study.runs["phase"] == ABLATE) & (study.runs["task"] == RANDOM_INIT)]
    shapes = untrained[["encoder", "width"]].drop_duplicates()
    found = []
    for task, metric in metrics.items():
        own = ablated.loc[ablated["task"] == task].merge(shapes, on=["encoder", "width"])
        if metric.column in untrained and untrained[metric.column].notna().any() and len(own):
            found.append(_against_untrained(own, untrained, PRETRAINING, metric, margin))
    return found


def _chosen_against_untrained(study: Study, margin: float | None) -> list[Compared]:
    """Compare the confirmed encoders of each task with untrained ones on the test split of every data set."""
    runs = study.runs.loc[(study.runs["phase"] == EVALUATE) & (study.runs["probe_split"] == "test")]
    untrained = runs.loc[runs["task"] == RANDOM_INIT]
    trained = runs.loc[~runs["task"].isin(BASELINES)].assign(cell=CHOSEN)
    columns = [name for name in runs if tables.is_final_accuracy(name) and name.endswith("/linear")]
    return [
        _against_untrained(own, untrained, PRETRAINING_TEST, Metric(column, "max"), margin)
        for _, own in trained.groupby("task", sort=False)
        for column in columns
        if own[column].notna().any() and untrained[column].notna().any()
    ]


def _against_untrained(
    own: pd.DataFrame, untrained: pd.DataFrame, design: str, metric: Metric, margin: float | None
) -> Compared:
    """Compare the cells of one task with untrained encoders, by seed, as one family."""
    task = own["task"].iloc[0]
    runs = pd.concat([own, untrained.assign(task=task, cell=RANDOM_INIT)], ignore_index=True)
    rows = [(task, design, cell, RANDOM_INIT) for cell in own["cell"].unique()]
    designs = pd.DataFrame(rows, columns=_KEY, dtype="str")
    return _compared(runs, designs, metric, margin)


def _counted(runs: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Return the runs over which convergence is counted, maybe none; why others are not, `rates.left_out` tells."""
    trained = runs.loc[runs["trial_id"].isin(judged["trial_id"])]
    return trained.loc[~trained["trial_id"].isin(rates.left_out(trained)["trial_id"])]


def _rate_changes(counted: pd.DataFrame, judged: pd.DataFrame, compared: dict[str, pd.DataFrame]) -> pd.DataFrame:
    parts = []
    for task, designs in compared.items():
        own = counted.loc[counted["task"] == task]
        wanted = designs.loc[designs["cell"].isin(own["cell"]) & designs["baseline"].isin(own["cell"])]
        if len(wanted):
            parts.append(rates.rate_differences(own, judged, wanted))
    return _joined(parts, _CHANGE_DTYPES)


def _columns() -> dict[str, str]:
    """Return the dtypes of `Findings.effects`: those of `effects`, the metric after what is compared."""
    names = dict(EFFECT_DTYPES)
    key = {name: names.pop(name) for name in _KEY}
    return key | {"metric": "str", "mode": "str"} | names | {"seeds_needed": "Int64"}


def _joined(parts: list[pd.DataFrame], dtypes: dict[str, str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)[list(dtypes)].astype(dtypes) if parts else _no_rows(dtypes)


def _no_rows(dtypes: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in dtypes.items()})
