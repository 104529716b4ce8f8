"""The original report, figure by figure, with chance and untrained encoders next to every number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from analysis.findings import queries
from analysis.pages.cause import TASK, cause, refitted
from analysis.pages.part_blocks import inputs_as_chosen, inputs_of_tasks, probe_bars, report_blocks
from analysis.pages.parts import Part
from analysis.report.blocks import Block, Folded, Heading, Section, Text
from analysis.report.sections.baselines import how_it_compares
from analysis.report.sections.cures import what_each_did
from analysis.report.sections.summary import pretraining_gain
from analysis.report.sections.verdicts import did_it_converge
from analysis.report.words import count, listed

PRETEXT, CASE, CURES = "pretext", "case", "cures"  # names of the parts
TRAINED_ON, TRANSFERRED_TO = "cifar10", "fashion_mnist"
REPORTED = ((0.09, 0.11), (0.42, 0.51))  # heights of the bars in the original's figure of Fashion-MNIST
# The original's curves, as its figure shows them: validation after each of six epochs, and training at the end.
PUBLISHED_VALIDATION, PUBLISHED_TRAINING = (10.5, 6.2, 4.65, 4.62, 4.9, 4.5), 4.43
DIRECTIONS, CLASSES = 8, 10  # outputs of its two heads, which it drew as one loss

BANDS = (
    f"Gray bands: the original's bars, {listed(f'{low:.0%} to {high:.0%}' for low, high in REPORTED)} for top-1 and "
    "top-5. They are at chance, 10% and 50% for ten classes: the probe was never fitted to these images, and the "
    "checkpoint of the encoder was missing. They say nothing about any pretext task."
)
PATCHES = (
    "As in the original: photographs squashed to a square, a fixed 3x3 grid without jitter, one pair per image. Here "
    "the network gets pixels in [0, 1], scaled once; the original scaled uint8 twice, which turned patches into "
    "negatives."
)
ABOVE_CHANCE = "Above chance is not evidence for the pretext task; above an untrained encoder is."


def original_report(parts: Mapping[str, Part]) -> tuple[list[str], list[Section]]:
    """Return the summary of the page and its sections, in the order of the original's figures."""
    pretext, case, cures = (parts.get(name) for name in (PRETEXT, CASE, CURES))
    paragraph = cause(case, cures) if case and cures else "**Not known yet**: the case and its cures have not run."
    gains = [pretraining_gain(pretext.findings, name)[0] for name in (TRAINED_ON, TRANSFERRED_TO)] if pretext else []
    bars = [
        Section("pretext-accuracy", "1. Pretext tasks on CIFAR-10", probe_bars(pretext, TRAINED_ON)),
        Section(
            "as-seen", "2. Fashion-MNIST as the input of each pretext task", inputs_of_tasks(pretext, TRANSFERRED_TO)
        ),
        Section("transfer", "3. The same encoders on Fashion-MNIST, with refitted probes", list(_transfer(pretext))),
    ]
    patches = [Text(PATCHES), *inputs_as_chosen(case, TASK)]
    return [*gains, paragraph], [
        *bars,
        Section("patches", "4. Image, center patch and neighboring patch of VOC 2012", patches),
        Section("training", "5. Training of context prediction on VOC 2012", list(_training(case, cures))),
        Section("cause", "Why it did not converge", [Text(paragraph, "finding")]),
    ]


def _transfer(pretext: Part | None) -> Iterator[Block]:
    yield from probe_bars(pretext, TRANSFERRED_TO, REPORTED)
    yield Text(BANDS)
    if pretext:
        yield Folded("Every probe, with chance and the baselines", report_blocks(pretext, how_it_compares))


def _training(case: Part | None, cures: Part | None) -> Iterator[Block]:
    yield Heading("The run that did not converge")
    yield Text(_published())
    if case is None:
        yield Text("It has not been repeated yet.", "caveat")
    else:
        yield from report_blocks(case, did_it_converge)
        if found := refitted(case):
            yield Text(f"{pretraining_gain(case.findings, found[0])[0]} {ABOVE_CHANCE}", "finding")
        yield Folded("Its features, with chance and the baselines", report_blocks(case, how_it_compares))
    yield Heading("Its cures, one at a time and together")
    if cures is None or TASK not in queries.ablated_tasks(cures.findings):
        yield Text("They have not been tried yet.", "caveat")
        return
    yield Text(_circumstances(cures))
    yield from report_blocks(cures, what_each_did)
    if cures.probed:
        yield Folded("The same, measured by the probe", report_blocks(cures, what_each_did, "findings_by_probe"))
        untrained = report_blocks(cures, how_it_compares, "findings_by_probe")
        yield Folded("Its features, compared with untrained encoders", untrained)
    yield Folded("Verdicts and their evidence", report_blocks(cures, did_it_converge))


def _published() -> str:
    chance = math.log(DIRECTIONS) + math.log(CLASSES)
    values = ", ".join(f"{value:g}" for value in PUBLISHED_VALIDATION)
    return (
        f"The original shows one loss over six epochs: validation {values}; training ends at {PUBLISHED_TRAINING:g}. "
        f"It is the sum of two heads, {DIRECTIONS} directions and {CLASSES} classes, whose chance level is "
        f"ln {DIRECTIONS} + ln {CLASSES} = {chance:.3f}: training ends {PUBLISHED_TRAINING / chance - 1:.1%} above it. "
        "A plateau there is chance, not convergence, and a sum hides which head has learned nothing. Here each head "
        "has its own chance level."
    )


def _circumstances(cures: Part) -> str:
    base = queries.base_settings(cures.findings, TASK)
    info = cures.study.datasets[str(base["dataset"])]
    seeds = cures.findings.ablated["seed"].nunique()
    return (
        f"The same settings at {info['image_size']} px, which makes more steps affordable. The base takes "
        f"{count(base['budget_steps'])} steps of {count(base['batch_size'])} images; every cell has the same {seeds} "
        f"seeds. `n_images=all` is {count(info['counts']['pretext_train'])} photographs: the sample without those that "
        "are held out."
    )
