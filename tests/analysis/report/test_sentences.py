"""Every sentence that claims something: where it may appear, where not, and that docs/statistics.md lists it."""

from __future__ import annotations

import ast
import re

import numpy as np
import pandas as pd
import pytest

from analysis.comparisons import ANSWERS, BETTER, EQUIVALENT, INCONCLUSIVE, TOO_FEW, WORSE
from analysis.comparisons.interactions import DIFFERENT, NOT_SHOWN
from analysis.convergence import VERDICTS
from analysis.report import sentences
from analysis.report.glossary import GLOSSARY, glossary
from analysis.report.sentences import SENTENCES
from tests.benchmarks import sentence_rates
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "statistics.md"
HOME = REPOSITORY / "analysis" / "report" / "sentences.py"
SOURCES = [
    *sorted((REPOSITORY / "analysis" / "report").rglob("*.py")),
    *sorted((REPOSITORY / "analysis/pages").glob("*.py")),
    *sorted((REPOSITORY / "analysis" / "figures").glob("*.py")),
    *sorted((REPOSITORY / "study" / "cli").glob("*.py")),
    REPOSITORY / "study" / "tracking" / "notes.py",
]
NAN = float("nan")
Rows = dict[str, list[object]]


def said(*answers: str, learned: list[bool | None] | None = None) -> Rows:
    n = len(answers)
    return {"answer": list(answers), "base_learned": [False] * n, "learned": learned or [True] * n}


def freed(base: bool | None) -> Rows:
    """Return a change that left chance and is better than a base that did, did not, or may have (None)."""
    return {"answer": [BETTER], "base_learned": [base], "learned": [True]}


def ends(base: bool | None, cell: bool | None, n: int = 1, answer: str = BETTER) -> Rows:
    """Return rows of changes whose base and cell converged, did not, or are undecided (None)."""
    return {"answer": [answer] * n, "base_converged": [base] * n, "converged": [cell] * n}


def with_p(*p_holm: float) -> Rows:
    return {"p_holm": list(p_holm)}


NO_GAIN = ([said(WORSE), said(EQUIVALENT, WORSE)], [said(INCONCLUSIVE), said(WORSE, TOO_FEW), said(BETTER)])
OPEN = ([said(INCONCLUSIVE), said(TOO_FEW, WORSE, EQUIVALENT)], [said(BETTER), said(WORSE, BETTER)])
ALL_BETTER = (
    [said(BETTER), said(BETTER, BETTER)],
    [said(each) for each in ANSWERS if each != BETTER] + [said(BETTER, WORSE)],
)
CURED = (
    [ends(False, True), ends(False, True, n=2)],
    [ends(None, True), ends(True, True), ends(False, None), ends(False, False), ends(False, True, answer=WORSE)],
)
CASES: dict[
    str, tuple[list[Rows], list[Rows]]
] = {  # rows of which a sentence may be said, and rows of which it may not
    "plain_best": ALL_BETTER,
    "plain_helps": ALL_BETTER,
    "plain_also": ALL_BETTER,
    "plain_not_shown": OPEN,
    "plain_equivalent_tasks": (
        [said(EQUIVALENT), said(EQUIVALENT, EQUIVALENT)],
        [said(each) for each in ANSWERS if each != EQUIVALENT] + [said(EQUIVALENT, INCONCLUSIVE)],
    ),
    "plain_none_helps": NO_GAIN,
    "plain_none_shown": OPEN,
    "plain_change": ALL_BETTER,
    "plain_gain": ALL_BETTER,
    "plain_no_change": OPEN,
    "plain_better_than_weights": ALL_BETTER,
    "plain_worse_than_weights": ([said(WORSE)], [said(each) for each in ANSWERS if each != WORSE]),
    "plain_equivalent_to_weights": ([said(EQUIVALENT)], [said(each) for each in ANSWERS if each != EQUIVALENT]),
    "plain_weights_not_told_apart": (
        [said(INCONCLUSIVE), said(TOO_FEW)],
        [said(BETTER), said(WORSE), said(EQUIVALENT)],
    ),
    "best_task": ALL_BETTER,
    "leading_task": (
        [said(INCONCLUSIVE, BETTER), said(TOO_FEW), said(EQUIVALENT)],
        [said(BETTER), said(WORSE, INCONCLUSIVE)],
    ),
    "overtaken_task": ([said(WORSE, BETTER)], [said(INCONCLUSIVE, WORSE), said(BETTER), said(TOO_FEW)]),
    "no_task_beats_untrained": NO_GAIN,
    "no_task_shown_to_beat_untrained": OPEN,
    "no_better_than_untrained": NO_GAIN,
    "not_shown_better_than_untrained": OPEN,
    "features_worse": ([said(WORSE)], [said(each) for each in ANSWERS if each != WORSE]),
    "features_equivalent": ([said(EQUIVALENT)], [said(each) for each in ANSWERS if each != EQUIVALENT]),
    "features_not_shown_better": ([said(INCONCLUSIVE), said(TOO_FEW)], [said(BETTER)]),
    "transfer": ([said(each) for each in ANSWERS], [said()]),
    "benchmark": ([said(each) for each in ANSWERS], [said()]),
    "study_better": ALL_BETTER,
    "study_worse": ([said(WORSE)], [said(each) for each in ANSWERS if each != WORSE]),
    "study_equivalent": ([said(EQUIVALENT)], [said(each) for each in ANSWERS if each != EQUIVALENT]),
    "studies_not_told_apart": ([said(INCONCLUSIVE), said(TOO_FEW)], [said(BETTER), said(WORSE), said(EQUIVALENT)]),
    "cures": CURED,
    "helps": ALL_BETTER,
    "does_better": ALL_BETTER,
    "also_better": ALL_BETTER,
    "ablation_found_better": ALL_BETTER,
    "better_cells": ALL_BETTER,
    "worse_cells": ([said(WORSE, WORSE)], [said(WORSE, INCONCLUSIVE), said(BETTER)]),
    "equivalent_cells": ([said(EQUIVALENT)], [said(EQUIVALENT, INCONCLUSIVE), said(TOO_FEW)]),
    "better_elsewhere": ALL_BETTER,
    "no_change_better": NO_GAIN,
    "no_change_shown_better": (
        [said(INCONCLUSIVE, TOO_FEW)],
        [said(TOO_FEW, INCONCLUSIVE), said(INCONCLUSIVE, BETTER), said(WORSE)],
    ),
    "no_change_tested": ([said(TOO_FEW, INCONCLUSIVE)], [said(INCONCLUSIVE), said(TOO_FEW, BETTER)]),
    "nothing_shown_better": OPEN,
    "no_change_left_chance": (
        [{"n_pairs": [5, 3], "rate_difference": [0.0, -0.2]}],
        [{"n_pairs": [5, 0], "rate_difference": [0.0, NAN]}, {"n_pairs": [5], "rate_difference": [0.2]}],
    ),
    "leaves_chance": ([with_p(0.05), with_p(0.001)], [with_p(0.051), with_p(NAN)]),
    "left_chance_tested": ([with_p(0.3)], [with_p(0.05), with_p(NAN)]),
    "left_chance_untested": ([with_p(NAN)], [with_p(0.01), with_p(0.9)]),
    "factors_significant": ([with_p(0.01, 0.05)], [with_p(0.01, 0.06), with_p(NAN)]),
    "no_factor_significant": ([with_p(0.06, NAN)], [with_p(0.2, 0.04), with_p(NAN, NAN)]),
    "factors_untested": ([with_p(NAN, NAN)], [with_p(NAN, 0.2), with_p(0.01)]),
    "cells_differ": ([said(DIFFERENT)], [said(NOT_SHOWN), said(TOO_FEW)]),
    "cells_not_shown_to_differ": ([said(NOT_SHOWN)], [said(DIFFERENT), said(TOO_FEW)]),
    "effect_depends_on_task": ([said(DIFFERENT)], [said(NOT_SHOWN), said(TOO_FEW)]),
    "effect_not_shown_to_depend": ([said(NOT_SHOWN)], [said(DIFFERENT), said(TOO_FEW)]),
    "across_tasks_untested": ([said(TOO_FEW)], [said(DIFFERENT), said(NOT_SHOWN)]),
    "mean_not_above_baseline": (
        [{"mean": [0.4, 0.5], "baseline_mean": [0.5, 0.5]}],
        [{"mean": [0.4, 0.51], "baseline_mean": [0.5, 0.5]}],
    ),
    "no_seed_beat_chance": ([{"beats_chance": [False, None]}], [{"beats_chance": [False, True]}]),
    "leak_flatters": ([{"ci_low": [0.01]}], [{"ci_low": [-0.01]}, {"ci_low": [0.1, 0.0]}]),
    "leak_not_shown": ([{"ci_low": [-0.01]}], [{"ci_low": [0.01]}]),
    "leak_warning": ([{"n_leaked": [3]}], [{"n_leaked": [0]}]),
    "shortcut": (
        [{"whole": [0.9], "reduced": [0.85], "chance": [0.25], "ci_low": [0.8]}],
        [
            {"whole": [0.9], "reduced": [0.85], "chance": [0.25], "ci_low": [0.7]},
            {"whole": [0.6], "reduced": [0.6], "chance": [0.25], "ci_low": [0.59]},
        ],
    ),
    "more_labels": ([{"ci_low": [0.01], "ci_high": [0.1]}], [{"ci_low": [0.0], "ci_high": [0.1]}]),
    "more_images": ([{"ci_low": [-0.1], "ci_high": [-0.01]}], [{"ci_low": [-0.1], "ci_high": [0.0]}]),
    "more_of_either": (
        [{"ci_low": [-0.1], "ci_high": [0.0]}],
        [{"ci_low": [0.1], "ci_high": [0.2]}, {"ci_low": [-0.2], "ci_high": [-0.1]}],
    ),
    "cause": (
        [said(BETTER, BETTER), freed(None)],
        [
            *(said(BETTER, learned=[False]), said(BETTER, learned=[None]), said(INCONCLUSIVE), said(BETTER, WORSE)),
            freed(True),
        ],
    ),
    "no_cause_shown": (
        [said(BETTER, INCONCLUSIVE, learned=[False, True]), freed(True)],
        [said(BETTER), said(WORSE, BETTER)],
    ),
    "augmentation_cured": CURED,
    "augmentation_left_it": ([said(BETTER, learned=[False])], [said(WORSE), said(BETTER, learned=[None])]),
    "augmentation_not_shown": (CURED[1], CURED[0]),
    "lacked_both": (
        [said(BETTER, WORSE, EQUIVALENT)],
        [
            said(BETTER, WORSE, INCONCLUSIVE),
            said(INCONCLUSIVE, WORSE, WORSE),
            said(BETTER, WORSE, learned=[False, True]),
        ],
    ),
    "shown_together": (
        [said(BETTER, INCONCLUSIVE, WORSE)],
        [said(BETTER, BETTER, WORSE), said(TOO_FEW, WORSE, WORSE), said(BETTER, WORSE, learned=[False, True])],
    ),
}


def entries(page: str) -> dict[str, list[str]]:
    """Return the table rows of a page that begin with a name in backticks, by that name."""
    rows = (line.strip().strip("|").split(" | ") for line in page.splitlines() if line.startswith("| `"))
    return {cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]] for cells in rows}


def test_every_sentence_has_a_case_and_an_entry_in_the_page_and_no_other_does():
    before, verdicts = PAGE.read_text(encoding="utf-8").split("\n## Verdicts\n")
    assert set(SENTENCES) == set(CASES) == set(entries(before)) - set(ANSWERS)
    assert set(VERDICTS) <= set(entries(verdicts))


@pytest.mark.parametrize("name", SENTENCES)
def test_a_sentence_is_said_where_its_condition_is_met_and_refused_elsewhere(name: str):
    sentence, (allowed, refused) = SENTENCES[name], CASES[name]
    words = dict.fromkeys(re.findall(r"{(\w+)}", sentence.text), "X")
    for rows in allowed:
        assert sentence.may(pd.DataFrame(rows)), rows
        assert "{" not in sentence.say(pd.DataFrame(rows), **words)
    for rows in [*refused, {"answer": []}]:
        assert not sentence.may(pd.DataFrame(rows)), rows
        with pytest.raises(ValueError, match=f"'{name}' needs rows where"):
            sentence.say(pd.DataFrame(rows), **words)


@pytest.mark.parametrize("name", SENTENCES)
def test_the_page_gives_the_template_and_its_condition(name: str):
    template, condition, *rest = entries(PAGE.read_text(encoding="utf-8"))[name]
    assert template == f"`{SENTENCES[name].text}`"
    assert condition == SENTENCES[name].condition.text
    assert rest


def test_every_sentence_is_used():
    used = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path != HOME)
    constants = {name for name, value in vars(sentences).items() if isinstance(value, sentences.Sentence)}
    assert len(constants) == len(SENTENCES)
    assert not [name for name in constants if f"sentences.{name}" not in used]


CLAIM = re.compile(
    r"\b(?:is|are|does|do|was|were) (?:the best|(?:no |not )?(?:better|worse|equivalent)|no different)\b"
    r"|\b(?:cures|cured) (?:it|a|the)\b|\b(?:helps|beats|outperforms|improves) \w+"
    r"|\bno (?:effect|difference|gain|benefit)\b|\bbest (?:cell|task)\b|\bcause was\b|\bdoes better\b|\bmost helpful\b"
)
NO_CLAIM = (  # texts that match and claim nothing
    "makes that metric worse",  # a warning about metrics
    "what would cure a flat run",
    "whether pre-training beats an untrained encoder",  # what is not known
    "beats the base",  # heading of a probability
    "Test of whether more seeds converge",
    "(darker is better: ",  # how to read a color
)


def test_no_claim_is_worded_outside_of_the_list():
    found = []
    for path in SOURCES:
        if path == HOME or path.name == "glossary.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
        }
        texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
        for node in texts:
            text = str(node.value)
            if CLAIM.search(text) and not any(known in text for known in NO_CLAIM):
                found.append(f"{path.name}:{node.lineno}: {text}")
    assert not found, "move these to analysis/report/sentences.py: " + "\n".join(found)


def test_the_page_explains_every_answer():
    assert set(ANSWERS) <= set(entries(PAGE.read_text(encoding="utf-8")))


def test_the_words_of_the_report_are_those_of_the_page():
    page = PAGE.read_text(encoding="utf-8")
    words = re.findall(r"^- \*\*(.+?)\*\*: (.+(?:\n  .+)*)$", page[page.index("## Words") :], re.MULTILINE)
    assert {word: " ".join(meaning.split()) for word, meaning in words} == GLOSSARY
    assert len(glossary().blocks[0].items) == len(GLOSSARY)  # type: ignore[union-attr]


def test_the_page_leaves_the_verdicts_a_section():
    assert "\n## Verdicts\n" in PAGE.read_text(encoding="utf-8")


def shares(cell: str) -> list[float]:
    """Return the percentages of a cell of the table as shares; a dash means that it was not simulated."""
    return [float(value) / 100 for value in re.findall(r"([\d.]+)%", cell)]


@pytest.mark.core
@pytest.mark.slow
def test_the_rates_of_the_page_are_what_a_simulation_measures():
    page, studies = entries(PAGE.read_text(encoding="utf-8")), 600
    measured = sentence_rates.false_rates(studies, seed=1) | sentence_rates.rates(
        sentence_rates.NOT_SHOWN, studies, seed=1
    )
    for name, rates in measured.items():
        claimed = shares(page[name][2])
        assert len(claimed) == len(rates), name
        for share, rate in zip(claimed, rates, strict=True):
            error = np.sqrt(max(share * (1 - share), 0.002) / studies)
            assert abs(rate - share) < 4 * error + 0.001, (name, share, rate)
    for name in sentence_rates.false_rates(1):
        assert max(shares(page[name][2])) <= 0.06, f"{name} is false too often"


def test_a_condition_that_is_weakened_is_noticed():
    """The simulation sees a sentence whose condition accepts what was not shown."""
    weak = sentences.Sentence("weak", "", sentences.NOTHING_SHOWN_BETTER.condition)
    case = sentence_rates.Case(weak, (1.0,) * 4, spread=3.0)
    assert case.rate(sentence_rates.Setup(5), 200, seed=0) > 0.5
    strong = sentence_rates.Case(sentences.NO_BETTER_THAN_UNTRAINED, (1.0,) * 4, spread=3.0)
    assert strong.rate(sentence_rates.Setup(5), 200, seed=0) < 0.05
