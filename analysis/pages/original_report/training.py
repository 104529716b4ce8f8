"""Figure 5: the training that did not converge, and its cures one at a time and together."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from analysis.comparisons.compare import BASE, PRETRAINING
from analysis.comparisons.effects import BETTER
from analysis.figures import effects_forest, learning_curves
from analysis.findings import queries
from analysis.findings.findings import Findings
from analysis.pages.parts import Part
from analysis.records.phases import ABLATE
from analysis.report.blocks import Block, Bullets, Folded, Gallery, Heading, Table, Text
from analysis.report.pictures import Picture, picture
from analysis.report.words import (
    NONE,
    VERBS,
    answered,
    count,
    difference,
    effect,
    ending,
    number,
    p_cell,
    quoted,
    signed,
)

TASK = "context_prediction"
MATCHED = "steps_by_strength"  # the design that compares augmentation strengths at the same steps
ACCURACY, LOSS = "val/accuracy", "train/loss"
# The original's curves, read off its figure: validation after each of six epochs, and where training ended.
PUBLISHED_VALIDATION, PUBLISHED_TRAINING = (10.5, 6.2, 4.65, 4.62, 4.9, 4.5), 4.43
DIRECTIONS, CLASSES = 8, 10  # what the two heads, whose losses it drew as one sum, tell apart
SHOWN_CURVES = 5  # beside the base


def training(case: Part | None, cures: Part | None) -> Iterator[Block]:
    """Yield the blocks of the section."""
    yield Heading("The run that did not converge")
    yield Text(_published())
    if case is None:
        yield Text("It has not been repeated yet.", "caveat")
    else:
        yield Bullets([f"**Pretext head**: {pretext_verdict(case)}", f"**Probe head**: {probe_verdict(case)}"])
        yield Gallery(list(_curves(case, "confirm", [queries.chosen_cell(case.found, TASK)])))
    yield Heading("Its cures, one at a time and together")
    if cures is None or TASK not in queries.ablated_tasks(cures.found):
        yield Text("They have not been tried yet.", "caveat")
        return
    yield Text(_circumstances(cures))
    yield _table(cures)
    yield from _matched(cures)
    yield Gallery([*_forests(cures), *_curves(cures, ABLATE, _told_apart(cures))])
    yield Folded("Evidence of each verdict, and what it says it would take", [Bullets(list(_evidence(cures)))])


def pretext_verdict(case: Part) -> str:
    """Return how the repeated run ended, on what evidence."""
    found = repeated(case)
    if found is None:
        return "no trial has ended yet."
    return f"it {ending(found)}. Evidence: {found.evidence}. What the analysis advises: {found.cure}."


def probe_verdict(case: Part) -> str:
    """Return what a probe refitted on the frozen features says, beside chance and untrained encoders."""
    found = refitted(case)
    if found is None:
        return "no probe has been fitted yet."
    dataset, row = found
    level = case.study.runs[f"probe/{dataset}/chance"].dropna().iloc[0]
    return (
        f"a linear probe of {dataset}, refitted on the frozen features, scores {number(row['mean'])} on test, "
        f"where chance is {number(level)} and an untrained encoder scores {number(row['baseline_mean'])}: "
        f"{row['answer']} ({effect(row)}). That it is above chance says nothing of the pretext task; how it stands "
        "beside the untrained encoder does."
    )


def repeated(case: Part) -> queries.Convergence | None:
    """Return how the trials of the repeated run ended, None before one has."""
    return queries.convergence(case.found, "confirm", TASK, queries.chosen_cell(case.found, TASK))


def refitted(case: Part) -> tuple[str, pd.Series] | None:
    """Return the first data set on which a linear probe was refitted, and its comparison with untrained encoders."""
    for name in case.study.runs:
        if name.startswith("probe/") and name.endswith("/linear"):
            dataset = name.split("/")[1]
            found = queries.against_untrained(case.found, TASK, dataset)
            if found is not None:
                return dataset, found.row
    return None


def rows_against_base(findings: Findings) -> pd.DataFrame:
    """Return the comparisons with the base, one row a cell in the order of the designs.

    A cell that several designs ask for stands with the largest adjusted p-value.
    """
    own = findings.effects.loc[(findings.effects["task"] == TASK) & (findings.effects["baseline"] == BASE)]
    order = list(dict.fromkeys(own["cell"]))
    own = own.sort_values("p_holm", ascending=False, kind="stable").drop_duplicates("cell")
    return own.sort_values("cell", key=lambda cells: cells.map(order.index), ignore_index=True)


def matched(findings: Findings) -> pd.DataFrame:
    """Return what augmentation did at matched steps: the rows of that design, with the steps of each pair."""
    own = findings.effects.loc[(findings.effects["task"] == TASK) & (findings.effects["design"] == MATCHED)]
    cells = findings.ablated.drop_duplicates("cell").set_index("cell")
    return own.assign(
        budget_steps=own["cell"].map(cells["budget_steps"]), strength=own["cell"].map(cells["augmentation_strength"])
    ).sort_values(["budget_steps", "strength"], ignore_index=True)


def _published() -> str:
    level = math.log(DIRECTIONS) + math.log(CLASSES)
    values = ", ".join(f"{value:g}" for value in PUBLISHED_VALIDATION)
    return (
        f"The original drew one loss over six epochs: validation {values}; training ended at {PUBLISHED_TRAINING:g}. "
        f"It is the sum of two heads, {DIRECTIONS} directions and {CLASSES} classes, whose level at chance is "
        f"ln {DIRECTIONS} + ln {CLASSES} = {level:.3f}: training ended {PUBLISHED_TRAINING / level - 1:.1%} above it. "
        "A plateau there is chance, not convergence, and a sum hides which head has learned nothing; here each head "
        "has a chance level of its own."
    )


def _circumstances(cures: Part) -> str:
    base = queries.base_settings(cures.found, TASK)
    size = cures.study.datasets[str(base["dataset"])]["image_size"]
    images = base.get("n_images")
    shown = "all" if images is None else count(images)
    seeds = cures.found.ablated["seed"].nunique()
    return (
        f"The same settings at {size} px, which pays for more steps: {count(base['budget_steps'])} steps of "
        f"{count(base['batch_size'])} on {shown} images. Every cell has the same {seeds} seeds. All JPEGs are "
        f"{count(cures.study.datasets[str(base['dataset'])]['counts']['pretext_train'])} here: those of this sample "
        "that are not held out."
    )


def _table(cures: Part) -> Table:
    """Return verdict, effect and interval of each cell, for the pretext head and for the probe head."""
    pretext = rows_against_base(cures.found)
    probe = rows_against_base(cures.found_by_probe).set_index("cell") if cures.probed else pd.DataFrame()
    untrained = _untrained(cures)
    rows = [_row(cures, cell, pretext.set_index("cell"), probe, untrained) for cell in [BASE, *pretext["cell"]]]
    head = ["cell", "verdict", "steps", "pretext accuracy", "against the base"]
    head += ["probe", "against the base", "against untrained"]
    caption = (
        f"Pretext: {ACCURACY} at the last report, chance {1 / DIRECTIONS:g}. Probe: {cures.probed or 'none'} on "
        "validation, refitted on the frozen features. Differences with 95 % intervals of paired seeds; answers are "
        "Holm-adjusted over a design."
    )
    return Table(caption, head, rows, 2)


def _row(cures: Part, cell: str, pretext: pd.DataFrame, probe: pd.DataFrame, untrained: pd.DataFrame) -> list[str]:
    found = queries.convergence(cures.found, ABLATE, TASK, cell)
    own = cures.found.ablated.query("cell == @cell", local_dict={"cell": cell})
    steps = count(own["budget_steps"].iloc[0]) if len(own) else NONE
    cells = [quoted(cell), ending(found) if found else NONE, steps]
    for column, effects in ((f"last/{ACCURACY}", pretext), (cures.probed, probe)):
        cells.append(number(own[column].mean()) if column in own else NONE)
        cells.append(answered(effects, cell))
    return [*cells, answered(untrained, cell)]


def _untrained(cures: Part) -> pd.DataFrame:
    if not cures.probed:
        return pd.DataFrame()
    found = cures.found_by_probe.against_untrained
    return found.loc[(found["task"] == TASK) & (found["design"] == PRETRAINING)].set_index("cell")


def _matched(cures: Part) -> Iterator[Block]:
    """Yield what augmentation did at each number of steps, which is another question than what it did to the base."""
    rows = []
    for head, findings in cures.heads.items():
        for _, row in matched(findings).iterrows():
            ends = [_end(cures, row[name]) for name in ("baseline", "cell")]
            rows.append(
                [
                    *(head, count(row["budget_steps"]), f"{row['strength']:g}", *ends, str(row["answer"])),
                    *(difference(row), p_cell(row["p_holm"]), count(row["n_seeds"])),
                ]
            )
    if rows:
        names = ["head", "steps", "strength", "without augmentation", "with", "answer", "difference", "Holm p", "seeds"]
        yield Table("What augmentation did at matched steps.", names, rows, 6)


def _end(cures: Part, cell: str) -> str:
    found = queries.convergence(cures.found, ABLATE, TASK, cell)
    return f"{VERBS[found.verdict]}, {found.count} of {found.n_trials}" if found else NONE


def _evidence(cures: Part) -> Iterator[str]:
    for cell in dict.fromkeys(cures.found.ablated["cell"]):
        found = queries.convergence(cures.found, ABLATE, TASK, str(cell))
        if found is not None:
            yield f"{quoted(cell)} {ending(found)}: {found.evidence}. {found.cure[0].upper()}{found.cure[1:]}."


def _told_apart(cures: Part) -> list[str]:
    """Return the base, what gains most, and where augmentation helps at more steps, with the same without it.

    At most as many as a figure of curves tells apart.
    """
    rows = rows_against_base(cures.found).sort_values("mean_difference", ascending=False)
    own = matched(cures.found)
    pairs = [name for row in own.loc[own["answer"] == BETTER].itertuples() for name in (row.cell, row.baseline)]
    return list(dict.fromkeys([BASE, *rows["cell"].head(1), *pairs, *rows["cell"]]))[: SHOWN_CURVES + 1]


def _curves(part: Part, phase: str, cells: list[str]) -> Iterator[Picture]:
    runs = part.shown("study", "runs").query(f"task == {TASK!r} and phase == {phase!r} and cell in {cells!r}")
    curves = part.shown("study", "curves")
    for metric in (ACCURACY, LOSS):
        own = curves.value.loc[curves.value["metric"] == metric]
        own = own.loc[own["trial_id"].isin(runs.value["trial_id"])]
        if own.empty:
            continue
        last = own.sort_values("step").groupby("trial_id")["value"].last()
        alt = f"{part.name}: {metric} of {len(last)} trials, which end between {last.min():.3g} and {last.max():.3g}"
        yield picture(f"{part.name}-{metric.replace('/', '-')}", alt, learning_curves, curves, runs, metric)


def _forests(cures: Part) -> Iterator[Picture]:
    for head, found in cures.heads.items():
        name = "found" if head == "pretext" else "found_by_probe"
        where = f"task == {TASK!r} and design == 'cures'"
        effects, seeds = (cures.shown(name, frame).query(where) for frame in ("effects", "differences"))
        if effects.empty:
            continue
        metric = found.metrics[TASK].column
        told = ", ".join(f"{row.cell} {signed(row.mean_difference)} {row.answer}" for row in effects.value.itertuples())
        alt = f"Differences in {metric} from the base: {told}"
        yield picture(f"cures-{head}", alt, effects_forest, effects, seeds, margin=found.margin, metric=metric)
