"""The last paragraph: what the cause was, and what augmentation did and did not do, told by the numbers."""

from __future__ import annotations

import pandas as pd

from analysis.comparisons.compare import BASE
from analysis.comparisons.effects import BETTER, EQUIVALENT, INCONCLUSIVE, WORSE
from analysis.findings import queries
from analysis.pages.original_report.training import TASK, matched, refitted, repeated, rows_against_base
from analysis.pages.parts import Part
from analysis.records.phases import ABLATE
from analysis.report.words import count, counted, effect, ending, first_clause, listed, number, quoted
from analysis.stats.rates import LEARNED

STRENGTH = "augmentation_strength"
CAUSES = {
    "budget_steps": "too few optimizer steps",
    "option/pairs_per_image": "too few pairs of each image",
    "n_images": "too few images",
    STRENGTH: "the want of augmentation",
    "option/jitter": "a grid that never moves",
    "option/color_drop": "colors that give a patch's place away",
    "option/head_norm": "the normalization of the fusion head",
}
TOGETHER = ", "  # between the changes of a cell that has several


def cause(case: Part, cures: Part) -> str:
    """Return the paragraph. Nothing in it is known beforehand: other numbers, another paragraph."""
    sentences = [_case(case), _probe(case), _single(cures), _both(cures), _together(cures), _augmentation(cures)]
    return " ".join(filter(None, sentences))


def _case(case: Part) -> str:
    found = repeated(case)
    if found is None:
        return "The run that did not converge has not been repeated yet."
    return f"The run that did not converge, repeated, {ending(found)}: {first_clause(found.evidence)}."


def _probe(case: Part) -> str:
    found = refitted(case)
    if found is None:
        return ""
    dataset, row = found
    told = {
        BETTER: "its features are better than untrained ones all the same",
        WORSE: "its features are worse than untrained ones",
        EQUIVALENT: "its features are worth what untrained ones are",
        INCONCLUSIVE: "its features are not shown to be better than untrained ones",
    }.get(row["answer"], "its features were not tested against untrained ones")
    beside = f"{number(row['mean'])} against {number(row['baseline_mean'])} on {dataset}, {effect(row)}"
    return f"By a refitted probe {told} ({beside})."


def _single(cures: Part) -> str:
    """Return which single changes make the pretext head leave chance, the largest gain first, and which do not.

    Better than the base is not enough: a cause is what a run without it does otherwise, which is to learn.
    """
    rows = rows_against_base(cures.found)
    if rows.empty:
        return "Its cures have not been tried yet."
    single = rows.loc[~rows["cell"].str.contains(TOGETHER, regex=False)]
    better = single.loc[single["answer"] == BETTER].sort_values("mean_difference", ascending=False)
    better = better.loc[[_learned(cures, cell) for cell in better["cell"]]]
    rest = _others(single, better)
    steps = _steps(cures, BASE)
    if better.empty:
        first = single.sort_values("mean_difference", ascending=False).iloc[0]
        told = f"the largest difference is that of {quoted(first['cell'])}, {effect(first)}, {first['answer']}"
        return f"**No single change is shown to be what it lacked**: {told}."
    factors = list(dict.fromkeys(map(_factor, better["cell"])))
    main = CAUSES.get(factors[0], quoted(factors[0]))
    each = [f"{quoted(row['cell'])} {_ends(cures, row['cell'])}, {effect(row)}" for _, row in better.iterrows()]
    sentence = f"**The cause was {main}**{_also(factors[1:])}: of the changes made one at a time, {'; '.join(each)}."
    if len(rest):
        named = listed(f"{quoted(row['cell'])} ({effect(row)}, {row['answer']})" for _, row in rest.iterrows())
        sentence += f" Not shown to help by itself at {count(steps)} steps: {named}."
    return sentence


def _both(cures: Part) -> str:
    """Return whether more steps and augmentation do together what neither does alone.

    That is so where augmentation is better at more steps, and learns there, while neither change by itself is better
    than the base.
    """
    own = matched(cures.found)
    own = own.loc[own["baseline"] != BASE]
    single = rows_against_base(cures.found).set_index("cell")["answer"]
    for _, row in own.loc[own["answer"] == BETTER].iterrows():
        cell, steps = str(row["cell"]), str(row["baseline"])
        strength = next((name for name in cell.split(TOGETHER) if name != steps), "")
        alone = [single.get(name) for name in (steps, strength)]
        if None in alone or BETTER in alone or not _learned(cures, cell):
            continue
        each = f"{quoted(steps)} {_ends(cures, steps)}, {quoted(strength)} {_ends(cures, strength)}"
        return (
            f"**It lacked two things at once, optimizer steps and augmentation**: alone, {each}; with both it "
            f"{_ends(cures, cell)}, {effect(row)} against the steps alone."
        )
    return ""


def _learned(cures: Part, cell: str) -> bool:
    found = queries.convergence(cures.found, ABLATE, TASK, cell)
    return found is not None and found.verdict in LEARNED


def _others(single: pd.DataFrame, better: pd.DataFrame) -> pd.DataFrame:
    helped = set(map(_factor, better["cell"]))
    return single.loc[[_factor(cell) not in helped for cell in single["cell"]]]


def _also(factors: list[str]) -> str:
    return f", and beside it {listed(CAUSES.get(name, quoted(name)) for name in factors)}" if factors else ""


def _together(cures: Part) -> str:
    """Return how all cures together end: that it converges, or what the evidence says it would take."""
    ran = cures.study.designs.query("design == 'together' and cell != baseline")
    if ran.empty:
        return ""
    cell = str(ran["cell"].iloc[0])
    found = queries.convergence(cures.found, ABLATE, TASK, cell)
    rows = rows_against_base(cures.found).set_index("cell")
    if found is None or cell not in rows.index:
        return ""
    more = "" if found.verdict == "converged" else f"; what it would take: {found.cure}"
    mean = number(rows.loc[cell, "mean"])
    return f"All cures together, in {count(_steps(cures, cell))} steps, reach {mean} and {_verb(cures, cell)}{more}."


def _augmentation(cures: Part) -> str:
    """Return what augmentation did at each number of steps, by both heads."""
    told = []
    for head, findings in cures.heads.items():
        rows = [row for _, row in matched(findings).iterrows()]
        if rows:
            clauses = (f"{row['answer']} at {count(row['budget_steps'])} steps ({effect(row)})" for row in rows)
            told.append(f"by the {head} head {listed(clauses)}")
    if not told:
        return ""
    first = matched(cures.found).iloc[0]
    found = queries.convergence(cures.found, ABLATE, TASK, str(first["cell"]))
    lead = f"**Augmentation by itself** {_phrase(found.verdict)}: the run then {ending(found)}. " if found else ""
    return f"{lead}At matched steps augmentation is, against none, {'; '.join(told)}."


def _phrase(verdict: str) -> str:
    return {"at_chance": "did not cure it", "converged": "cured it"}.get(verdict, "was no cure by itself")


def _ends(cures: Part, cell: str) -> str:
    found = queries.convergence(cures.found, ABLATE, TASK, cell)
    return f"then {ending(found)}" if found else ""


def _verb(cures: Part, cell: str) -> str:
    found = queries.convergence(cures.found, ABLATE, TASK, cell)
    assert found is not None
    words = found.verdict.replace("_", " ")
    return f"are {words} in {found.count} of {counted(found.n_trials, 'seed')}"


def _steps(cures: Part, cell: str) -> int:
    own = cures.found.ablated
    return int(own.loc[(own["task"] == TASK) & (own["cell"] == cell), "budget_steps"].iloc[0])


def _factor(cell: str) -> str:
    return cell.split("=", 1)[0]
