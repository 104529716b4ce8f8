"""Leaks between splits: images of one group, and near duplicates, on the training and on a held-out side."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from trainables.data.groups import hold_out_groups, merged
from trainables.data.near_duplicates import near_duplicates
from trainables.data.table import ImageTable, Leaks, Splits
from trainables.errors import DataError

STOP, MOVE, ALLOW = "stop", "move", "allow"
LEAK = (STOP, MOVE, ALLOW)
MAX_ROUNDS = 20  # merging and deciding again stops here; images still linked then are counted as leaks
N_NAMED = 3  # pairs of files in a message
TRAINING, VALIDATION = "training", "validation"  # parts of a data set, in messages

logger = logging.getLogger(__name__)

NameOf = Callable[[ImageTable, int], str]  # file of a row of a table


def separated(table: ImageTable, held_out: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, int]:
    """Return the choice of held-out images after moving near duplicates to one side, and the number of moved images.

    Images without a near duplicate on the other side stay where they are. Linked images, and the groups that they are
    in, are decided again as one group by `hold_out_groups`.

    Args:
        table: All images.
        held_out: The choice so far, bool [N].
        fraction: Share of each class to hold out.
        seed: Seed of the order in which linked images are decided.
    """
    before, order = held_out, np.random.default_rng(np.random.SeedSequence([seed, 0x1EAC])).permutation(len(table))
    labels = labels_of(table)
    groups = np.arange(len(table)) if table.groups is None else table.groups
    for _ in range(MAX_ROUNDS):
        inside, outside = np.flatnonzero(held_out), np.flatnonzero(~held_out)
        pairs = _similar(table, table, (inside, outside))
        if not len(pairs):
            break
        groups = merged(groups, map(tuple, pairs))
        crossing = np.intersect1d(groups[held_out], groups[~held_out])
        held_out = hold_out_groups(labels, groups, fraction, order, held_out=held_out, undecided=crossing)
    return held_out, int((held_out != before).sum())


def without_leaks(table: ImageTable, held_out: Sequence[ImageTable], *, near: bool, part: str = TRAINING) -> ImageTable:
    """Return the table of a part without images of held-out groups and, if `near`, without near duplicates.

    Args:
        table: Images of the part.
        held_out: Tables that must share no group with them.
        near: Whether near duplicates of held-out images are left out, too.
        part: Name of the part, for messages.
    """
    kept = np.ones(len(table), bool)
    for other in held_out:
        if table.groups is not None and other.groups is not None:
            kept &= ~np.isin(table.groups, other.groups)
    if not kept.all():
        n = int((~kept).sum())
        logger.warning("%s: %d %s images are in groups that are also held out and are left out", table.name, n, part)
    if near:
        linked = np.zeros(len(table), bool)
        for other in held_out:
            linked[_similar(table, other)[:, 0]] = True
        if (n := int((linked & kept).sum())) > 0:
            logger.warning(
                "%s: %d %s images are near duplicates of held-out ones and are left out", table.name, n, part
            )
        kept &= ~linked
    return table if kept.all() else table.take(np.flatnonzero(kept))


def check_leaks(splits: Splits, policy: str, n_moved: int, name_of: NameOf) -> Leaks:
    """Return the near duplicates that the held-out splits have among the training images, after saying so.

    Args:
        splits: The five splits.
        policy: STOP, MOVE or ALLOW.
        n_moved: Number of images that were moved to keep near duplicates on one side.
        name_of: Function that names the file of a row of a table.

    Raises:
        DataError: There are near duplicates, and the policy is STOP.
    """
    train = splits.pretext_train
    found: dict[str, np.ndarray] = {}
    named: list[str] = []
    for part, table in (("test", splits.test), ("validation", splits.pretext_validation)):
        pairs = _similar(table, train)
        found[part] = np.zeros(len(table), bool)
        found[part][pairs[:, 0]] = True
        _, first = np.unique(pairs[:, 0], return_index=True)  # one pair per held-out image
        examples = pairs[first][:N_NAMED]
        named += [f"{name_of(table, row)} ({part}) and {name_of(train, other)}" for row, other in examples]
    leaks = Leaks(policy, found["test"], found["validation"], n_moved)
    if n_moved:
        logger.warning("%s: images moved to keep near duplicates on one side (leak: move): %d", train.name, n_moved)
    if leaks.found:
        parts = {part: mask for part, mask in found.items() if mask.size}
        counts = " and ".join(f"{mask.sum():,} of {mask.size:,} {part} images" for part, mask in parts.items())
        text = f"{train.name}: {counts} have near duplicates among the training images: {'; '.join(named[:N_NAMED])}"
        if policy == STOP:
            raise DataError(f"{text}. Remove one of each pair, or keep them on one side with leak: move")
        logger.warning("%s. Probes may do better on them than on new images (leak: move avoids it)", text)
    return leaks


def check_other_set(train: ImageTable, other: Splits, policy: str | None) -> None:
    """Warn of near duplicates that the held-out splits of another data set have among the training images of a study.

    Args:
        train: Images that the pretext tasks train on.
        other: Splits of a data set that the study probes but does not train on.
        policy: STOP, MOVE, ALLOW or None; only STOP makes a difference, since no image moves between data sets.

    Raises:
        DataError: There are near duplicates, and the policy is STOP.
    """
    parts = (("test", other.test), ("validation", other.pretext_validation))
    found = [(len(np.unique(_similar(table, train)[:, 0])), len(table), part) for part, table in parts]
    counts = " and ".join(f"{n:,} of {total:,} {part} images" for n, total, part in found if n)
    if not counts:
        return
    text = f"{other.name}: {counts} have near duplicates among the training images of {train.name}"
    if policy == STOP:
        raise DataError(f"{text}. Remove them from {train.name}, or leave {other.name} out of evaluate.datasets")
    logger.warning(
        "%s. Probes may do better on them than on new images; leak: move moves no image between data sets", text
    )


def labels_of(table: ImageTable) -> np.ndarray:
    """Return the labels of a table, int64 [N]; without labels, all images are of one class."""
    return np.zeros(len(table), np.int64) if table.labels is None else table.labels


def _similar(first: ImageTable, second: ImageTable, rows: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
    """Return the near duplicates of two tables, int64 [P, 2]; see `near_duplicates`."""
    return near_duplicates(first.images, second.images, hashes=(first.hashes, second.hashes), rows=rows)
