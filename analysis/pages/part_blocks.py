"""Blocks about one part of a series, for any page: test accuracy, the tasks' own inputs, sections of its report."""

from __future__ import annotations

from collections.abc import Callable

from analysis.comparisons import PRETRAINING_TEST
from analysis.figures import accuracy_bars, what_a_task_sees
from analysis.findings import Findings, queries
from analysis.findings.inputs import chosen_task, images_of
from analysis.pages.parts import N_SHOWN, Part
from analysis.report.blocks import Block, Gallery, Section, Text, labeled
from analysis.report.pictures import call, picture
from analysis.report.sections.summary import pretraining_gain
from analysis.report.sources import Sources
from trainables.errors import UserError

Band = tuple[float, float]


def probe_bars(part: Part | None, dataset: str, reported: tuple[Band, ...] = ()) -> list[Block]:
    """Return the gain from pre-training on a data set, and the bars of every encoder's linear probe.

    Args:
        part: The study; None if it has not started.
        dataset: A data set that its evaluation probes.
        reported: Bands (low, high) of accuracies that another report shows, drawn behind the bars.
    """
    if part is None or f"probe/{dataset}/linear" not in part.study.runs:
        return [Text(f"The encoders have not been probed on {dataset} yet.", "caveat")]
    gain = pretraining_gain(part.findings, dataset)
    runs = part.shown("study", "tested")
    where = f"design == {PRETRAINING_TEST!r} and metric == 'probe/{dataset}/linear'"
    compared = part.shown("findings", "against_untrained").query(where)
    alt = f"Linear probe of each encoder on {dataset}, train and test. {' '.join(gain)}".replace("*", "")
    bars = picture(f"bars-{dataset}", alt, accuracy_bars, runs, dataset, compared=compared, reported=reported)
    return [*(Text(sentence, "finding") for sentence in gain), Gallery([bars])]


def inputs_of_tasks(part: Part | None, dataset: str) -> list[Block]:
    """Return one picture per pretext task: what it makes of a data set's images."""
    if part is None:
        return [Text("The tasks have not run yet.", "caveat")]
    try:
        images = call(images_of, part.shown("study"), dataset)
    except UserError as error:
        return [Text(f"There are no images to show: {error}.", "caveat")]
    return [
        Gallery(
            [
                picture(
                    f"{dataset}-{task}",
                    f"{N_SHOWN} images of {dataset} as {task} turns them into inputs",
                    *(what_a_task_sees, task, images),
                    n_shown=N_SHOWN,
                )
                for task in queries.tasks(part.findings)
            ]
        )
    ]


def inputs_as_chosen(part: Part | None, task: str) -> list[Block]:
    """Return a picture of what a task makes of the part's own images, with the options it was confirmed with."""
    if part is None:
        return [Text("The study has not run yet.", "caveat")]
    dataset = str(part.study.config["dataset"])
    try:
        images, built = call(images_of, part.shown("study"), dataset), call(chosen_task, part.shown("findings"), task)
    except UserError as error:
        return [Text(f"There are no images to show: {error}.", "caveat")]
    alt = f"{N_SHOWN} images of {dataset} as {task} turns them into inputs, with the options of the confirmed trials"
    return [Gallery([picture("patches", alt, what_a_task_sees, built, images, n_shown=N_SHOWN, augmentation={})])]


def report_blocks(
    part: Part, section: Callable[[Findings, Sources], Section], findings: str = "findings"
) -> list[Block]:
    """Return the blocks of a report's section for one part.

    Args:
        part: The study.
        section: A section function of the report that takes the findings and their sources.
        findings: The part's attribute to take the findings from: `findings` or `findings_by_probe`.
    """
    found: Findings = getattr(part, findings)
    blocks = section(found, Sources(found, f"{part.name}.", findings)).blocks
    return labeled(blocks, part.name if findings == "findings" else f"{part.name} by probe")
