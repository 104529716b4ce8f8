"""Section "How does it compare ...?": chance, raw pixels and random initialization, per data set and across tasks."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.comparisons import (
    BASE,
    PRETRAINING,
    PRETRAINING_TEST,
    TOO_FEW,
    improvement_probabilities,
    interquartile_means,
    interval_scope,
    left_out,
    normalized_scores,
)
from analysis.data import tables
from analysis.data.baselines import are_baselines
from analysis.data.classes import headline_results
from analysis.figures import (
    BALANCED_NAMES,
    PROBE_NAMES,
    SEGMENTATION_NAMES,
    accuracy_by_task,
    balanced_accuracy_by_task,
    miou_by_task,
    probe_by_stage,
)
from analysis.findings import Findings, queries
from analysis.records.phases import ABLATE
from analysis.report import sentences
from analysis.report.blocks import Block, Folded, Gallery, Section, Table, Text
from analysis.report.pictures import Picture, picture
from analysis.report.sections.classes import by_class, imbalance
from analysis.report.sections.label_efficiency import few_labels
from analysis.report.sections.leaks import near_duplicates
from analysis.report.sources import Sources
from analysis.report.words import (
    NONE,
    PROBES,
    count,
    effect,
    guessing,
    interval,
    listed,
    measured,
    metric_words,
    number,
    p_cell,
    signed,
)
from analysis.stats.aggregates import MIN_INTERVAL_SEEDS
from analysis.stats.paired import MIN_SEEDS
from trainables.trial import BASELINES, CLASS_AVERAGES, RANDOM_INIT, WEIGHTS

BALANCED_ACCURACY = CLASS_AVERAGES[0]
MOST_CELLS = 12  # rows in the table across tasks
NOT_EVALUATED = (
    "Nothing has been evaluated on the test split yet: the evaluate phase does that, for data sets with annotations."
)


def how_it_compares(findings: Findings, sources: Sources) -> Section:
    """Return the section on baselines.

    Args:
        findings: What was computed for the study.
        sources: Frames that the figures are drawn from.
    """
    title = "How does it compare with chance, raw pixels and random initialization?"
    dataset = queries.answered_dataset(findings)
    compared = {task: queries.against_untrained(findings, task, dataset) for task in queries.tasks(findings)}
    answers = [f"{task}: {found.row['answer']}" for task, found in compared.items() if found is not None]
    lead = f"Than an untrained network: {'; '.join(answers)}." if answers else ""
    return Section("compared", title, list(_blocks(findings, sources)), lead)


def _blocks(findings: Findings, sources: Sources) -> Iterator[Block]:
    summary = tables.probe_summary(headline_results(findings.study.tested))
    if summary.empty:
        yield Text(NOT_EVALUATED, "caveat")
    else:
        yield _probes(summary)
        for sentence in imbalance(findings):
            yield Text(sentence, "caveat")
        yield from _warnings(findings, summary)
        yield Gallery([*(each for name in _DRAWN for each in _by_task(sources, name))])
        yield from _stages(sources)
        yield from few_labels(findings, sources)
        yield from by_class(findings)
        yield from _untrained(findings, PRETRAINING_TEST)
        yield from _weights(findings)
    yield from near_duplicates(findings)
    yield from _in_the_ablation(findings)
    yield from _untrained(findings, PRETRAINING)
    yield from _aggregates(findings)


def _probes(summary: pd.DataFrame) -> Table:
    pairs = list(summary[["dataset", "probe"]].drop_duplicates().itertuples(index=False, name=None))
    cells = {(row.task, row.dataset, row.probe): _mean_and_sd(row) for row in summary.itertuples()}
    rows = [[task, *(cells.get((task, *pair), NONE) for pair in pairs)] for task in summary["task"].unique()]
    levels = summary.groupby(["dataset", "probe"])[["chance", "largest_class"]].first()
    rows.append(["chance", *(number(levels.loc[pair, "chance"]) for pair in pairs)])
    rows.append(["largest class (test)", *(number(levels.loc[pair, "largest_class"]) for pair in pairs)])
    head = ["encoder", *(f"{dataset} {probe}" for dataset, probe in pairs)]
    caption = (
        "Test accuracy of probes on frozen features: mean ± standard deviation (seeds), with a probe for each data "
        "set. Largest class: the accuracy of predicting the most frequent class of the test images for all of them."
    )
    return Table(caption, head, rows)


def _mean_and_sd(row: object) -> str:
    spread = "" if pd.isna(row.sd) else f" ± {number(row.sd)}"  # type: ignore[attr-defined]
    return f"{number(row.mean)}{spread} ({row.n_seeds})"  # type: ignore[attr-defined]


def _warnings(findings: Findings, summary: pd.DataFrame) -> Iterator[Text]:
    averaged = summary.loc[summary["probe"].str.endswith(BALANCED_ACCURACY), "dataset"]
    is_answer = ~summary["dataset"].isin(averaged) | summary["probe"].str.endswith((BALANCED_ACCURACY, "miou"))
    below = tables.not_above_baselines(summary.loc[is_answer])
    if len(below):
        means = listed(
            f"{row.task} {number(row.mean)}, {row.baseline} {number(row.baseline_mean)} ({row.dataset}, {row.probe})"
            for row in below.itertuples()
        )
        yield Text(sentences.MEAN_NOT_ABOVE_BASELINE.say(below, means=means), "caveat")
    if missing := [task for task in BASELINES if task not in set(summary["task"])]:
        lead = f"Not evaluated on the test split: {listed(missing)}."
        yield Text(f"{lead} Without that baseline, these numbers say little.", "caveat")
    trained = summary.loc[summary["task"].isin(queries.tasks(findings)), "n_seeds"]
    compared = findings.against_untrained.loc[findings.against_untrained["design"] == PRETRAINING_TEST]
    untested = compared["answer"] == TOO_FEW  # 3 seeds are enough if all kept their images
    if len(trained) and trained.min() < MIN_SEEDS and (compared.empty or untested.any()):
        named = "" if untested.all() else f" of {listed(compared.loc[untested, 'task'].unique())}"
        few = f"Fewer than {MIN_SEEDS} seeds{named}: means and every seed are shown, without a test."
        yield Text(f"{few} Differences as small as the standard deviations may be luck.", "caveat")


_DRAWN = {
    "accuracy": ("Test accuracy", PROBE_NAMES, accuracy_by_task),
    "balanced": ("Test balanced accuracy", BALANCED_NAMES, balanced_accuracy_by_task),
    "miou": ("Test mIoU", SEGMENTATION_NAMES, miou_by_task),
}


def _by_task(sources: Sources, name: str) -> Iterator[Picture]:
    quantity, probes, draw = _DRAWN[name]
    runs = sources.tested
    results = headline_results(runs.value)
    results = results.loc[results["probe"].isin(list(probes))]
    for index, dataset in enumerate(results["dataset"].unique()):
        summary = tables.probe_summary(results.loc[results["dataset"] == dataset])
        means = ", ".join(f"{row.task} {row.probe} {row.mean:.3f}" for row in summary.itertuples())
        alt = f"{quantity} on {dataset} by pretext task: {means}"
        caption = "Marks above the dash-dotted line of the same color score higher than an untrained network."
        yield picture(f"{name}-{index}", alt, draw, runs, dataset, caption=caption)


def _stages(sources: Sources) -> Iterator[Block]:
    """Yield the probes of each stage of the encoders, if the evaluation includes them."""
    runs = sources.tested
    results = tables.stage_results(runs.value)
    pictures = []
    for index, ((dataset, probe), own) in enumerate(results.groupby(["dataset", "probe"], sort=False)):
        means = own.groupby(["task", "stage"], sort=False)["value"].mean()
        values = ", ".join(f"{task} stage {stage} {mean:.3f}" for (task, stage), mean in means.items())
        alt = f"{PROBES[probe]} of every stage on {dataset}: {values}"
        caption = "Where a line peaks before the last stage, that stage has the highest mean."
        pictures.append(picture(f"stages-{index}", alt, probe_by_stage, runs, dataset, probe, caption=caption))
    if pictures:
        yield Text(
            "**Which stage?** Means of the test split, without a test. If an earlier stage scores higher than the "
            "last, compare both on other images before using it."
        )
        yield Gallery(pictures)


def _untrained(findings: Findings, design: str) -> Iterator[Block]:
    """Yield one design's comparisons with untrained encoders of the same seeds."""
    own = findings.against_untrained.loc[findings.against_untrained["design"] == design]
    split = "test" if design == PRETRAINING_TEST else "validation"
    where = "on the test split" if split == "test" else "in the ablation, on validation"
    title = f"Did pre-training help at all? Every comparison {where}"
    caption = f"Pre-trained encoders compared with untrained ones of the same shape and seeds, {where}."
    yield from _every(findings, own.assign(name=own["cell"]), split, title, caption, ("cell", "untrained"))


def _weights(findings: Findings) -> Iterator[Block]:
    """Yield the comparisons with pretrained weights."""
    own = findings.against_weights
    title = "Is the study's pre-training better than the pretrained weights? Every comparison on the test split"
    caption = (
        "The study's encoders compared with pretrained weights, on the test split. Weights have no seed; all "
        "seeds of a task are compared with the same ones."
    )
    names = own["baseline"].str.removeprefix(WEIGHTS)
    yield from _every(findings, own.assign(name=names), "test", title, caption, ("weights", "theirs"))


def _every(
    findings: Findings, own: pd.DataFrame, split: str, title: str, caption: str, words: tuple[str, str]
) -> Iterator[Block]:
    """Yield a folded table of comparisons; `words` head the columns of their `name` and of what they compare with."""
    if own.empty:
        return
    rows = [
        [
            *(row.task, row.name, metric_words(row.metric), row.answer),
            *(number(row.mean), number(row.baseline_mean), signed(row.mean_difference)),
            *(interval(row.ci_low, row.ci_high) or NONE, p_cell(row.p_holm), count(row.n_seeds)),
        ]
        for row in own.itertuples()
    ]
    name, level = words
    head = ["task", name, "metric", "answer", "mean", level, "difference", "95% interval", "Holm p", "seeds"]
    runs = findings.study.runs.query("probe_split == @split", local_dict={"split": split})
    guessed = guessing(runs, (column for column in own["metric"] if column in runs), split)
    caption = f"{caption} {interval_scope(own)}".strip() + guessed
    yield Folded(title, [Table(caption, head, rows, 4)])


def _in_the_ablation(findings: Findings) -> Iterator[Block]:
    """Yield how the base of each ablation compares with untrained encoders; it has more seeds than the test split."""
    answers = [
        f"{task} {found.row['answer']}, {measured(found.row)} {effect(found.row)}"
        for task in queries.ablated_tasks(findings)
        if (found := queries.base_against_untrained(findings, task)) is not None
    ]
    if answers:
        lead = "**Did pre-training help at all?** The ablation's base compared with untrained encoders:"
        yield Text(f"{lead} {'; '.join(answers)}.")


def _aggregates(findings: Findings) -> list[Block]:
    """Return the interquartile mean of each cell over tasks, if several tasks share cells and a probe."""
    columns = {metric.column for metric in findings.metrics.values()}
    tasks = list(findings.metrics)
    if len(tasks) < 2 or len(columns) != 1 or not tables.is_final_accuracy(column := columns.pop()):
        return []
    runs = findings.study.runs.query("phase == @phase", local_dict={"phase": ABLATE})
    untrained = runs.loc[runs["task"] == RANDOM_INIT, column]
    trained = runs.loc[~are_baselines(runs["task"])]
    if untrained.isna().all() or len(trained) == len(left_out(trained)):
        return []
    scores = normalized_scores(runs, column)
    shared = scores.groupby("cell")["task"].nunique()
    scores = scores.loc[scores["cell"].isin(shared.index[shared == len(tasks)])]
    if scores["cell"].nunique() < 2:
        return []
    means = interquartile_means(scores).sort_values("iqm", ascending=False)
    chances = {}
    if (scores["cell"] == BASE).any():
        chances = improvement_probabilities(scores).set_index("cell")[["probability", "ci_low", "ci_high"]].T.to_dict()
    rows = [
        [
            *(row.cell, number(row.iqm), interval(row.ci_low, row.ci_high) or NONE),
            *_probability(chances.get(row.cell)),
            *(count(row.n_seeds), count(row.n_failed)),
        ]
        for row in means.head(MOST_CELLS).itertuples()
    ]
    head = ["cell", "interquartile mean", "95% interval", "beats the base", "95% interval", "seeds", "failed"]
    caption = (
        f"All tasks together ({listed(tasks)}), {metric_words(column)} (validation split): 0 is an untrained encoder, "
        "1 is perfect. Beats the base: the probability that a run scores higher than a run of the base with another "
        "seed."
    )
    note = (
        ""
        if means["ci_low"].notna().any()
        else f" Fewer than {MIN_INTERVAL_SEEDS} seeds ({means['n_seeds'].min()}): descriptive, no interval."
    )
    return [Folded("Across tasks: the average of each cell", [Table(caption + note, head, rows)])]


def _probability(found: dict[str, float] | None) -> list[str]:
    if found is None:
        return [NONE, NONE]
    return [number(found["probability"], 2), interval(found["ci_low"], found["ci_high"], 2) or NONE]
