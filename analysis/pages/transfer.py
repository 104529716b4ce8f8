"""The page of a transfer matrix: probes of encoders on data sets other than the one they were trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from analysis.comparisons import BETTER, PRETRAINING_TEST
from analysis.data.classes import BALANCED, Levels, levels_of
from analysis.figures import transfer_map
from analysis.pages.parts import Part
from analysis.report import sentences
from analysis.report.blocks import Block, Gallery, Section, Table, Text
from analysis.report.pictures import Picture, call, picture
from analysis.report.words import count, effect, listed, number, signed

LINEAR = ("/linear", f"/{BALANCED}")
COLUMNS = ["task", "trained_on", "probed_on"]
CAVEAT = (
    "Each probe is fitted to the data set that it is tested on. Colors and answers compare with untrained encoders of "
    "the same shape and seeds: a high accuracy alone says more about the data set than about the pre-training."
)


def transfer_matrix(parts: Mapping[str, Part]) -> tuple[list[str], list[Section]]:
    """Return the summary and the sections of the page; each part is a study of one data set, probed on several."""
    frame = transfer_frame(*parts.values())
    title = "What transfers to what?"
    if frame.empty:
        missing = Text("Nothing has been evaluated on the test split yet.", "caveat")
        return [], [Section("transfer", title, [missing])]
    summary = [_best(own) for _, own in frame.groupby("probed_on", sort=False)]
    blocks: list[Block] = [Gallery(list(_maps(parts, frame))), _table(frame), Text(CAVEAT)]
    return summary, [Section("transfer", title, blocks)]


def transfer_frame(*parts: Part) -> pd.DataFrame:
    """Collect the test-split probes of several studies.

    Returns:
        One row per task, data set trained on and data set probed on: columns task, trained_on, probed_on, and those of
        `findings.against_untrained`, among them mean, baseline_mean (of untrained encoders with the same seeds),
        mean_difference, ci_low, ci_high, p_holm and answer; then the levels chance and largest_class.
    """
    rows = []
    for part in parts:
        found = part.findings.against_untrained
        own = found.loc[(found["design"] == PRETRAINING_TEST) & found["metric"].str.endswith(LINEAR)]
        runs = part.study.tested
        levels = pd.DataFrame([levels_of(runs, name) for name in own["metric"]], own.index, Levels._fields)
        probed = own["metric"].str.removeprefix("probe/").str.rsplit("/", n=1).str[0]
        rows.append(own.assign(trained_on=part.study.config["dataset"], probed_on=probed, **levels))
    frame = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=COLUMNS)
    return frame[[*COLUMNS, *(name for name in frame if name not in COLUMNS)]]


def _best(own: pd.DataFrame) -> str:
    """Return a sentence on the largest gain on one data set."""
    row = own.sort_values("mean_difference", ascending=False).iloc[0]
    numbers = f"{effect(row)}, {row['answer']}"
    largest = f"{row['task']} trained on {row['trained_on']}, {number(row['mean'])} ({numbers})."
    words = {"dataset": row["probed_on"], "untrained": number(row["baseline_mean"]), "largest": largest}
    return sentences.TRANSFER.say(own, n_better=int((own["answer"] == BETTER).sum()), n=len(own), **words)


def _maps(parts: Mapping[str, Part], frame: pd.DataFrame) -> Iterator[Picture]:
    shown = call(transfer_frame, *(part.shown() for part in parts.values()))
    for task in frame["task"].unique():
        own = frame.loc[frame["task"] == task]
        cells = listed(f"{row.trained_on} to {row.probed_on} {signed(row.mean_difference)}" for row in own.itertuples())
        alt = f"{task}: difference between the linear probe and untrained encoders, {cells}"
        yield picture(f"transfer-{task}", alt, transfer_map, shown.query(f"task == {task!r}"))


def _table(frame: pd.DataFrame) -> Table:
    rows = [
        [
            *(row["task"], row["trained_on"], row["probed_on"], row["answer"]),
            *(number(row["mean"]), number(row["baseline_mean"]), effect(row), count(row["n_seeds"])),
            *(number(row["chance"]), number(row["largest_class"])),
        ]
        for _, row in frame.iterrows()
    ]
    head = ["task", "trained on", "probed on", "answer", "mean", "untrained", "difference", "seeds"]
    caption = (
        "Test accuracy of a linear probe fitted to the data set it is tested on; balanced accuracy where classes are "
        "imbalanced, which has no level of the largest class."
    )
    return Table(caption, [*head, "chance", "largest class (test)"], rows, 4)
