"""Choice of held-out images that keeps groups together: every plate, patient or near duplicate is on one side."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def hold_out_groups(
    labels: np.ndarray,
    groups: np.ndarray,
    fraction: float,
    order: np.ndarray,
    *,
    held_out: np.ndarray | None = None,
    undecided: np.ndarray | None = None,
) -> np.ndarray:
    """Choose whole groups so that about a fraction of each class is held out.

    Groups are visited in a given order. A group is held out if that brings the classes closer to the fraction and
    leaves an image of each of them. Then each class without a held-out image gives its smallest group, if it has
    another one: a class that is in one group only is never held out.

    Args:
        labels: Class of each image, int64 [N].
        groups: Id of each image's group, int64 [N].
        fraction: Share of each class to hold out, in (0, 1).
        order: Permutation of the N images, int64 [N]; a group is visited at its first image.
        held_out: An earlier choice, bool [N], that stays as it is outside of `undecided`; None for no choice.
        undecided: Ids of the groups to decide, int64 [G]; None for all.

    Returns:
        The held-out images, bool [N].
    """
    ids, member = np.unique(groups, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(ids), len(classes)), np.int64)
    np.add.at(counts, (member, label), 1)
    _, first = np.unique(member[order], return_index=True)
    is_free = np.ones(len(ids), bool) if undecided is None else np.isin(ids, undecided)
    visited = [int(group) for group in np.argsort(first) if is_free[group]]

    chosen = np.zeros(len(ids), bool)
    if held_out is not None:
        chosen[member[held_out]] = True
        chosen[is_free] = False
    _approach(counts, fraction * counts.sum(axis=0), visited, chosen)
    _cover_classes(counts, visited, chosen)
    return chosen[member]


def merged(groups: np.ndarray, links: Iterable[tuple[int, int]]) -> np.ndarray:
    """Return the groups after joining those of linked images: int64 [N], the smallest id of the joined groups.

    Args:
        groups: Id of each image's group, int64 [N].
        links: Pairs of images.
    """
    parent = {int(group): int(group) for group in np.unique(groups)}

    def root(group: int) -> int:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for one, other in links:
        low, high = sorted((root(int(groups[one])), root(int(groups[other]))))
        parent[high] = low
    ids, member = np.unique(groups, return_inverse=True)
    return np.array([root(int(group)) for group in ids], np.int64)[member]


def joined_groups(first: np.ndarray | None, n_first: int, second: np.ndarray | None, n_second: int) -> np.ndarray:
    """Return the groups of two tables in a row: int64 [n_first + n_second], equal ids in both being one group.

    Args:
        first: Groups of the first table, int64 [n_first], or None for independent images, which get ids of their own.
        n_first: Number of images of the first table.
        second: Groups of the second table, int64 [n_second], or None.
        n_second: Number of images of the second table.
    """
    known = [groups for groups in (first, second) if groups is not None]
    fresh = 1 + max((int(groups.max(initial=-1)) for groups in known), default=-1)
    first = fresh + np.arange(n_first) if first is None else first
    second = fresh + n_first + np.arange(n_second) if second is None else second
    return np.concatenate([first, second]).astype(np.int64)


def _approach(counts: np.ndarray, wanted: np.ndarray, visited: list[int], chosen: np.ndarray) -> None:
    """Hold out each visited group that brings the classes closer to their wanted numbers, in place.

    The distance is the sum over classes of the squared difference, relative to all images of the class.
    """
    totals = counts.sum(axis=0)
    current = counts[chosen].sum(axis=0)
    for group in visited:
        after = current + counts[group]
        distance = np.sum(((after - wanted) / totals) ** 2) - np.sum(((current - wanted) / totals) ** 2)
        if distance < 0 and _leaves_all(after, counts[group], totals):
            chosen[group], current = True, after


def _cover_classes(counts: np.ndarray, visited: list[int], chosen: np.ndarray) -> None:
    """Hold out the smallest group of each class that has none, in place."""
    totals = counts.sum(axis=0)
    for label in range(counts.shape[1]):
        if counts[chosen, label].any():
            continue
        candidates = sorted((group for group in visited if counts[group, label]), key=lambda group: counts[group].sum())
        for group in candidates:
            if _leaves_all(counts[chosen].sum(axis=0) + counts[group], counts[group], totals):
                chosen[group] = True
                break


def _leaves_all(held_out: np.ndarray, group: np.ndarray, totals: np.ndarray) -> bool:
    """Whether every class of a group keeps an image that is not held out."""
    return bool((held_out < totals)[group > 0].all())
