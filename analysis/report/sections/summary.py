"""The summary: the findings of a study in three to six sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import pandas as pd

from analysis.comparisons import BASE, BETTER, EQUIVALENT, INCONCLUSIVE, TOO_FEW, WORSE
from analysis.convergence import AT_CHANCE, CONVERGED
from analysis.data.classes import levels_of
from analysis.data.frames import NOT_ENDED
from analysis.data.tables import probe_results
from analysis.findings import Findings, queries
from analysis.findings.queries import VALIDATION, UntrainedComparison
from analysis.records import FAILED
from analysis.records.phases import ABLATE, CONFIRM, EVALUATE, SEARCH
from analysis.report import sentences
from analysis.report.claims import first_true
from analysis.report.sections.classes import imbalance
from analysis.report.sections.designs import factorial_clause
from analysis.report.sections.leaks import leak_findings
from analysis.report.words import (
    PROBES,
    circumstances,
    count,
    counted,
    effect,
    ending,
    first_clause,
    guessing,
    listed,
    measured,
    number,
    p_value,
    quoted,
    signed,
    within,
)
from trainables.trial import RAW_PIXELS

LONGEST_REASON = 100  # characters
MOST_NAMED = 3  # comparisons with cells other than the base that a sentence names


def summary(findings: Findings) -> list[str]:
    """Return the sentences: the gain from pre-training, each task's problem and its cure, and what is missing."""
    ablations = [_ablation(findings, task) for task in queries.ablated_tasks(findings)]
    gain = pretraining_gain(findings, queries.answered_dataset(findings))
    return [
        *gain,
        *imbalance(findings),
        *leak_findings(findings),
        *(ablations or _confirmed(findings)),
        *_unfinished(findings),
    ]


def pretraining_gain(findings: Findings, dataset: str) -> list[str]:
    """Return which chosen configurations beat untrained encoders on the test split of a data set."""
    known = {
        task: found
        for task in queries.tasks(findings)
        if (found := queries.against_untrained(findings, task, dataset)) is not None
    }
    if not known:
        return [not_known(findings, dataset)]
    rows = pd.DataFrame([found.row for found in known.values()])
    [best, *_], split = queries.ordered_tasks(findings, {task: found.row["mean"] for task, found in known.items()})
    if not any(found.is_above for found in known.values()):
        candidates = (sentences.NO_TASK_BEATS_UNTRAINED, sentences.NO_TASK_SHOWN_TO_BEAT_UNTRAINED)
        words = {"dataset": dataset, "margin": within(findings.margin)}
        words["first"] = f"the best on {split} is " if len(known) > 1 else ""
        words["numbers"] = _with_untrained(best, known[best])
        guessed = guessing(findings.study.tested, rows["metric"], "test")
        return [f"{first_true(candidates, rows).say(rows, **words)}.{guessed}"]
    trained_on = queries.main_dataset(findings)
    rank = f"{split} mean{f' on {trained_on}' if split == VALIDATION and dataset != trained_on else ''}"
    ended = queries.convergence(findings, CONFIRM, best, queries.chosen_cell(findings, best))
    end = f" As chosen, {best} {ending(ended)}." if ended else ""
    return [f"{_headline(findings, known, best, rank, dataset)}{end}", *_no_gain(findings, known, best)]


def _headline(findings: Findings, known: dict[str, UntrainedComparison], best: str, rank: str, dataset: str) -> str:
    """Return how the leading task compares with untrained encoders and with the runner-up."""
    numbers = _with_baselines(findings, known[best], dataset)
    rivals = queries.task_rivals(findings, best, known[best].row["metric"])
    if rivals.empty:
        return f"**{best}** on {dataset}: {numbers}."
    first = rivals.iloc[0]
    sentence = first_true((sentences.BEST_TASK, sentences.OVERTAKEN_TASK, sentences.LEADING_TASK), rivals)
    words = {"task": best, "n": len(known), "dataset": dataset, "numbers": numbers, "rank": rank}
    return sentence.say(rivals, rival=first["baseline"], difference=effect(first), **words)


def _no_gain(findings: Findings, known: dict[str, UntrainedComparison], best: str) -> Iterator[str]:
    """Yield which other tasks are no better than an untrained encoder, and which are not shown to be better."""
    shown = (WORSE, EQUIVALENT)
    others = {task: found for task, found in known.items() if task != best and found.row["answer"] != BETTER}
    for sentence, is_shown in (
        (sentences.NO_BETTER_THAN_UNTRAINED, True),
        (sentences.NOT_SHOWN_BETTER_THAN_UNTRAINED, False),
    ):
        own = {task: found for task, found in others.items() if (found.row["answer"] in shown) == is_shown}
        if own:
            numbers = listed(_with_untrained(task, found) for task, found in own.items())
            rows = pd.DataFrame([found.row for found in own.values()])
            yield f"{sentence.say(rows, numbers=numbers, margin=within(findings.margin))}."


def cure_clause(findings: Findings, task: str) -> str:
    """Return which change helps a task most, with its numbers, or why the study cannot say."""
    better = queries.cures(findings, task)
    return _cured(findings, task, better) if len(better) else _not_cured(findings, task) + _elsewhere(findings, task)


def _not_cured(findings: Findings, task: str) -> str:
    """Return why no change can be called better than the base."""
    ranked = queries.ranked(findings, task)
    if ranked.empty:
        return "no change was compared with the base"
    if sentences.NO_CHANGE_BETTER.may(ranked):
        return sentences.NO_CHANGE_BETTER.say(ranked, numbers=_no_better(ranked))
    open_rows = ranked.loc[~ranked["answer"].isin([WORSE, EQUIVALENT]) & ranked["mean_difference"].notna()]
    if open_rows.empty:
        return "no change compared with the base has a value"
    first = open_rows.iloc[0]
    words = {
        "largest": f"{quoted(first['cell'])} {_numbers(first)}",
        "detectable": number(first["smallest_detectable"]),
    }
    candidates = (sentences.NO_CHANGE_SHOWN_BETTER, sentences.NO_CHANGE_TESTED)
    return first_true(candidates, open_rows).say(open_rows, **words)


def _elsewhere(findings: Findings, task: str) -> str:
    """Return what the ablation shows without the base: cells better than another one, and effects of factors."""
    rows = queries.distinct(findings.effects.loc[findings.effects["task"] == task])
    rows = rows.loc[(rows["answer"] == BETTER) & (rows["baseline"] != BASE)]
    cells = [
        f"{quoted(row.cell)} than {quoted(row.baseline)} ({signed(row.mean_difference)})" for row in rows.itertuples()
    ]
    named = cells if len(cells) <= MOST_NAMED else [*cells[:MOST_NAMED], f"{len(cells) - MOST_NAMED} more"]
    factors = factorial_clause(findings, task)
    said = sentences.BETTER_ELSEWHERE.say(rows, cells=listed(named)) if named else ""
    return said + (f"; {factors}" if factors else "")


def take_off_clause(findings: Findings, task: str) -> str:
    """Return which change makes a task leave chance, and at how many seeds, which the probe may not show."""
    found = queries.take_offs(findings, task)
    if found.empty:
        changes = findings.take_off_changes
        own = changes.loc[(changes["task"] == task) & (changes["baseline"] == BASE)]
        known = sentences.NO_CHANGE_LEFT_CHANCE.may(own)
        return (
            sentences.NO_CHANGE_LEFT_CHANCE.say(own) if known else "whether a change makes it leave chance is not known"
        )
    row = found.iloc[0]
    rate = f"{row['n_learned']} of {counted(row['n_pairs'], 'seed')}, {row['n_baseline_learned']} without it"
    others = len(found) - 1
    more = f" and at more seeds with {counted(others, 'other change')}" if others else ""
    candidates = (sentences.LEAVES_CHANCE, sentences.LEFT_CHANCE_UNTESTED, sentences.LEFT_CHANCE_TESTED)
    words = {"cell": quoted(row["cell"]), "rate": rate, "more": more, "p": p_value(row["p_holm"])}
    return first_true(candidates, row).say(row, needed=count(row["pairs_needed"]), **words)


def _numbers(row: pd.Series) -> str:
    """Return the numbers of a change that was picked by its difference."""
    return f"{measured(row)} {effect(row, picked=True)}"


def _no_better(ranked: pd.DataFrame) -> str:
    """Return how many cells are equivalent and how many are worse, with the numbers of the worst one."""
    worse = ranked.loc[ranked["answer"] == WORSE]
    equivalent = len(ranked) - len(worse)
    parts = [f"{equivalent} equivalent"] if equivalent else []
    if len(worse):
        last = worse.iloc[-1]
        parts.append(f"{len(worse)} worse, the worst {quoted(last['cell'])} {_numbers(last)}")
    return "; ".join(parts)


def _cured(findings: Findings, task: str, better: pd.DataFrame) -> str:
    """Return whether the better cell with the largest gain cures its task, and which other cells are better, too."""
    row, others = better.iloc[0], better.iloc[1:]
    ends = queries.with_ends(findings, pd.DataFrame([row]))
    after = queries.convergence(findings, ABLATE, task, row["cell"])
    cells = f"{quoted(others.iloc[0]['cell'])}" if len(others) == 1 else counted(len(others), "other change")
    more = sentences.ALSO_BETTER.say(others, cells=cells) if len(others) else ""
    words = {"cell": quoted(row["cell"]), "numbers": _numbers(row), "more": more}
    if after is None or ends["base_converged"].iloc[0] is not False:
        return sentences.DOES_BETTER.say(row, **words)
    sentence = sentences.CURES if sentences.CURES.may(ends) else sentences.HELPS
    return sentence.say(ends, ending=ending(after), **words)


def _with_baselines(findings: Findings, found: UntrainedComparison, dataset: str) -> str:
    row, runs = found.row, findings.study.tested
    pixels = probe_results(runs).query(
        "task == @RAW_PIXELS and dataset == @dataset and probe == @probe",
        local_dict={"RAW_PIXELS": RAW_PIXELS, "dataset": dataset, "probe": row["metric"].rsplit("/", 1)[-1]},
    )
    levels = [f"{number(row['baseline_mean'])} for an untrained encoder ({_difference(found)})"]
    if len(pixels):
        levels.append(f"{number(pixels['value'].mean())} for raw pixels")
    guessed = levels_of(runs, row["metric"])
    if not pd.isna(guessed.largest_class):
        levels.append(f"{number(guessed.largest_class)} for always predicting the largest class")
    if not pd.isna(guessed.chance):
        levels.append(f"{number(guessed.chance)} by chance")
    probe = PROBES[row["metric"].rsplit("/", 1)[-1]]
    return f"{probe} {number(row['mean'])} on the test split, compared with {listed(levels)}"


def _difference(found: UntrainedComparison) -> str:
    row = found.row
    if row["answer"] == TOO_FEW:
        seeds = counted(row["n_seeds"], "seed")
        return f"{signed(row['mean_difference'])}, higher in {found.n_above} of {seeds}, too few to test"
    return f"{effect(row)}, {row['answer']}"


def _with_untrained(task: str, found: UntrainedComparison) -> str:
    row = found.row
    probe = PROBES[row["metric"].rsplit("/", 1)[-1]]
    return f"{task} ({probe} {number(row['mean'])}, untrained {number(row['baseline_mean'])}; {_difference(found)})"


def not_known(findings: Findings, dataset: str) -> str:
    """Return why it is not known whether pre-training helps."""
    if not queries.chosen(findings):
        return not_chosen(findings)
    unknown = "whether pre-training beats an untrained encoder"
    if not any(info.get("n_classes") for info in findings.study.datasets.values()):
        return f"**Not known**: {unknown}; without labels no probe can tell."
    if not (findings.study.runs["phase"] == EVALUATE).any():
        return f"**Not known yet**: {unknown}; the evaluate phase measures that."
    if dataset not in set(probe_results(findings.study.tested)["dataset"]):
        return f"**Not known**: {unknown}; the test split of {dataset} was not probed."
    yet = " yet" if EVALUATE in queries.unfinished_phases(findings) else ""
    both = "a chosen and an untrained encoder"
    return f"**Not known{yet}**: {unknown}; on the test split of {dataset} no seed has the results of both {both}."


def not_chosen(findings: Findings) -> str:
    """Return why no configuration is chosen."""
    if CONFIRM in findings.study.outcomes:
        return "**No configuration is chosen**: no trial of the confirm phase finished with a value to choose by."
    return "**No configuration is chosen yet**: the confirm phase, which chooses one, has not ended."


def _ablation(findings: Findings, task: str) -> str:
    """Return how the base of a task's ablation ended, and which change cures it."""
    words = circumstances(queries.base_settings(findings, task), queries.base_changes(findings, task))
    name = f"**{task}** {words}".strip()
    found = queries.convergence(findings, ABLATE, task, BASE)
    if found is None:
        return f"{name}: {cure_clause(findings, task)}."
    why = "" if found.verdict == CONVERGED else f": {first_clause(found.evidence)}"
    leaves = f"; {take_off_clause(findings, task)}" if found.verdict == AT_CHANCE else ""
    return f"{name} {ending(found)}{why}{_features(findings, task)}{leaves}; {cure_clause(findings, task)}."


def _features(findings: Findings, task: str) -> str:
    """Return that the base's features are not better than untrained ones; empty if they are, or if it is not known."""
    found = queries.base_against_untrained(findings, task)
    if found is None or found.is_above:
        return ""
    candidates = (sentences.FEATURES_WORSE, sentences.FEATURES_EQUIVALENT, sentences.FEATURES_NOT_SHOWN_BETTER)
    means = f"{measured(found.row)} {number(found.row['mean'])} and {number(found.row['baseline_mean'])}"
    return f"; {first_true(candidates, found.row).say(found.row, means=means)}"


def _confirmed(findings: Findings) -> list[str]:
    """Return how the chosen configurations ended or, before the confirm phase, how the search trials did."""
    if not queries.chosen(findings):
        return _searched(findings)
    ends = {
        task: queries.convergence(findings, CONFIRM, task, queries.chosen_cell(findings, task))
        for task in queries.chosen(findings)
    }
    ended = [f"{task} {ending(found)}" for task, found in ends.items() if found is not None]
    without = "Before the ablate phase" if ABLATE in queries.unfinished_phases(findings) else "Without an ablation"
    return [f"As chosen, {listed(ended)}. {without}, it is not known what would help."] if ended else []


def _searched(findings: Findings) -> list[str]:
    verdicts = findings.verdicts.loc[findings.verdicts["phase"] == SEARCH]
    counts = [f"{task} {listed(_counts(own['verdict']))}" for task, own in verdicts.groupby("task", sort=False)]
    return [f"Search trials so far: {'; '.join(counts)}."] if counts else []


def _counts(verdicts: pd.Series) -> list[str]:
    return [f"{n} {str(name).replace('_', ' ')}" for name, n in verdicts.value_counts().items()]


def _last_line(reason: str) -> str:
    """Return the last line of a traceback, which names the error, shortened to fit a sentence."""
    lines = reason.strip().splitlines()
    return textwrap.shorten(lines[-1], LONGEST_REASON, placeholder=" …") if lines else ""


def _unfinished(findings: Findings) -> list[str]:
    runs = findings.study.runs
    failed, running = int((runs["status"] == FAILED).sum()), int(runs["status"].isin(NOT_ENDED).sum())
    inconclusive = queries.distinct(findings.effects)["answer"] == INCONCLUSIVE
    parts = []
    if failed:
        parts.append(f"{failed} of {counted(len(runs), 'trial')} failed{_reasons(runs)}")
    if inconclusive.any():
        share = f"{inconclusive.sum()} of {counted(len(inconclusive), 'comparison')}"
        verb = "is" if inconclusive.sum() == 1 else "are"
        parts.append(f"{share} {verb} inconclusive (the tables below say how many seeds they need)")
    if running:
        verb = "has" if running == 1 else "have"
        parts.append(f"{counted(running, 'trial')} {verb} not ended yet, so these results are preliminary")
    return [f"{'; '.join(parts)}."] if parts else []


def _reasons(runs: pd.DataFrame) -> str:
    """Return in brackets why trials failed: the reason of all, or how many have the most frequent one."""
    counts = runs.loc[runs["status"] == FAILED, "reason"].map(_last_line).value_counts()
    known = counts.drop("", errors="ignore")
    if known.empty:
        return ""
    reason, n = known.index[0], known.iloc[0]
    if len(counts) == 1:
        return f" ({reason})"
    return f" (most often, {n} times: {reason})" if n > 1 else f" (for example: {reason})"
