"""Cells of an ablation: what each is compared with, and that it holds one run a seed."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from trainables.errors import UserError
from trainables.trial import BASELINES

EVERY_CELL = "every cell"  # the design where none was named
KEY = ["task", "design", "cell", "baseline"]


def comparisons(runs: pd.DataFrame, baseline: str, designs: pd.DataFrame | None) -> pd.DataFrame:
    """Return task, design, cell, baseline of every comparison, each once.

    designs: passed over are rows that are their own baseline or have none, and tasks that are not in `runs`. None:
        every other cell of a task against `baseline`, one design named EVERY_CELL.
    Raises UserError where a cell was run and its baseline was not. Where neither was, the study has not come that far.
    """
    present = runs.loc[~runs["task"].isin(BASELINES), ["task", "cell"]].drop_duplicates()
    if designs is None:
        every = present.assign(design=EVERY_CELL, baseline=baseline)
    else:
        every = designs.loc[(designs["baseline"] != "") & designs["task"].isin(present["task"])]
    wanted = every.merge(present, on=["task", "cell"])[["task", "baseline"]]
    missing = wanted.merge(present.rename(columns={"cell": "baseline"}), how="left", indicator=True)
    missing = missing.loc[missing["_merge"] == "left_only"]
    if len(missing):
        task, name = missing[["task", "baseline"]].iloc[0]
        cells = ", ".join(repr(cell) for cell in present.loc[present["task"] == task, "cell"])
        raise UserError(f"{task}: no run of the baseline {name!r}; there are the cells {cells}")
    return every.loc[every["cell"] != every["baseline"], KEY].drop_duplicates(ignore_index=True)


def check_one_run_a_seed(runs: pd.DataFrame, by: Sequence[str]) -> None:
    """Raise UserError where two runs share the columns `by` and the seed: neither a pair nor independent."""
    again = runs.loc[runs.duplicated([*by, "seed"])]
    if len(again):
        named = ", ".join(f"{name} {again[name].tolist()[0]!r}" for name in by)
        raise UserError(
            f"two runs of {named}, seed {again['seed'].iloc[0]}; keep one phase, study and design, for example "
            "runs[runs.phase == 'ablate'], or group by what tells these runs apart"
        )
