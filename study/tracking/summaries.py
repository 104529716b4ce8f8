"""Summaries of a study and of its phases for their MLflow runs: a few metrics, and what they say in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.data.study import Study
from analysis.data.tables import COMPARISON_PROBES, LAST, last_values
from analysis.records import FAILED, STOPPED
from analysis.records.phases import CONFIRM, EVALUATE, SEARCH
from study.tracking.notes import PURPOSES, escaped
from trainables.trial import ONLINE_PROBES

BEST, MEAN = "best/", "mean/"  # metrics per task: a single trial's value, which selection makes optimistic; over seeds
SETTINGS = {"lr": "lr", "batch_size": "batch", "augmentation_strength": "strength"}


@dataclass(frozen=True)
class Summary:
    """Summary of a run that has runs below it.

    Attributes:
        metrics: Numbers of trials, and one value per task.
        note: Description in markdown; its first line is the headline.
    """

    metrics: Mapping[str, float]
    note: str


def study_summary(study: Study, headline: str) -> Summary:
    """Return the summary of a whole study.

    Args:
        study: The study.
        headline: The report's first sentences, in markdown; empty without a report.
    """
    metric = comparison_metric(study)
    means = _means(study, EVALUATE, metric)
    said = headline or _listed(f"{metric} on the test split, mean of seeds", means)
    table = _table(["task", metric, "seeds"], means.reset_index().to_numpy().tolist())
    return Summary(_counts(study.runs) | _metrics(MEAN, means["mean"]), f"{said}\n\n{table}".strip())


def phase_summary(study: Study, phase: str, objectives: Mapping[str, Sequence[str]]) -> Summary:
    """Return the summary of a phase that has ended.

    Args:
        study: The study.
        phase: Name of the phase.
        objectives: Per task, the metric that the search optimizes, and its direction.
    """
    runs = study.runs[study.runs["phase"] == phase]
    counts, purpose = _counts(runs), PURPOSES.get(phase, "")
    head = f"**{phase}**: {len(runs)} trials, {counts['failed']:.0f} failed. {purpose.capitalize()}"
    if phase == SEARCH:
        rows = _searched(study, runs, objectives)
    elif phase == CONFIRM:
        chosen = study.outcomes.get(CONFIRM, {}).get("chosen", {})
        rows = [(task, _settings(each["config"]), each["metric"], each["mean"]) for task, each in chosen.items()]
    else:
        metric = comparison_metric(study)
        means = _means(study, phase, metric)
        cells = runs[["task", "cell"]].drop_duplicates().groupby("task", sort=False).size()
        if cells.max() > 1:  # a mean over cells says nothing
            return Summary(counts, f"{head}\n\n{_table(['task', 'cells'], list(cells.items()))}")
        body = _table(["task", metric, "seeds"], means.reset_index().to_numpy().tolist())
        return Summary(counts | _metrics(MEAN, means["mean"]), f"{head} {_listed(metric, means)}\n\n{body}")
    values = {task: value for task, _, _, value in rows}
    found = ", ".join(f"{escaped(task)} {value:.3f}" for task, value in values.items())
    kind = "Best single trials" if phase == SEARCH else "Means over fresh seeds"
    body = _table(["task", *SETTINGS.values(), "metric", "value"], [(t, *s, m, v) for t, s, m, v in rows])
    metrics = _metrics(BEST if phase == SEARCH else MEAN, pd.Series(values, dtype="float64"))
    return Summary(counts | metrics, f"{head} {kind}: {found}.\n\n{body}" if rows else head)


def comparison_metric(study: Study) -> str:
    """Return the result by which tasks are compared on the data set that they train on; `probe/linear` if unknown."""
    trained_on = study.config.get("dataset") or next(iter(study.runs["dataset"]), "")
    names = [f"probe/{trained_on}/{probe}" for probe in COMPARISON_PROBES]
    return next((name for name in names if name in study.runs and study.runs[name].notna().any()), ONLINE_PROBES[0])


def _means(study: Study, phase: str, metric: str) -> pd.DataFrame:
    """Return columns mean and size by task, the highest mean first."""
    runs = study.runs[study.runs["phase"] == phase]
    values = runs[metric] if metric in runs else pd.Series(float("nan"), runs.index)
    groups = values.dropna().groupby(runs["task"])
    return groups.agg(["mean", "size"]).sort_values("mean", ascending=False)


def _searched(
    study: Study, runs: pd.DataFrame, objectives: Mapping[str, Sequence[str]]
) -> list[tuple[str, list[float], str, float]]:
    """Return task, settings, metric and value of each task's best trial."""
    last = last_values(runs, study.curves).set_index("trial_id")
    rows = []
    for task, ranking in study.outcomes.get(SEARCH, {}).get("best", {}).items():
        metric = objectives.get(task, ONLINE_PROBES)[0]
        if ranking and ranking[0] in last.index and LAST + metric in last:
            best = last.loc[ranking[0]]
            rows.append((task, _settings(best), metric, float(best[LAST + metric])))
    return rows


def _settings(values: Any) -> list[float]:
    return [float(values[name]) for name in SETTINGS]


def _counts(runs: pd.DataFrame) -> dict[str, float]:
    status = runs["status"]
    return {"trials": len(runs), "failed": int((status == FAILED).sum()), "stopped": int((status == STOPPED).sum())}


def _metrics(prefix: str, values: pd.Series) -> dict[str, float]:
    return {f"{prefix}{task}": float(value) for task, value in values.dropna().items()}


def _listed(metric: str, means: pd.DataFrame) -> str:
    values = ", ".join(f"{escaped(str(task))} {value:.3f}" for task, value in means["mean"].items())
    return f"{escaped(metric)}: {values}." if values else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [list(map(escaped, header)), ["---"] * len(header), *([_cell(each) for each in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if len(lines) > 2 else ""


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else escaped(str(value))
