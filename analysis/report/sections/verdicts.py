"""Did it converge, and why not: verdicts with their evidence, and learning curves beside chance."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.comparisons.compare import BASE
from analysis.convergence import VERDICTS
from analysis.data import tables
from analysis.figures import learning_curves, verdict_map
from analysis.findings import queries
from analysis.findings.findings import Findings
from analysis.records.phases import ABLATE
from analysis.report.blocks import Block, Bullets, Folded, Gallery, Heading, Section, Table, Text
from analysis.report.pictures import Picture, Shown, picture
from analysis.report.sources import Sources
from analysis.report.words import NONE, count, ending, interval, listed, number, quoted
from trainables.trial import ONLINE_PROBES

PHASES = ("search", "confirm", ABLATE)
MEANING = {
    "failed": "stopped by an error",
    "diverged": "the loss exploded, or learning was undone",
    "collapsed": "all images get the same features",
    "at_chance": "never better than guessing, by a bound that holds for all reports together",
    "overfit": "validation got worse than its best while training went on",
    "still_improving": "more steps would have gained more",
    "converged": "none of these, and flat at the end; it says nothing about what the features are worth",
}


def did_it_converge(findings: Findings, sources: Sources) -> Section:
    """Return the section."""
    return Section("did-it-converge", "Did it converge, and if not, why?", list(_blocks(findings, sources)))


def _blocks(findings: Findings, sources: Sources) -> Iterator[Block]:
    if findings.verdicts.empty:
        yield Text("No pretext trial has reported yet.", "caveat")
        return
    seen = [name for name in VERDICTS if (findings.verdicts["verdict"] == name).any()]
    yield _counts(findings, seen)
    yield Folded("What the verdicts mean", [Bullets([f"**{name}**: {MEANING[name]}." for name in seen])])
    for task in queries.tasks(findings):
        yield from _of_task(findings, task)
    yield Gallery([*_maps(sources), *_curves(findings, sources)])
    yield from _against_chance(findings)


def _counts(findings: Findings, seen: list[str]) -> Table:
    counts = findings.verdicts.groupby(["phase", "task"], sort=False)["verdict"].value_counts().unstack(fill_value=0)
    rows = [
        [str(phase), str(task), *(count(row[name]) if row[name] else NONE for name in seen), count(row.sum())]
        for (phase, task), row in counts.iterrows()
    ]
    head = ["phase", "task", *(name.replace("_", " ") for name in seen), "trials"]
    return Table("Verdicts on every trial that trained, by phase and task.", head, rows, 2)


def _of_task(findings: Findings, task: str) -> list[Block]:
    """Return how the chosen configuration and the ablation's base ended, on what evidence, and the cure."""
    cells = [("confirm", queries.chosen_cell(findings, task), "As chosen"), (ABLATE, BASE, "The ablation's base")]
    told = []
    for phase, cell, name in cells:
        found = queries.convergence(findings, phase, task, cell) if cell or phase == ABLATE else None
        if found is None:
            continue
        rate = queries.rate(findings, phase, task, cell)
        share = (
            ""
            if rate is None
            else f" P(converged) {number(rate['rate'], 2)} {interval(rate['ci_low'], rate['ci_high'], 2)}."
        )
        told.append(f"**{name}, it {ending(found)}.**{share} Evidence: {found.evidence}. Cure: {found.cure}.")
    return [Heading(task), Bullets(told)] if told else []


def _maps(sources: Sources) -> Iterator[Picture]:
    judged = set(sources.verdicts.value["trial_id"])
    for phase in PHASES:
        tasks = [None] if phase != ABLATE else sources.ablated.value["task"].unique()
        for task in tasks:
            where = f"phase == {phase!r}" + (f" and task == {task!r}" if task else "")
            runs = sources.runs.query(where)
            own = runs.value.loc[runs.value["trial_id"].isin(judged)]
            if own.empty:
                continue
            verdicts = sources.verdicts.value.loc[sources.verdicts.value["trial_id"].isin(own["trial_id"]), "verdict"]
            counts = listed(f"{n} {name.replace('_', ' ')}" for name, n in verdicts.value_counts().items())
            alt = (
                f"A square for each of {len(own)} trials of the {phase} phase{f' of {task}' if task else ''}: {counts}"
            )
            yield picture(f"verdicts-{phase}{f'-{task}' if task else ''}", alt, verdict_map, runs, sources.verdicts)


def _curves(findings: Findings, sources: Sources) -> Iterator[Picture]:
    """Yield the curves of what was chosen, or of the search while nothing is, and of the ablation's base and best."""
    runs = findings.study.runs
    for task in queries.tasks(findings):
        phase = "confirm" if ((runs["task"] == task) & (runs["phase"] == "confirm")).any() else "search"
        where = f"task == {task!r} and phase == {phase!r}"
        for metric in dict.fromkeys([*runs.query(where)["primary_metric"], ONLINE_PROBES[0]]):
            yield from _curve(sources, f"{task}-{phase}", where, metric)
        better = queries.cures(findings, task)
        cells = [BASE, *better["cell"].head(1)]
        where = f"task == {task!r} and phase == {ABLATE!r} and cell in {cells!r}"
        for metric in dict.fromkeys(runs.query(where)["primary_metric"]):
            yield from _curve(sources, f"{task}-{ABLATE}", where, metric)


def _curve(sources: Sources, name: str, where: str, metric: str) -> Iterator[Picture]:
    runs: Shown = sources.runs.query(where)
    column = tables.LAST + metric
    last = sources.last.query(where).value
    if not metric or column not in last or last[column].isna().all():
        return
    level = f"chance/{metric}"
    levels = sorted(last[level].dropna().unique()) if level in last else []
    chance = f"; chance {', '.join(f'{value:.3g}' for value in levels)}" if levels else ""
    ends = f"which end between {last[column].min():.3g} and {last[column].max():.3g}"
    alt = f"{name.replace('-', ', ')}: {metric} against optimizer steps of {len(last)} trials, {ends}{chance}"
    yield picture(f"curves-{name}-{metric.replace('/', '_')}", alt, learning_curves, sources.curves, runs, metric)


def _against_chance(findings: Findings) -> list[Block]:
    """Compare each configuration's last value with chance, in the confirm phase or else in the search."""
    study = findings.study
    judged = tables.against_chance(study.runs, study.curves)
    phase = "confirm" if (judged["phase"] == "confirm").any() else "search"
    judged = judged.loc[judged["phase"] == phase]
    runs = study.runs.loc[study.runs["trial_id"].isin(judged["trial_id"])]
    if judged.empty:
        return []
    names = pd.concat([tables.configurations(group) for _, group in runs.groupby("task")])
    judged = judged.assign(configuration=judged["trial_id"].map(names.set_axis(runs["trial_id"].loc[names.index])))
    groups = judged.groupby(["task", "configuration", "metric"], sort=False)
    rows = [_chance_row([str(name) or NONE for name in names], group) for names, group in groups]
    head = [
        "task",
        "configuration",
        "metric",
        "each seed",
        "untrained",
        "chance",
        "95 % bound of each",
        "mean / chance",
    ]
    caption = (
        f"Primary validation metric at the last report of the {phase} phase. Bound: one-sided 95 %, exact binomial for "
        "accuracies, normal for other metrics; each holds for its own trial."
    )
    blocks: list[Block] = [Table(caption, [*head, "beat chance"], rows, 3)]
    lost = dict.fromkeys(row[0] for row in rows if row[-1].startswith("0 of"))
    if lost:
        told = f"**{listed(lost)}: a configuration of which no seed beat chance.** It may have learned nothing."
        blocks.append(Text(f"{told} See whether its probe beats random initialization before using it.", "caveat"))
    if early := _beyond_untrained(judged):
        told = f"{listed(early)}: beyond chance before the first step, see the column {quoted('untrained')}."
        blocks.append(Text(f"{told} Judge what it learned against that value, not against chance.", "caveat"))
    blocks.append(
        Text(
            f"Among {len(judged)} trials at chance about {0.05 * len(judged):.1f} would beat it by luck. Predictions "
            "are taken as independent, though some tasks make several of one image."
        )
    )
    return [Folded("Each configuration against chance", blocks)]


def _chance_row(names: list[str], group: pd.DataFrame) -> list[str]:
    beats = group["beats_chance"].dropna()
    return [
        *names,
        ", ".join(map(number, group["value"])),
        number(group["untrained"].mean()),
        number(group["chance"].iloc[0]),
        ", ".join(map(number, group["bound"])),
        number(group["ratio"].mean(), 2),
        f"{int(beats.sum())} of {len(group)}" if len(beats) else NONE,
    ]


def _beyond_untrained(judged: pd.DataFrame) -> list[str]:
    """Return the tasks whose accuracy clears chance at step 0 already."""
    n = judged["n_validation"].to_numpy(float, na_value=float("nan"))
    bound = tables.accuracy_lower_bound(judged["untrained"].to_numpy(), n)
    early = judged["metric"].map(tables.is_accuracy).astype(bool) & (bound > judged["chance"])
    return list(judged.loc[early, "task"].unique())
