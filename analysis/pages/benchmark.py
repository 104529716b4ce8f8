"""The page of the small-data benchmark: each task at each number of images and strength, in every study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from analysis.comparisons import BASE, BETTER, PRETRAINING, TOO_FEW, WORSE
from analysis.figures import size_gains
from analysis.pages.parts import Part
from analysis.report import sentences
from analysis.report.blocks import Block, Folded, Gallery, Heading, Section, Table, Text
from analysis.report.pictures import Picture, call, picture
from analysis.report.words import NONE, count, difference, listed, number, signed

TITLE = "What does each task learn from few images?"
KEYS = ["task", "n_images", "augmentation_strength"]
HOW = (
    "A seed draws the images, the weights and the order. Each cell is compared with the untrained networks of the same "
    "seeds, by the final probe. The verdict is the one on the mean curve of the cell."
)


def benchmark(parts: Mapping[str, Part]) -> tuple[list[str], list[Section]]:
    """Return the summary and the sections of the page; each part is a study of one data set."""
    frames = {name: frame for name, part in parts.items() if len(frame := benchmark_frame(part))}
    if not frames:
        return [], [Section("benchmark", TITLE, [Text("No cell has been trained and probed yet.", "caveat")])]
    blocks: list[Block] = [Text(HOW)]
    for name, frame in frames.items():
        pictures = Gallery(list(_pictures(parts[name])))
        blocks += [Heading(name), pictures, Folded(f"The {len(frame)} cells of {name}", [_table(name, frame)])]
    return [_count(name, frame) for name, frame in frames.items()], [Section("benchmark", TITLE, blocks)]


def benchmark_frame(part: Part) -> pd.DataFrame:
    """Collect the ablated cells of a study that differ in nothing but the number of images and the strength.

    Returns:
        One row per task, n_images and augmentation_strength, in this order: these columns, those of
        `findings.against_untrained`, and the cell's verdict, missing with fewer than two seeds.
    """
    findings = part.findings_by_probe if part.probed else part.findings  # photographs have no labels of their own
    compared = findings.against_untrained.loc[findings.against_untrained["design"] == PRETRAINING]
    ablated = findings.ablated
    if compared.empty or ablated.empty:
        return pd.DataFrame(columns=[*KEYS, "cell", "verdict"])
    settings = ablated.loc[ablated["cell"].map(_varies_keys_alone), ["cell", *KEYS]].drop_duplicates(["task", "cell"])
    verdicts = findings.cell_verdicts.query("phase == 'ablate'")[["task", "cell", "verdict"]]
    frame = compared.merge(settings, on=["task", "cell"]).merge(verdicts, on=["task", "cell"], how="left")
    return frame.sort_values(KEYS, ignore_index=True)


def _varies_keys_alone(cell: str) -> bool:
    """Return whether a cell's name lists no change but those of KEYS; cells of other designs do."""
    return cell == BASE or all(change.partition("=")[0] in KEYS for change in cell.split(", "))


def _pictures(part: Part) -> Iterator[Picture]:
    # Cells of all images have no place on the axis.
    shown = call(benchmark_frame, part.shown()).query("n_images.notna()")
    for task, own in shown.value.groupby("task"):
        cells = listed(
            f"{count(row.n_images)} images at strength {row.augmentation_strength:g} {signed(row.mean_difference)}"
            for row in own.itertuples()
        )
        yield picture(
            f"{part.name}-{task}",
            f"{task}: difference of {own['metric'].iloc[0]} from untrained networks, {cells}",
            size_gains,
            shown,
            task,
            caption="Above the line at 0: a higher mean than untrained networks. Filled: shown to be better or worse.",
        )


def _table(name: str, frame: pd.DataFrame) -> Table:
    rows = [
        [
            *(row["task"], row["answer"], NONE if pd.isna(row["verdict"]) else row["verdict"]),
            *(count(row["n_images"]) if pd.notna(row["n_images"]) else "all", f"{row['augmentation_strength']:g}"),
            *(number(row["mean"]), number(row["baseline_mean"]), difference(row), count(row["n_seeds"])),
        ]
        for _, row in frame.iterrows()
    ]
    head = [
        *("task", "compared with untrained", "verdict", "images", "strength"),
        *("mean", "untrained", "difference", "seeds"),
    ]
    return Table(f"{name}: {frame['metric'].iloc[0]}", head, rows, 3)


def _count(name: str, frame: pd.DataFrame) -> str:
    """Return how many cells of a study are better or worse than untrained networks."""
    n_better, n_worse, n_untested = (int((frame["answer"] == each).sum()) for each in (BETTER, WORSE, TOO_FEW))
    untested = f"; {n_untested} have too few seeds to test" if n_untested else ""
    return sentences.BENCHMARK.say(
        frame, study=name, n=len(frame), n_better=n_better, n_worse=n_worse, untested=untested
    )
