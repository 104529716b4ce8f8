"""The report: one self-contained HTML page that says what a study found, on what evidence, and at what cost.

It renders. What the numbers are is decided in `analysis.tables`, how they look in `analysis.figures`, and which
figures there are in `analysis.pictures`.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import yaml

from analysis import tables
from analysis.load import Study, headlines, load
from analysis.pictures import (
    Picture,
    accuracy_pictures,
    compared_by,
    curve_pictures,
    pretext_tasks,
    search_pictures,
)
from study.journal import FAILED, KILLED
from trainables.trial import BASELINES

FILE_NAME, FIGURES, RECOMMENDED = "report.html", "figures", "recommended.yaml"
FEW_SEEDS = 5  # below, every seed is shown and nothing is tested (DESIGN section 10)
NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table as text; the first `n_words` columns are words, the others numbers, set flush right."""

    head: list[str]
    rows: list[list[str]]
    n_words: int = 1


def write_report(folder: Path) -> Path:
    """Write `report.html` and `figures/*.png` into the study's folder; return the page's path.

    The page holds its figures and its style, and asks the network for nothing. A study that is still running gets a
    report of what it has so far. Raises UserError where `folder` holds no study.
    """
    study = load(folder)
    figures = folder / FIGURES
    figures.mkdir(exist_ok=True)

    def saved(pictures: list[Picture]) -> list[dict[str, str]]:
        return [{"alt": each.alt, "code": each.code, "image": each.save(figures)} for each in pictures]

    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            study=study,
            folder=folder.as_posix(),
            run=_what_was_run(study, folder),
            chosen=_chosen(study),
            recommended=_text(folder / RECOMMENDED),
            learned=_learned(study),
            curve_figures=saved(curve_pictures(study)),
            searched=_searched(study),
            search_figures=saved(search_pictures(study)),
            compared=_compared(study),
            accuracy_figures=saved(accuracy_pictures(study)),
            failed=_failed(study.runs),
            cost=_cost(study.runs),
        )
    )
    path = folder / FILE_NAME
    temporary = path.with_suffix(".tmp")
    temporary.write_text(page, encoding="utf-8")
    return temporary.replace(path)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("analysis"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _what_was_run(study: Study, folder: Path) -> dict[str, Any]:
    started = next((event for event in headlines(folder) if event["event"] == "study_started"), {})
    rows = []
    for name, info in study.datasets.items():
        counts = info.get("counts") or {}
        classes = info.get("n_classes") or len(info.get("class_names") or ())
        splits = ", ".join(f"{split} {_count(n)}" for split, n in counts.items())
        size = info.get("image_size")
        rows.append(
            [name, f"{size} × {size} px" if size else NONE, str(classes), splits, info.get("fingerprint") or NONE]
        )
    when = datetime.datetime.fromtimestamp(started["time"], datetime.UTC) if "time" in started else None
    versions = started.get("versions") or {}
    return {
        "started": f"{when:%Y-%m-%d %H:%M} UTC" if when else "",
        "commit": started.get("git_commit") or "",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "tasks": pretext_tasks(study.runs),
        "phases": list(study.runs["phase"].unique()),
        "running": int((study.runs["status"] == "RUNNING").sum()),
        "datasets": Table(["data set", "image size", "classes", "images in each split", "fingerprint"], rows, 5),
    }


def _chosen(study: Study) -> list[dict[str, Any]]:
    """Return what the confirm phase chose, a task each."""
    found = []
    for task, choice in study.outcomes.get("confirm", {}).get("chosen", {}).items():
        values = choice.get("values") or []
        found.append(
            {
                "task": task,
                "metric": choice.get("metric", ""),
                "mean": _number(choice.get("mean")),
                "each_seed": ", ".join(map(_number, values)),
                "n_seeds": len(values),
                "yaml": yaml.safe_dump({task: choice["config"]}, sort_keys=False, allow_unicode=True),
            }
        )
    return found


def _learned(study: Study) -> dict[str, Any]:
    """Compare each configuration's primary metric with chance, in the confirm phase or else in the search."""
    judged = tables.against_chance(study.runs, study.curves)
    phase = "confirm" if (judged["phase"] == "confirm").any() else "search"
    judged = judged.loc[judged["phase"] == phase]
    runs = study.runs.loc[study.runs["trial_id"].isin(judged["trial_id"])]
    names = pd.concat([tables.configurations(group) for _, group in runs.groupby("task")] or [pd.Series(dtype="str")])
    judged = judged.assign(configuration=judged["trial_id"].map(names.set_axis(runs["trial_id"].loc[names.index])))
    rows = []
    for (task, configuration, metric), group in judged.groupby(["task", "configuration", "metric"], sort=False):
        beats = group["beats_chance"].dropna()
        rows.append(
            [
                *(str(task), str(configuration) or NONE, str(metric)),
                ", ".join(map(_number, group["value"])),
                _number(group["untrained"].mean()),
                _number(group["chance"].iloc[0]),
                ", ".join(map(_number, group["bound"])),
                _number(group["ratio"].mean(), 2),
                f"{int(beats.sum())} of {len(group)}" if len(beats) else NONE,
            ]
        )
    head = [
        "task",
        "configuration",
        "metric",
        "each seed",
        "untrained",
        "chance",
        "95 % bound of each",
        "mean / chance",
        "beat chance",
    ]
    at_chance = [row[0] for row in rows if row[-1].startswith("0 of")]
    early = tables.accuracy_lower_bound(
        judged["untrained"].to_numpy(), judged["n_validation"].to_numpy(float, na_value=np.nan)
    )
    early_tasks = judged.loc[judged["metric"].map(tables.is_accuracy).astype(bool) & (early > judged["chance"]), "task"]
    return {
        "phase": phase,
        "beyond_untrained": list(early_tasks.unique()),
        "table": Table(head, rows, 3),
        "at_chance": list(dict.fromkeys(at_chance)),
        "no_bound": bool(judged["bound"].isna().any()),
        "n_trials": len(judged),
    }


def _searched(study: Study) -> dict[str, Any]:
    searched = tables.last_values(study.runs.query("phase == 'search'"), study.curves)
    counts = tables.statuses(searched)
    names = [name for name in counts if name not in ("task", "trials")]
    rows, unlabelled = [], []
    for task in pretext_tasks(searched):
        of_task = searched.loc[searched["task"] == task]
        column = compared_by(study, of_task, task)
        best = tables.best(of_task, column)
        count = counts.loc[counts["task"] == task].iloc[0]
        settings = tables.configurations(of_task)
        rows.append(
            [
                task,
                column.removeprefix(tables.LAST),
                settings.loc[best] if best is not None else NONE,
                _number(of_task.loc[best, column]) if best is not None else NONE,
                *(str(count[name]) for name in ("trials", *names)),
            ]
        )
        if not column.removeprefix(tables.LAST).startswith("probe/"):
            unlabelled.append(task)
    head = ["task", "compared by, at the last report", "best trial", "its value", "trials", *names]
    return {"table": Table(head, rows, 3), "unlabelled": unlabelled}


def _compared(study: Study) -> dict[str, Any]:
    """Return the probes on the test split beside chance and the untrained baselines."""
    summary = tables.probe_summary(tables.probe_results(study.runs.query("probe_split == 'test'")))
    pairs = list(summary[["dataset", "probe"]].drop_duplicates().itertuples(index=False, name=None))
    cells = {(row.task, row.dataset, row.probe): _mean_and_sd(row) for row in summary.itertuples()}
    rows = [[task, *(cells.get((task, *pair), NONE) for pair in pairs)] for task in summary["task"].unique()]
    levels = summary.groupby(["dataset", "probe"])["chance"].first()
    if rows:
        rows.append(["chance", *(_number(levels.loc[pair]) for pair in pairs)])
    useless = [
        f"{row.task}, {row.dataset}, {row.probe}: {row.mean:.3f} against {row.baseline_mean:.3f} of {row.baseline}"
        for row in tables.not_above_baselines(summary).itertuples()
    ]
    trained = summary.loc[summary["task"].isin(pretext_tasks(study.runs)), "n_seeds"]
    return {
        "table": Table(["encoder", *(f"{dataset} {probe}" for dataset, probe in pairs)], rows),
        "useless": useless,
        "missing": [task for task in BASELINES if task not in set(summary["task"])],
        "n_seeds": int(trained.min()) if len(trained) else 0,
        "few_seeds": FEW_SEEDS,
    }


def _failed(runs: pd.DataFrame) -> list[dict[str, str]]:
    bad = runs.loc[runs["status"].isin([FAILED, KILLED])]
    columns = ["trial_id", "phase", "task", "seed", "status", "steps", "reason"]
    return [
        {**{name: str(value) for name, value in row.items()}, "settings": settings}
        for row, settings in zip(bad[columns].to_dict("records"), tables.configurations(bad), strict=True)
    ]


def _cost(runs: pd.DataFrame) -> Table:
    by_phase = tables.cost(runs)
    rows = [[row.phase, *_cost_cells(row)] for row in by_phase.itertuples()]
    total = tables.cost(runs.assign(phase="total"))
    rows += [[row.phase, *_cost_cells(row)] for row in total.itertuples()]
    return Table(["phase", "trials", "wall time, s", "optimiser steps", "images seen", "mean images/s"], rows)


def _cost_cells(row: Any) -> list[str]:
    throughput = NONE if pd.isna(row.images_per_s) else _count(round(row.images_per_s))
    return [_count(row.trials), f"{row.wall_s:,.1f}", _count(row.steps), _count(row.samples_seen), throughput]


def _mean_and_sd(row: Any) -> str:
    spread = "" if pd.isna(row.sd) else f" ± {row.sd:.3f}"
    return f"{row.mean:.3f}{spread} ({row.n_seeds})"


def _number(value: float | None, digits: int = 3) -> str:
    return NONE if value is None or pd.isna(value) else f"{value:.{digits}f}"


def _count(n: int) -> str:
    return f"{n:,}"
