"""Why the original report's run did not converge, and what augmentation did for it."""

from __future__ import annotations

import pandas as pd

from analysis.comparisons import BASE, BETTER
from analysis.convergence import CATALOG, CONVERGED
from analysis.data.tables import dataset_of
from analysis.findings import Findings, queries
from analysis.pages.parts import Part
from analysis.records.phases import ABLATE, CONFIRM
from analysis.report import sentences
from analysis.report.claims import first_true
from analysis.report.words import count, effect, ending, first_clause, listed, measured, number, quoted

TASK = "context_prediction"
MATCHED = "steps_by_strength"  # the design that compares augmentation strengths at equal steps
TOGETHER = ", "  # separates the changes of a cell that has several
CAUSES = {
    "budget_steps": "too few optimizer steps",
    "option/pairs_per_image": "too few pairs of each image",
    "n_images": "too few images",
    "augmentation_strength": "missing augmentation",
    "option/jitter": "a patch grid that never moves",
    "option/color_drop": "colors that reveal a patch's position",
    "option/head_norm": "the normalization of the fusion head",
}


def cause(case: Part, cures: Part) -> str:
    """Return the paragraph on the cause. Every claim in it follows from the numbers.

    Args:
        case: The run that did not converge, repeated.
        cures: Its ablation: each change alone, all together, and augmentation at equal steps.
    """
    sentences = [_case(case), _probe(case), _single(cures), _both(cures), _together(cures), _augmentation(cures)]
    return " ".join(filter(None, sentences))


def matched(findings: Findings) -> pd.DataFrame:
    """Return the effects of augmentation at equal steps, with the columns budget_steps and strength of each cell."""
    own = findings.effects.loc[(findings.effects["task"] == TASK) & (findings.effects["design"] == MATCHED)]
    cells = findings.ablated.drop_duplicates("cell").set_index("cell")
    return own.assign(
        budget_steps=own["cell"].map(cells["budget_steps"]), strength=own["cell"].map(cells["augmentation_strength"])
    ).sort_values(["budget_steps", "strength"], ignore_index=True)


def refitted(case: Part) -> tuple[str, pd.Series] | None:
    """Return the first data set with a refitted linear probe, and its comparison with untrained encoders."""
    for name in case.study.runs:
        if name.startswith("probe/") and name.endswith("/linear"):
            dataset = dataset_of(name)
            found = queries.against_untrained(case.findings, TASK, dataset)
            if found is not None:
                return dataset, found.row
    return None


def _case(case: Part) -> str:
    found = queries.convergence(case.findings, CONFIRM, TASK, queries.chosen_cell(case.findings, TASK))
    if found is None:
        return "The run that did not converge has not been repeated yet."
    return f"Repeated, the run that did not converge {ending(found)}: {first_clause(found.evidence)}."


def _probe(case: Part) -> str:
    found = refitted(case)
    if found is None:
        return ""
    dataset, row = found
    return (
        f"A linear probe refitted on {dataset} scores {number(row['mean'])} on the {row['split']} split with its "
        f"features and {number(row['baseline_mean'])} with untrained ones ({row['answer']}, {effect(row)})."
    )


def _single(cures: Part) -> str:
    """Return which single changes make the run leave chance, the largest gain first, and which do not.

    A change that is better than the base but stays at chance is not a cause.
    """
    rows = queries.ranked(cures.findings, TASK)
    if rows.empty:
        return "Its cures have not been tried yet."
    single = rows.loc[~rows["cell"].str.contains(TOGETHER, regex=False)]
    if single.empty:
        return "No cure has been tried alone yet."
    single = queries.with_ends(cures.findings, single)
    better = single.loc[queries.leads_out_of_chance(single)]
    if better.empty:
        first = single.iloc[0]
        largest = f"{quoted(first['cell'])}, {effect(first, picked=True)}, {first['answer']}"
        return sentences.NO_CAUSE_SHOWN.say(single, largest=largest)
    factors = list(dict.fromkeys(map(_factor, better["cell"])))
    main, *others = (CAUSES.get(name, quoted(name)) for name in factors)
    also = f", and also {listed(others)}" if others else ""
    each = [
        f"with {quoted(row['cell'])} it {_end(cures, row['cell'])}, {effect(row, picked=True)}"
        for _, row in better.iterrows()
    ]
    sentence = sentences.CAUSE.say(better, main=main, also=also, each="; ".join(each))
    rest = single.loc[[_factor(cell) not in factors for cell in single["cell"]]]
    for said, rows in (
        ("Better, but not shown to leave chance", rest.loc[rest["answer"] == BETTER]),
        ("Not shown to help alone", rest.loc[rest["answer"] != BETTER]),
    ):
        if len(rows):
            named = listed(
                f"{quoted(row['cell'])} ({effect(row, picked=True)}, {row['answer']})" for _, row in rows.iterrows()
            )
            sentence += f" {said} at {count(_steps(cures, BASE))} steps: {named}."
    return sentence


def _both(cures: Part) -> str:
    """Return the sentence that more steps and augmentation help together; empty if that is not shown.

    It is shown if augmentation is better at more steps and the run learns there, while neither change alone is shown to
    be better than the base.
    """
    own = queries.with_ends(cures.findings, matched(cures.findings))
    single = queries.ranked(cures.findings, TASK).set_index("cell")["answer"]
    for _, row in own.loc[(own["baseline"] != BASE) & (own["answer"] == BETTER)].iterrows():
        cell, steps = str(row["cell"]), str(row["baseline"])
        strength = next((name for name in cell.split(TOGETHER) if name != steps), "")
        alone = [single.get(name) for name in (steps, strength)]
        answers = pd.DataFrame({"answer": [BETTER, *alone], "learned": [row["learned"], None, None]})
        sentence = next((each for each in (sentences.LACKED_BOTH, sentences.SHOWN_TOGETHER) if each.may(answers)), None)
        if None in alone or sentence is None:
            continue
        each = " and ".join(f"with {quoted(name)} alone it {_end(cures, name)}" for name in (steps, strength))
        return sentence.say(answers, each=each, end=_end(cures, cell), numbers=effect(row, picked=True))
    return ""


def _together(cures: Part) -> str:
    """Return how the run ends with all cures together and, if it does not converge, the advice for it."""
    ran = cures.study.designs.query("design == 'together' and cell != baseline")
    rows = queries.ranked(cures.findings, TASK).set_index("cell")
    cell = str(ran["cell"].iloc[0]) if len(ran) else ""
    found = queries.convergence(cures.findings, ABLATE, TASK, cell)
    if found is None or cell not in rows.index:
        return ""
    advice = "" if found.verdict == CONVERGED else f" {CATALOG[found.verdict].advice}: {found.cure}."
    reached = f"{measured(rows.loc[cell])} {number(rows.loc[cell, 'mean'])} after {count(_steps(cures, cell))} steps"
    return f"With all cures together it reaches {reached} and {ending(found)}.{advice}"


def _augmentation(cures: Part) -> str:
    """Return the effect of augmentation at each number of steps, for both heads."""
    heads = []
    for head, findings in cures.heads.items():
        rows = [row for _, row in matched(findings).iterrows()]
        if rows:
            clauses = (f"{row['answer']} at {count(row['budget_steps'])} steps ({effect(row)})" for row in rows)
            heads.append(f"by the {head} head, {listed(clauses)}")
    if not heads:
        return ""
    row = queries.with_ends(cures.findings, matched(cures.findings).head(1))
    found = queries.convergence(cures.findings, ABLATE, TASK, str(row["cell"].iloc[0]))
    alone = (sentences.AUGMENTATION_CURED, sentences.AUGMENTATION_LEFT_IT, sentences.AUGMENTATION_NOT_SHOWN)
    lead = f"{first_true(alone, row).say(row, ending=ending(found))} " if found else ""
    return f"{lead}At equal steps, augmentation compared with none is, {'; '.join(heads)}."


def _end(cures: Part, cell: str) -> str:
    found = queries.convergence(cures.findings, ABLATE, TASK, cell)
    return ending(found) if found else "has no verdict"


def _steps(cures: Part, cell: str) -> int:
    own = cures.findings.ablated
    return int(own.loc[(own["task"] == TASK) & (own["cell"] == cell), "budget_steps"].iloc[0])


def _factor(cell: str) -> str:
    return cell.split("=", 1)[0]
