"""Numbers, intervals and verdicts as words of a sentence."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import pandas as pd

from analysis.comparisons import EQUIVALENT, TOO_FEW
from analysis.convergence import CATALOG
from analysis.data.classes import levels_of
from analysis.data.tables import split_note
from analysis.findings.queries import CellConvergence

NONE = "–"
MINUS = "−"
PROBES = {
    "linear": "linear probe",
    "knn": "kNN probe",
    "linear_balanced_accuracy": "balanced accuracy of the linear probe",
    "linear_macro_f1": "macro-F1 of the linear probe",
    "knn_balanced_accuracy": "balanced accuracy of the kNN probe",
    "knn_macro_f1": "macro-F1 of the kNN probe",
    "miou": "segmentation probe (mIoU)",
    "few_labels": "accuracy from few labels",
}


def number(value: float | None, digits: int = 3) -> str:
    """Format a number with `digits` decimals; a dash for a missing one."""
    return NONE if value is None or pd.isna(value) else f"{value:.{digits}f}".replace("-", MINUS)


def points(value: float, *, sign: bool = False) -> str:
    """Format a share in percent, with one decimal: `7.4`, or `+7.4` with its sign."""
    return f"{100 * value:{'+' if sign else ''}.1f}".replace("-", MINUS)


def in_points(margin: float) -> str:
    """Return a margin in points of percent: `0.25 points`."""
    said = f"{100 * margin:g}"
    return f"{said} point" if said == "1" else f"{said} points"


def signed(value: float | None) -> str:
    """Format a difference with its sign."""
    return NONE if value is None or pd.isna(value) else f"{value:+.3f}".replace("-", MINUS)


def count(n: float) -> str:
    """Format a whole number with thousands separators."""
    return f"{n:,.0f}"


def counted(n: float, noun: str) -> str:
    """Return `1 seed`, `2 seeds`."""
    return f"{count(n)} {noun}" if n == 1 else f"{count(n)} {noun}s"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Return `[low, high]`; empty for a missing interval."""
    return "" if pd.isna(low) or pd.isna(high) else f"[{number(low, digits)}, {number(high, digits)}]"


def p_value(p: float, name: str = "p") -> str:
    """Return `p = 0.012`, or `p < 0.001`."""
    return f"{name} < 0.001" if p < 0.001 else f"{name} = {p:.3f}"


def listed(names: Iterable[str]) -> str:
    """Return `a, b and c`."""
    *others, last = list(names) or [""]
    return f"{', '.join(others)} and {last}" if others else last


def quoted(name: Any) -> str:
    """Return a name as code."""
    return f"`{name}`"


def guessing(runs: pd.DataFrame, columns: Iterable[str], split: str) -> str:
    """Return a sentence, after a space, with the levels of guessing for each metric; empty if none is known.

    Args:
        runs: Runs of one split.
        columns: Metrics, as for `levels_of`.
        split: The split, for the sentence.
    """
    said = []
    for column in dict.fromkeys(columns):
        chance, largest = levels_of(runs, column)
        parts = [f"chance {number(chance)}"] if not pd.isna(chance) else []
        parts += [f"largest class {number(largest)} of the {split} images"] if not pd.isna(largest) else []
        said += [f"{metric_words(column)}, {' and '.join(parts)}"] if parts else []
    return f" Scores of guessing: {'; '.join(said)}." if said else ""


def metric_words(column: str) -> str:
    """Return the name of a metric column of `runs`: `linear probe on shapes`, or the metric's own name."""
    parts = column.split("/")
    if len(parts) >= 3 and parts[0] == "probe" and parts[-1] in PROBES:
        return f"{PROBES[parts[-1]]} on {'/'.join(parts[1:-1])}"
    return column.removeprefix("last/")


def measured(row: pd.Series) -> str:
    """Return the metric of a comparison and the split of its means: `linear probe on shapes (validation split)`."""
    return metric_words(row["metric"]) + split_note(row["metric"], row["split"])


def within(margin: float | None) -> str:
    """Return the margin of equivalence, `±0.01`."""
    return "no margin" if margin is None else f"±{margin:g}"


def difference(row: pd.Series) -> str:
    """Return a comparison's difference, with its interval if it has one: `+0.061 [0.043, 0.080]`."""
    return f"{signed(row['mean_difference'])} {interval(row['ci_low'], row['ci_high'])}".strip()


def picked_interval(row: pd.Series) -> tuple[float, float, str]:
    """Return the interval of a change that was picked as the largest, and what it is adjusted for.

    The largest of several differences is likely to be one that luck made larger: with 20 changes, its interval for one
    comparison covers the true difference in 75% of studies. The interval that holds for all changes of the task at once
    covers it, whichever is picked. Without other changes both are the same, and nothing is adjusted.
    """
    low, high = row["picked_low"], row["picked_high"]
    return low, high, "" if low == row["ci_low"] else "adjusted for the number of changes"


def answered(effects: pd.DataFrame, key: Hashable) -> str:
    """Return a comparison's answer, `better, +0.061 [0.043, 0.080]`; NONE if `effects` has no row `key`."""
    if key not in effects.index:
        return NONE
    row = effects.loc[key]
    return f"{row['answer']}, {difference(row)}"


def effect(row: pd.Series, *, picked: bool = False) -> str:
    """Return a comparison's numbers: `+0.061 [0.043, 0.080], 5 seeds, Holm p = 0.001`.

    Args:
        row: The comparison.
        picked: Whether it was picked as the largest of its task, which widens its interval.
    """
    seeds = counted(row["n_seeds"], "seed")
    if row["answer"] == TOO_FEW:
        return f"{signed(row['mean_difference'])}, {seeds}: too few to test" if row["n_seeds"] else "no seed has both"
    p = row["p_equivalence_holm"] if row["answer"] == EQUIVALENT else row["p_holm"]
    what = "Holm p of equivalence" if row["answer"] == EQUIVALENT else "Holm p"
    numbers = difference(row)
    if picked and not pd.isna(row["ci_low"]):
        low, high, adjusted = picked_interval(row)
        numbers = f"{signed(row['mean_difference'])} {interval(low, high)}{f' ({adjusted})' if adjusted else ''}"
    return ", ".join(filter(None, [numbers, seeds, row["note"] if pd.isna(p) else p_value(p, what)]))


def converged_count(rate: pd.Series) -> str:
    """Return how many seeds of a cell converged: `2 of 5`, or `2 of 5, 1 undecided`."""
    undecided = f", {rate['n_undecided']} undecided" if rate["n_undecided"] else ""
    return f"{rate['n_converged']} of {rate['n_seeds']}{undecided}"


def ending(found: CellConvergence) -> str:
    """Return how the trials of a cell ended: `overfits (4 of 5 seeds; 1 converged)`."""
    return f"{CATALOG[found.verdict].verb} ({each_seed(found)})"


def each_seed(found: CellConvergence) -> str:
    """Return how many seeds of a cell have its verdict by themselves, and how many another: `4 of 5 seeds; 1 failed`.

    The verdict is on all seeds together; none may have it by itself.
    """
    others = [f"{n} {CATALOG[name].label}" for name, n in found.others.items()]
    seeds = counted(found.n_trials, "seed")
    if not found.count:
        return f"{seeds} together; each alone: {', '.join(others)}"
    return "; ".join([f"{found.count} of {seeds}", *others])


def first_clause(evidence: str) -> str:
    """Return an evidence sentence up to its first colon or semicolon: the observation without the threshold."""
    ends = [place for mark in (": ", "; ") if (place := evidence.find(mark)) > 0]
    return evidence[: min(ends)] if ends else evidence


def circumstances(settings: dict[str, Any], changes: dict[str, tuple[Any, Any]]) -> str:
    """Return the settings of an ablation's base in words: `on 200 images without augmentation`.

    Args:
        settings: Settings of the base.
        changes: {name: (chosen, base)} for each setting that differs from the chosen configuration.
    """
    if not settings:
        return ""
    images = settings.get("n_images")
    strength = settings.get("augmentation_strength", 0)
    has_policy = any(name.startswith("augmentation/") for name in settings)
    words = ["on all images" if images is None else f"on {count(images)} images"]
    words.append(f"at augmentation strength {strength:g}" if strength and has_policy else "without augmentation")
    named = ("n_images", "augmentation_strength")
    rest = [f"{name}={setting(base)}" for name, (_, base) in changes.items() if name not in named and base is not None]
    return " ".join([*words, *([f"with {quoted(', '.join(rest))}"] if rest else [])])


def setting(value: Any) -> str:
    """Return a setting's value as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def p_cell(p: float) -> str:
    """Return a p-value as a cell of a table."""
    return NONE if pd.isna(p) else p_value(p).removeprefix("p ").removeprefix("= ")
