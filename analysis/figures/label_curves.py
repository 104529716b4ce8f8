"""Few labels: accuracy by number of labeled images, for frozen features, fine-tuning and supervised training."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis.comparisons import label_results
from analysis.comparisons.few_labels import FROZEN, SUPERVISED, TUNED, labels_word
from analysis.data.tables import split_note, split_of
from analysis.figures.style import COLORS, axes, finish, level_lines, listed
from trainables.errors import UserError
from trainables.trial import RANDOM_INIT, RAW_PIXELS

UNTRAINED, PIXELS = "frozen, untrained", "raw pixels"
STYLES: dict[str, tuple[Any, str, str]] = {  # line, marker, color
    TUNED: ("-", "o", COLORS[0]),
    FROZEN: ("--", "s", COLORS[1]),
    SUPERVISED: ("-.", "^", "0.15"),
    UNTRAINED: (":", "D", "0.4"),
    PIXELS: ((0, (1, 3)), "P", "0.6"),
}
_BASELINES = {(RANDOM_INIT, TUNED): SUPERVISED, (RANDOM_INIT, FROZEN): UNTRAINED, (RAW_PIXELS, FROZEN): PIXELS}


def label_curves(runs: pd.DataFrame, dataset: str, task: str, ax: Axes | None = None) -> Axes:
    """Draw a task's accuracy on `dataset`, balanced if its classes are imbalanced, against labeled images per class.

    A line is the mean over seeds of one method, and open markers are seeds. Lines for comparison: supervised training
    from scratch, frozen features of an untrained encoder, raw pixels, chance and the share of the largest class. The
    numbers of labels are evenly spaced.

    Args:
        runs: Runs of one probe split and one configuration per task.
        dataset: Data set of the labels.
        task: The pretext task.
        ax: Axes to draw on; None creates a figure.

    Raises:
        UserError: If the runs have no such results.
    """
    every = label_results(runs)
    results = every.loc[(every["dataset"] == dataset) & every["task"].isin([task, RANDOM_INIT, RAW_PIXELS])]
    if task not in set(results["task"]):
        known = listed(every["dataset"].unique())
        raise UserError(
            f"no few-label results of {task} on {dataset!r} in these runs (data sets with them: {known}); set "
            "evaluate.labels_per_class"
        )
    ax = axes(ax)
    names = [labels_word(labels) for labels in results["labels"]]
    places = list(dict.fromkeys(names))
    ways = [_BASELINES.get(pair, pair[1]) for pair in zip(results["task"], results["way"], strict=True)]
    drawn = results.assign(place=[places.index(name) for name in names], way=ways)
    for name, (line, marker, color) in STYLES.items():
        own = drawn.loc[drawn["way"] == name]
        if own.empty:
            continue
        means = own.groupby("place")["value"].mean()
        ax.plot(means.index, means, linestyle=line, marker=marker, color=color, label=name)
        ax.scatter(own["place"], own["value"], marker=marker, s=22, facecolors="none", edgecolors=color)
    average = "_balanced_accuracy" if results["balanced"].any() else ""
    level_lines(ax, runs, f"probe/{dataset}/linear{average}")
    ax.set_xticks(range(len(places)), places)
    name = next(name for name in runs if name.startswith(f"probe/{dataset}/") and name.endswith("_labels"))
    title = f"{task} on {dataset}{split_note(name, split_of(runs, name))}"
    return finish(ax, "labeled images per class", average.removeprefix("_") or "accuracy", title)
