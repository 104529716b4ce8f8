"""Section "Did it converge?": verdicts with their evidence, learning curves, and comparison with chance."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.comparisons import BASE
from analysis.convergence import CATALOG
from analysis.convergence.verdict import Verdict
from analysis.data import tables
from analysis.data.classes import levels_of, online_probe
from analysis.figures import learning_curves, verdict_map
from analysis.figures.learning_curves import baseline_levels
from analysis.findings import Findings, queries
from analysis.records.phases import ABLATE, CONFIRM, SEARCH
from analysis.report import sentences
from analysis.report.blocks import Block, Bullets, Folded, Gallery, Heading, Section, Table, Text
from analysis.report.pictures import Picture, Shown, picture
from analysis.report.sections.shortcuts import shortcut_warnings
from analysis.report.sources import Sources
from analysis.report.words import NONE, converged_count, count, ending, interval, listed, number, quoted
from analysis.stats import ALPHA
from trainables.trial import ONLINE_PROBES

PHASES = (SEARCH, CONFIRM, ABLATE)
PROBE_CURVE = "Are the features getting better? Compare a curve with its own first point, before training."
UNTRAINED_LINE = "The untrained line is of the final probe, which uses all images."
TASK_CURVE = (
    "Is the task being learned? A curve near the chance line has not left it; one that turns back may overfit; one "
    "that still moves at its end may gain from more steps. The verdicts say what is shown."
)
CHANCE_COLUMNS = (
    "task",
    "configuration",
    "metric",
    "each seed",
    "untrained",
    "chance",
    "95% bound of each",
    "mean / chance",
    "beat chance",
)


def did_it_converge(findings: Findings, sources: Sources) -> Section:
    """Return the section on how trials ended.

    Args:
        findings: What was computed for the study.
        sources: Frames that the figures are drawn from.
    """
    title = "Did it converge, and if not, why?"
    return Section("did-it-converge", title, list(_blocks(findings, sources)), _lead(findings))


def _lead(findings: Findings) -> str:
    """Return how the chosen configurations ended, in a few words."""
    ends = {
        task: found
        for task in queries.tasks(findings)
        if (found := queries.convergence(findings, CONFIRM, task, queries.chosen_cell(findings, task))) is not None
    }
    return "; ".join(f"{task}: {CATALOG[found.verdict].label}" for task, found in ends.items())


def _blocks(findings: Findings, sources: Sources) -> Iterator[Block]:
    if findings.verdicts.empty:
        yield Text("No pretext trial has reported yet.", "caveat")
        return
    seen = [verdict for verdict in CATALOG.values() if (findings.verdicts["verdict"] == verdict.name).any()]
    yield _counts(findings, seen)
    meanings = [f"**{verdict.name}**: {verdict.meaning}." for verdict in seen]
    yield Folded("What the verdicts mean", [Bullets(meanings)])
    warnings = shortcut_warnings(findings)
    for task in queries.tasks(findings):
        yield from _of_task(findings, task)
        if task in warnings:
            yield Text(warnings[task], "caveat")
    yield Gallery([*_maps(sources), *_curves(findings, sources)])
    yield from _compared_with_chance(findings)


def _counts(findings: Findings, seen: list[Verdict]) -> Table:
    counts = findings.verdicts.groupby(["phase", "task"], sort=False)["verdict"].value_counts().unstack(fill_value=0)
    rows = [
        [str(phase), str(task), *(count(n) if (n := row[verdict.name]) else NONE for verdict in seen), count(row.sum())]
        for (phase, task), row in counts.iterrows()
    ]
    head = ["phase", "task", *(verdict.label for verdict in seen), "trials"]
    return Table("Verdicts on all trials that trained, by phase and task.", head, rows, 2)


def _of_task(findings: Findings, task: str) -> list[Block]:
    """Return how the chosen configuration and the ablation's base ended, with the cure and, folded, the evidence."""
    cells = [(CONFIRM, queries.chosen_cell(findings, task), "As chosen"), (ABLATE, BASE, "As the ablation's base")]
    bullets, evidence = [], []
    for phase, cell, name in cells:
        found = queries.convergence(findings, phase, task, cell) if cell or phase == ABLATE else None
        if found is None:
            continue
        rate, advice = queries.rate(findings, phase, task, cell), CATALOG[found.verdict].advice
        share = "" if rate is None or pd.isna(rate["rate"]) else f" P(converged) {_rate(rate)}."
        bullets.append(f"**{name}, it {ending(found)}.** {advice}: {found.cure}.")
        evidence.append(f"**{name}.**{share} Evidence: {found.evidence}.")
    return [Heading(task), Bullets(bullets), Folded(f"Evidence for {task}", [Bullets(evidence)])] if bullets else []


def _rate(rate: pd.Series) -> str:
    """Return the share of seeds that converged, with its interval and the seeds for which that is not known."""
    share = converged_count(rate) if rate["n_undecided"] else number(rate["rate"], 2)
    return f"{share} {interval(rate['ci_low'], rate['ci_high'], 2)}"


def _maps(sources: Sources) -> Iterator[Picture]:
    classified = set(sources.verdicts.value["trial_id"])
    for phase in PHASES:
        tasks = [None] if phase != ABLATE else sources.ablated.value["task"].unique()
        for task in tasks:
            where = f"phase == {phase!r}" + (f" and task == {task!r}" if task else "")
            runs = sources.runs.query(where)
            own = runs.value.loc[runs.value["trial_id"].isin(classified)]
            if own.empty:
                continue
            verdicts = sources.verdicts.value.loc[sources.verdicts.value["trial_id"].isin(own["trial_id"]), "verdict"]
            counts = listed(f"{n} {CATALOG[name].label}" for name, n in verdicts.value_counts().items())
            of_task = f" of {task}" if task else ""
            alt = f"One square for each of {len(own)} trials of the {phase} phase{of_task}: {counts}"
            alike = "all configurations ended alike" if phase == SEARCH else "the seeds agree"
            caption = f"One square is one trial. A row of one color means that {alike}."
            name = f"verdicts-{phase}{f'-{task}' if task else ''}"
            yield picture(name, alt, verdict_map, runs, sources.verdicts, caption=caption)


def _curves(findings: Findings, sources: Sources) -> Iterator[Picture]:
    """Yield the curves of the chosen configuration, or else of the search, and of the ablation's base and best cell."""
    runs = findings.study.runs
    for task in queries.tasks(findings):
        phase = CONFIRM if ((runs["task"] == task) & (runs["phase"] == CONFIRM)).any() else SEARCH
        where = f"task == {task!r} and phase == {phase!r}"
        probes = (ONLINE_PROBES[0], online_probe(sources.last.query(where).value))
        for metric in dict.fromkeys([*runs.query(where)["primary_metric"], *probes]):
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
    level = tables.chance_column(metric)
    levels = sorted(last[level].dropna().unique()) if level in last else []
    chance = f"; chance {', '.join(f'{value:.3g}' for value in levels)}" if levels else ""
    if not pd.isna(largest := levels_of(last, column).largest_class):
        chance += f"; largest class {largest:.3g} of the validation images"
    ends = f"which end between {last[column].min():.3g} and {last[column].max():.3g}"
    alt = f"{name.replace('-', ', ')}: {metric} against optimizer steps of {len(last)} trials, {ends}{chance}"
    caption, options = TASK_CURVE, {}
    if metric.startswith("probe/"):
        options = {"baselines": sources.runs.query("phase == 'baselines'")}
        has_line = len(baseline_levels(options["baselines"].value, str(last["dataset"].iloc[0]), metric))
        caption = f"{PROBE_CURVE} {UNTRAINED_LINE}" if has_line else PROBE_CURVE
    file = f"curves-{name}-{metric.replace('/', '_')}"
    yield picture(file, alt, learning_curves, sources.curves, runs, metric, caption=caption, **options)


def _compared_with_chance(findings: Findings) -> list[Block]:
    """Compare the last value of each configuration with chance, in the confirm phase or else in the search."""
    study = findings.study
    compared = tables.against_chance(study.runs, study.curves)
    phase = CONFIRM if (compared["phase"] == CONFIRM).any() else SEARCH
    compared = compared.loc[compared["phase"] == phase]
    if compared.empty:
        return []
    runs = study.runs.loc[study.runs["trial_id"].isin(compared["trial_id"])]
    names = pd.concat([tables.configurations(group) for _, group in runs.groupby("task")])
    names = names.set_axis(runs["trial_id"].loc[names.index])
    compared = compared.assign(configuration=compared["trial_id"].map(names))
    groups = compared.groupby(["task", "configuration", "metric"], sort=False)
    rows = [_chance_row([str(name) or NONE for name in names], group) for names, group in groups]
    caption = (
        f"Primary validation metric at the last report of the {phase} phase. Bound: one-sided 95%, from the standard "
        "error over images, or exact binomial for an accuracy without one; each applies to a single trial."
    )
    blocks: list[Block] = [Table(caption, list(CHANCE_COLUMNS), rows, 3)]
    if at_chance := dict.fromkeys(row[0] for row in rows if row[-1].startswith("0 of")):
        flat = pd.concat([group for names, group in groups if not group["beats_chance"].fillna(value=False).any()])
        blocks.append(Text(sentences.NO_SEED_BEAT_CHANCE.say(flat, tasks=listed(at_chance)), "caveat"))
    if early := _above_chance_untrained(compared):
        warning = f"{listed(early)}: above chance before the first step, see the column {quoted('untrained')}."
        blocks.append(Text(f"{warning} Compare what it learned with that value, not with chance.", "caveat"))
    elif n_known := int(compared["beats_chance"].notna().sum()):
        by_luck = f"about {ALPHA * n_known:.1f} would still beat the bound by luck"
        blocks.append(Text(f"If none of the {n_known} trials with a bound had learned anything, {by_luck}."))
    return [Folded("Each configuration compared with chance", blocks)]


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


def _above_chance_untrained(compared: pd.DataFrame) -> list[str]:
    """Return the tasks whose accuracy clears chance at step 0 in most trials: a single one may do so by luck."""
    n = compared["n_validation"].to_numpy(float, na_value=float("nan"))
    bound = tables.accuracy_lower_bound(compared["untrained"].to_numpy(), n)
    early = compared["metric"].map(tables.is_accuracy).astype(bool) & (bound > compared["chance"])
    shares = early.groupby(compared["task"], sort=False).mean()
    return list(shares.index[shares > 0.5])
