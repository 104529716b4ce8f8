"""Section "What was run, and what did it cost?": cost of the phases, data sets, failed trials."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

from analysis.data import tables
from analysis.data.study import Study
from analysis.findings import Findings, queries
from analysis.records import FAILED, StudyStarted
from analysis.records.phases import short_seed
from analysis.report.blocks import Block, Bullets, Code, Folded, Heading, Section, Table, Text
from analysis.report.sections.trials import Beside, every_trial
from analysis.report.words import NONE, count, counted, listed

TOTAL = "total"  # name of the last row


def what_it_cost(findings: Findings, started: StudyStarted | None, beside: Beside) -> Section:
    """Return the section on cost, with every trial and the files of the study.

    Args:
        findings: What was computed for the study.
        started: First event of the study's journal; None without a journal.
        beside: The study's files beside the page, and its runs in MLflow.
    """
    origin = [_origin(started)] if started else []
    datasets = [_datasets(findings.study.datasets)] if findings.study.datasets else []
    blocks = [
        _cost(findings),
        *datasets,
        *_inventories(findings.study.datasets),
        *origin,
        *every_trial(findings, beside),
        *beside.files(),
        *_failed(findings),
    ]
    runs = findings.study.runs
    n_failed = int((runs["status"] == FAILED).sum())
    lead = f"{_duration(findings.study)}, {count(n_failed)} failed."
    return Section("cost", "What was run, and what did it cost?", blocks, lead)


def header(findings: Findings) -> str:
    """Return the line under the study's name: its tasks, its data set, the number of trials, and missing plug-ins."""
    runs = findings.study.runs
    dataset = queries.main_dataset(findings)
    phases = f" in {listed(runs['phase'].unique())}" if len(runs) else ""
    tasks = listed(queries.tasks(findings)) or "No pretext task"
    missing = listed(findings.study.missing_plugins)
    without = f" Shown without {missing}, which is not on this machine." if missing else ""
    return f"{tasks}{f' on {dataset}' if dataset else ''}; {counted(len(runs), 'trial')}{phases}.{without}"


def _origin(started: StudyStarted) -> Text:
    """Return when the study started, on which code, and with which versions of the libraries."""
    when = datetime.datetime.fromtimestamp(started.time, datetime.UTC)
    parts = [
        f"Started {when:%Y-%m-%d %H:%M} UTC",
        f"code at {started.git_commit[:12]}" if started.git_commit else "",
        ", ".join(f"{name} {version}" for name, version in started.versions.items()),
    ]
    return Text("; ".join(filter(None, parts)) + ".")


def _elapsed(study: Study) -> dict[str, float]:
    """Return the seconds on the clock by phase and as `total`; empty if unknown, or if the trials were simulated."""
    if study.simulated or not study.elapsed_s:
        return {}
    return {**study.elapsed_s, TOTAL: sum(study.elapsed_s.values())}


def _duration(study: Study) -> str:
    """Return how long a study took: `53 trials in 83 s (149 s of trials, some side by side)`."""
    runs, elapsed = study.runs, _elapsed(study)
    trials, seconds = counted(len(runs), "trial"), runs["wall_s"].sum()
    if not elapsed:
        return f"{trials}, {count(seconds)} s of trials"
    parallel = ", side by side" if seconds > elapsed[TOTAL] else ""
    return f"{trials} in {count(elapsed[TOTAL])} s ({count(seconds)} s of trials{parallel})"


def _cost(findings: Findings) -> Table:
    runs, elapsed = findings.study.runs, _elapsed(findings.study)
    both = [*tables.cost(runs).itertuples(), *tables.cost(runs.assign(phase=TOTAL)).itertuples()]
    rows = [[str(row.phase), *_cost_cells(row, elapsed)] for row in both]
    head = ["phase", "trials", "elapsed, s", "trial time, s", "optimizer steps", "images seen", "mean images/s"]
    return Table(
        "Cost of each phase. Elapsed: the time on the clock, without pauses between runs of the study. Trial time: the "
        "sum over trials, more than the elapsed time where trials run side by side.",
        head,
        rows,
    )


def _cost_cells(row: Any, elapsed: Mapping[str, float]) -> list[str]:
    throughput = NONE if row.images_per_s != row.images_per_s else count(row.images_per_s)
    clock = f"{elapsed[row.phase]:,.1f}" if row.phase in elapsed else NONE
    return [count(row.trials), clock, f"{row.wall_s:,.1f}", count(row.steps), count(row.samples_seen), throughput]


def _datasets(datasets: Mapping[str, dict[str, Any]]) -> Table:
    rows = []
    for name, info in datasets.items():
        classes = info.get("n_classes") or len(info.get("class_names") or ())
        splits = ", ".join(f"{split} {count(n)}" for split, n in (info.get("counts") or {}).items())
        size = info.get("image_size")
        rows.append(
            [name, f"{size} × {size} px" if size else NONE, str(classes), splits, info.get("fingerprint") or NONE]
        )
    head = ["data set", "image size", "classes", "images per split", "fingerprint"]
    return Table("Data sets and their splits. Equal fingerprints mean identical bytes in all splits.", head, rows, 5)


def _inventories(datasets: Mapping[str, dict[str, Any]]) -> Iterator[Block]:
    """Yield what was found in each data set: a line, the remarks, and the images per class behind a fold."""
    for name, info in datasets.items():
        if found := info.get("inventory"):
            yield Text(f"Found: {found['line']}.")
            if found["remarks"]:
                yield Bullets(found["remarks"])
            head, *rows = found["table"]
            yield Folded(f"Images of {name} by class", [Table(f"Images of {name} by class and split.", head, rows)])


def _failed(findings: Findings) -> list[Block]:
    runs = findings.study.runs
    bad = runs.loc[runs["status"] == FAILED]
    if bad.empty:
        return [Text("No trial failed.")]
    blocks: list[Block] = [Heading("Failed trials")]
    for row, settings in zip(bad.to_dict("records"), tables.configurations(bad), strict=True):
        seed = f"seed {short_seed(row['seed'])}"
        where = ", ".join(filter(None, [row["task"], row["phase"], row["cell"], seed, settings]))
        blocks.append(Text(f"**{row['trial_id']}** ({where}): {row['status']} after {count(row['steps'])} steps."))
        blocks.append(Code(row["reason"] or "No reason was recorded.", wraps=True))
    return blocks
