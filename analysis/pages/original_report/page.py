"""The original report, figure by figure: what it drew, with chance and untrained encoders beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from analysis.comparisons.compare import PRETRAINING_TEST
from analysis.comparisons.effects import BETTER
from analysis.figures import accuracy_bars, what_a_task_sees
from analysis.findings import queries
from analysis.pages.original_report.cause import cause
from analysis.pages.original_report.training import TASK, training
from analysis.pages.parts import N_SHOWN, Part, chosen_task, images_of
from analysis.report.blocks import Block, Gallery, Section, Table, Text
from analysis.report.pictures import Picture, call, picture
from analysis.report.words import NONE, effect, listed, number
from trainables.errors import UserError
from trainables.trial import RAW_PIXELS

PRETEXT, CASE, CURES = "pretext", "case", "cures"  # the parts
TRAINED_ON, TRANSFERRED_TO = "cifar10", "fashion_mnist"
# The bars of the original's Fashion-MNIST figure, read off it: the chance levels of ten classes.
REPORTED = {TRANSFERRED_TO: ((0.09, 0.11), (0.42, 0.51))}


def original_report(parts: Mapping[str, Part]) -> tuple[list[str], list[Section]]:
    """Return the page's summary and its sections, in the order of the original's figures."""
    pretext, case, cures = (parts.get(name) for name in (PRETEXT, CASE, CURES))
    paragraph = cause(case, cures) if case and cures else "**Not known yet**: the case and its cures have not run."
    summary = [*(told for dataset in (TRAINED_ON, TRANSFERRED_TO) if (told := _standing(pretext, dataset))), paragraph]
    sections = [
        Section(
            "pretext-accuracy", "1. Pretext tasks on CIFAR-10, frozen linear probe", _accuracy(pretext, TRAINED_ON)
        ),
        Section("as-seen", "2. Fashion-MNIST as each task sees it", _as_seen(pretext)),
        Section("transfer", "3. The same encoders on Fashion-MNIST", _accuracy(pretext, TRANSFERRED_TO)),
        Section("patches", "4. Image, center patch and neighboring patch, VOC 2012", _patches(case)),
        Section("training", "5. Training of context prediction on VOC 2012", list(training(case, cures))),
        Section("cause", "What the cause was", [Text(paragraph, "finding")]),
    ]
    return summary, sections


def _accuracy(part: Part | None, dataset: str) -> list[Block]:
    """Return the bars of one data set and the numbers behind them."""
    if part is None or f"probe/{dataset}/linear" not in part.study.runs:
        return [Text(f"The encoders have not been probed on {dataset} yet.", "caveat")]
    runs = part.shown("study", "runs").query("probe_split == 'test'")
    where = f"design == {PRETRAINING_TEST!r} and metric == 'probe/{dataset}/linear'"
    compared = part.shown("found", "against_untrained").query(where)
    told = _standing(part, dataset)
    drawn = picture(
        *(f"bars-{dataset}", told.replace("*", ""), accuracy_bars, runs, dataset),
        compared=compared,
        reported=REPORTED.get(dataset, ()),
    )
    blocks: list[Block] = [Text(told, "finding"), Gallery([drawn]), _numbers(part, dataset)]
    if dataset in REPORTED:
        bands = listed(f"{low:.0%} to {high:.0%}" for low, high in REPORTED[dataset])
        blocks.append(
            Text(
                f"The original's bars here, {bands} for top-1 and top-5, are drawn as gray bands: they stand at "
                "chance, 10 % and 50 % of ten classes. They are of a probe that was never fitted to these images, on "
                "an encoder whose checkpoint was not found, and say nothing of any pretext task."
            )
        )
    return blocks


def _numbers(part: Part, dataset: str) -> Table:
    runs = part.study.runs.query("probe_split == 'test'")
    endings = ("linear_train", "linear", "linear_train_top5", "linear_top5")
    columns = [name for ending in endings if (name := f"probe/{dataset}/{ending}") in runs]
    compared = part.found.against_untrained.set_index(["task", "metric"])
    rows = []
    for task, own in runs.groupby("task", sort=False):
        key = (task, f"probe/{dataset}/linear")
        told = effect(compared.loc[key]) if key in compared.index else NONE
        answer = compared.loc[key, "answer"] if key in compared.index else NONE
        rows.append([str(task), str(answer), told, *(number(own[name].mean()) for name in columns)])
    chance = f"probe/{dataset}/chance"
    if chance in runs and runs[chance].notna().any():
        level = float(runs[chance].dropna().iloc[0])
        levels = {name: min(1.0, 5 * level) if name.endswith("top5") else level for name in columns}
        rows.append(["chance", NONE, NONE, *(number(value) for value in levels.values())])
    head = ["encoder", "against untrained", "difference in top-1, test", *(_heading(name) for name in columns)]
    return Table(f"Linear probe refitted on {dataset}, means of seeds; train is what it was fitted to.", head, rows, 3)


def _heading(column: str) -> str:
    ending = column.rsplit("/", 1)[-1]
    return f"{'top-5' if ending.endswith('top5') else 'top-1'}, {'train' if 'train' in ending else 'test'}"


def _standing(part: Part | None, dataset: str) -> str:
    """Return which tasks beat an untrained encoder on a data set, in a sentence; empty where that is not known."""
    if part is None:
        return ""
    known = {
        task: found
        for task in queries.tasks(part.found)
        if (found := queries.against_untrained(part.found, task, dataset)) is not None
    }
    if not known:
        return ""
    first = next(iter(known.values())).row
    beside = f"random init ({number(first['baseline_mean'])}{_pixels(part, dataset)})"
    better = [task for task, found in known.items() if found.row["answer"] == BETTER]
    told = [f"{task} {number(known[task].row['mean'])}, {effect(known[task].row)}" for task in better]
    others = (task for task in known if task not in better)
    rest = [f"{task} {number(known[task].row['mean'])}, {known[task].row['answer']}" for task in others]
    title = f"**{dataset}, top-1 on test: {len(better)} of {len(known)} tasks are shown to beat {beside}**"
    return f"{title}: {'; '.join([*told, *rest])}."


def _pixels(part: Part, dataset: str) -> str:
    own = part.study.runs.query("probe_split == 'test' and task == @RAW_PIXELS", local_dict={"RAW_PIXELS": RAW_PIXELS})
    return f"; raw pixels {number(own[f'probe/{dataset}/linear'].mean())}" if len(own) else ""


def _as_seen(part: Part | None) -> list[Block]:
    if part is None:
        return [Text("The tasks have not run yet.", "caveat")]
    try:
        images = call(images_of, part.shown(), TRANSFERRED_TO)
    except UserError as error:
        return [Text(f"No images to show: {error}.", "caveat")]
    told = f"28 x 28 gray becomes {images.value.image_size} x {images.value.image_size} RGB by a border of zeros."
    return [Text(f"{told} Each task draws these itself."), Gallery(list(_views(part, images)))]


def _views(part: Part, images: object) -> Iterator[Picture]:
    for task in queries.tasks(part.found):
        alt = f"What {task} makes of {N_SHOWN} images of {TRANSFERRED_TO}"
        yield picture(f"{TRANSFERRED_TO}-{task}", alt, what_a_task_sees, task, images, n_shown=N_SHOWN)


def _patches(case: Part | None) -> list[Block]:
    if case is None:
        return [Text("The case has not run yet.", "caveat")]
    try:
        images = call(images_of, case.shown(), str(case.study.config["dataset"]))
        task = call(chosen_task, case.shown(), TASK)
    except UserError as error:
        return [Text(f"No images to show: {error}.", "caveat")]
    network = task.value
    told = (
        f"As in the original: squashed to {network.image_size} px, a fixed 3x3 grid of {network.patch} px with a gap "
        f"of {network.spacing} px, no jitter, one pair an image. Photographs pass to the network in [0, 1], scaled "
        "once; scaled twice in uint8, the original's patches were negatives."
    )
    alt = f"{N_SHOWN} photographs, each with its center patch and one neighbor, and the neighbor's direction"
    drawn = picture("patches", alt, what_a_task_sees, task, images, n_shown=N_SHOWN, augmentation={})
    return [Text(told), Gallery([drawn])]
