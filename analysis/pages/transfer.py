"""The page of a transfer matrix: what encoders trained on one data set are worth on the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from analysis.comparisons.compare import PRETRAINING_TEST
from analysis.comparisons.effects import BETTER
from analysis.figures import transfer_map
from analysis.pages.parts import Part
from analysis.report.blocks import Block, Gallery, Section, Table, Text
from analysis.report.pictures import Picture, call, picture
from analysis.report.words import count, effect, listed, number, signed

COLUMNS = ["task", "trained_on", "probed_on"]


def transfer_matrix(parts: Mapping[str, Part]) -> tuple[list[str], list[Section]]:
    """Return the page's summary and sections. Each part is a study of one data set, probed on several."""
    frame = transfer_frame(*parts.values())
    if frame.empty:
        missing: list[Block] = [Text("Nothing has been evaluated on the test split yet.", "caveat")]
        return [], [Section("transfer", "What transfers to what?", missing)]
    summary = [_best(own) for _, own in frame.groupby("probed_on", sort=False)]
    blocks: list[Block] = [Gallery(list(_maps(parts, frame))), _table(frame)]
    blocks.append(
        Text(
            "Every probe is refitted on the data set it is judged on. The colors and answers are against untrained "
            "encoders of the same shape and seeds; that an accuracy is high says more of the data set than of the "
            "pre-training."
        )
    )
    return summary, [Section("transfer", "What transfers to what?", blocks)]


def transfer_frame(*parts: Part) -> pd.DataFrame:
    """Return one row for each task, data set trained on and data set probed on, all on the test split.

    Columns task, trained_on, probed_on, and those of `findings.against_untrained`, among them mean, baseline_mean (of
    untrained encoders of the same seeds), mean_difference, ci_low, ci_high, p_holm and answer.
    """
    rows = []
    for part in parts:
        found = part.found.against_untrained
        own = found.loc[(found["design"] == PRETRAINING_TEST) & found["metric"].str.endswith("/linear")]
        probed = own["metric"].str.removeprefix("probe/").str.removesuffix("/linear")
        rows.append(own.assign(trained_on=part.study.config["dataset"], probed_on=probed))
    frame = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=COLUMNS)
    return frame[[*COLUMNS, *(name for name in frame if name not in COLUMNS)]]


def _best(own: pd.DataFrame) -> str:
    """Return the row of the largest difference on one data set, in a sentence."""
    row = own.sort_values("mean_difference", ascending=False).iloc[0]
    helped = int((own["answer"] == BETTER).sum())
    best = f"{row['task']} trained on {row['trained_on']}, {number(row['mean'])} ({effect(row)}, {row['answer']})"
    return (
        f"**On {row['probed_on']}** an untrained encoder scores {number(row['baseline_mean'])}; {helped} of {len(own)} "
        f"pre-trained ones are shown to be better, and the largest difference is that of {best}."
    )


def _maps(parts: Mapping[str, Part], frame: pd.DataFrame) -> Iterator[Picture]:
    shown = call(transfer_frame, *(part.shown() for part in parts.values()))
    for task in frame["task"].unique():
        own = frame.loc[frame["task"] == task]
        told = listed(f"{row.trained_on} to {row.probed_on} {signed(row.mean_difference)}" for row in own.itertuples())
        alt = f"{task}: difference of the linear probe from random init, {told}"
        yield picture(f"transfer-{task}", alt, transfer_map, shown.query(f"task == {task!r}"))


def _table(frame: pd.DataFrame) -> Table:
    rows = [
        [
            *(row["task"], row["trained_on"], row["probed_on"], row["answer"]),
            *(number(row["mean"]), number(row["baseline_mean"]), effect(row), count(row["n_seeds"])),
        ]
        for _, row in frame.iterrows()
    ]
    head = ["task", "trained on", "probed on", "answer", "mean", "untrained", "difference", "seeds"]
    return Table("Linear probe on the test split, refitted on the data set probed on.", head, rows, 4)
