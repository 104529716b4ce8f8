"""Cells of an ablation: which ones are compared, a check for repeated seeds, and the grid of two settings."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.comparisons.selection import finished_values, require_columns
from analysis.data.baselines import are_baselines
from trainables.errors import UserError

EVERY_CELL = "every cell"  # name of the design if none is given
KEY = ["task", "design", "cell", "baseline"]
COMPARISON = ["task", "cell", "baseline"]  # what identifies a comparison: designs may share it


def planned_comparisons(runs: pd.DataFrame, baseline: str, designs: pd.DataFrame | None) -> pd.DataFrame:
    """Return every comparison once: task, design, cell, baseline.

    Args:
        runs: Runs of the ablation.
        baseline: If `designs` is None, the cell that all other cells of a task are compared with, as one design named
            EVERY_CELL.
        designs: Columns task, design, cell, baseline. Rows that are their own baseline or have none, and tasks that are
            not in `runs`, are skipped.

    Raises:
        UserError: If a cell ran but its baseline did not. It is not an error if neither has run yet.
    """
    present = runs[["task", "cell"]].drop_duplicates()
    if designs is None:
        present = present.loc[~are_baselines(present["task"])]
        every = present.assign(design=EVERY_CELL, baseline=baseline)
    else:
        has_baseline = designs["baseline"].notna() & (designs["baseline"] != "")  # CSV has no empty text
        every = designs.loc[has_baseline & designs["task"].isin(present["task"])]
    wanted = every.merge(present, on=["task", "cell"])[["task", "baseline"]]
    missing = wanted.merge(present.rename(columns={"cell": "baseline"}), how="left", indicator=True)
    missing = missing.loc[missing["_merge"] == "left_only"]
    if len(missing):
        task, name = missing[["task", "baseline"]].iloc[0]
        cells = ", ".join(repr(cell) for cell in present.loc[present["task"] == task, "cell"])
        raise UserError(f"{task}: no run of the baseline {name!r}; there are the cells {cells}")
    return every.loc[every["cell"] != every["baseline"], KEY].drop_duplicates(ignore_index=True)


def check_one_run_per_seed(runs: pd.DataFrame, by: Sequence[str]) -> None:
    """Raise UserError if two runs share the columns `by` and the seed: they would not be independent."""
    again = runs.loc[runs.duplicated([*by, "seed"])]
    if len(again):
        named = ", ".join(f"{name} {again[name].tolist()[0]!r}" for name in by)
        raise UserError(
            f"two runs of {named}, seed {again['seed'].iloc[0]}; keep one phase, study and design, for example "
            "runs[runs.phase == 'ablate'], or group by what distinguishes these runs"
        )


def grid(
    frame: pd.DataFrame,
    value: str,
    rows: str = "n_images",
    columns: str = "augmentation_strength",
    *,
    all_images: int | None = None,
    aggregate: str = "mean",
) -> pd.DataFrame:
    """Return the table behind a heat map: `value` for each pair of `rows` and `columns`, both in ascending order.

    Args:
        frame: Runs of one task, or what `convergence_rates` returns by (rows, columns).
        value: Column to show.
        rows: Column whose values become the rows.
        columns: Column whose values become the columns.
        all_images: Number of images that a missing n_images means; without it that row or column is named "all".
        aggregate: How seeds are aggregated, skipping trials that did not finish or have no finite value; "count"
            returns the number of seeds left.

    Raises:
        UserError: If a column is missing, there are several tasks, or one field would mix trials that differ in more
            than their seed; keep the cells of one design.
    """
    require_columns(frame, [rows, columns, value], "the frame")
    if "task" in frame and frame["task"].nunique() > 1:
        raise UserError(f"a grid shows one task, these are {', '.join(frame['task'].unique())}; pass runs of one")
    cells = frame.assign(**{value: finished_values(frame, value)})
    if "n_images" in (rows, columns):
        sizes = cells["n_images"]
        cells["n_images"] = sizes.astype(object).where(sizes.notna(), "all" if all_images is None else all_images)
    check_one_run_per_seed(cells.assign(seed=cells.get("seed", 0)), [rows, columns])
    table = cells.pivot_table(value, rows, columns, aggfunc=aggregate, dropna=False, sort=False)
    return _ascending(_ascending(table).T).T


def _ascending(table: pd.DataFrame) -> pd.DataFrame:
    """Sort the index by value, with the name "all" at its end."""
    return table.loc[sorted(table.index, key=lambda label: (isinstance(label, str), label))]
