"""Listing of image files with labels, groups and masks, and the test part that is held out of one."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainables.data.groups import hold_out_groups
from trainables.data.readers.walk import Walk, few
from trainables.errors import ConfigError, DataError

MANIFEST = "manifest.csv"
TEST_FRACTION = 0.2  # held out from each class if there is no test folder


@dataclass(frozen=True)
class Listing:
    """Image files of one part of a data set.

    Attributes:
        paths: Paths of N image files.
        labels: int64 [N], or None without classes.
        class_names: Names of the classes; empty without classes.
        groups: Id of each file's group, int64 [N], the same for all parts of a data set; None without groups.
        group_names: Names of the groups by id; empty without groups.
        masks: Mask of each file; empty without masks.
    """

    paths: tuple[Path, ...] = ()
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    group_names: tuple[str, ...] = ()
    masks: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, indices: Sequence[int] | np.ndarray) -> Listing:
        """Return the files at `indices`, in that order."""
        rows = np.asarray(indices, np.int64)
        return replace(
            self,
            paths=tuple(self.paths[i] for i in rows),
            labels=None if self.labels is None else self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
            masks=tuple(self.masks[i] for i in rows) if self.masks else (),
        )

    def joined(self, other: Listing) -> Listing:
        """Return the files of both listings, which have the same classes and groups."""

        def both(first: np.ndarray | None, second: np.ndarray | None) -> np.ndarray | None:
            return None if first is None or second is None else np.concatenate([first, second])

        return replace(
            self,
            paths=self.paths + other.paths,
            labels=both(self.labels, other.labels),
            groups=both(self.groups, other.groups),
            masks=self.masks + other.masks,
        )


def hold_out(listing: Listing, root: Path) -> tuple[Listing, Listing]:
    """Split a listing into training and test parts.

    The test part is TEST_FRACTION of each class, at least one image if the class has two: those with the lowest hash
    of the path relative to `root`. Location, order and modification times of the files therefore do not matter. Groups
    stay together: those with the lowest hash of their name come first.
    """
    names = [os.fsencode(path.relative_to(root).as_posix()) for path in listing.paths]
    hashes = [hashlib.sha256(name).digest() for name in names]
    labels = np.zeros(len(hashes), np.int64) if listing.labels is None else listing.labels
    groups = listing.groups
    if groups is not None:
        of_group = [hashlib.sha256(os.fsencode(name)).digest() for name in listing.group_names]
        order = np.array(sorted(range(len(hashes)), key=lambda i: (of_group[groups[i]], hashes[i])), np.int64)
        in_test = hold_out_groups(labels, groups, TEST_FRACTION, order)
    else:
        in_test = np.zeros(len(hashes), bool)
        for label in np.unique(labels):
            members = sorted(np.flatnonzero(labels == label), key=hashes.__getitem__)
            in_test[members[: max(round(TEST_FRACTION * len(members)), min(1, len(members) - 1))]] = True
    return listing.take(np.flatnonzero(~in_test)), listing.take(np.flatnonzero(in_test))


def with_groups(parts: Sequence[Listing], names: Sequence[Sequence[str]]) -> list[Listing]:
    """Return the parts of a data set with their groups.

    Args:
        parts: Listings without groups.
        names: Name of the group of each file of each part.
    """
    known = {name: index for index, name in enumerate(sorted({name for own in names for name in own}))}
    return [
        replace(part, groups=np.array([known[name] for name in own], np.int64), group_names=tuple(known))
        for part, own in zip(parts, names, strict=True)
    ]


def grouped_by_file(walk: Walk, parts: Mapping[str, Listing]) -> tuple[dict[str, Listing], list[str]]:
    """Return the parts of a data set with the pages of each file as one group, and a note about it.

    Where no file has several pages, the images stay independent.

    Args:
        walk: Walk through the folder.
        parts: Listings without groups, by split.

    Raises:
        DataError: All images are pages of one file.
    """
    names = [[walk.relative(walk.file_of(path)) for path in part.paths] for part in parts.values()]
    n_images, files = sum(map(len, names)), {name for own in names for name in own}
    if n_images == len(files):
        return dict(parts), []
    if len(files) == 1:
        raise DataError(
            f"{walk.name}: all {n_images:,} images are pages of {files.pop()}, and the pages of a file stay on one "
            "side of every split: none could be held out; add other files, or group the pages with group_pattern"
        )
    grouped = dict(zip(parts, with_groups(list(parts.values()), names), strict=True))
    return grouped, ["the pages of a file are one group, on one side of every split"]


def grouped_by_pattern(walk: Walk, parts: Sequence[Listing], pattern: str) -> list[Listing]:
    """Return the parts of a data set with the groups that a pattern finds in the path of each file.

    Args:
        walk: Walk through the folder, to which the paths are relative.
        parts: Listings without groups.
        pattern: Regular expression, which may match anywhere in the path. What it matches is the name of the group, or
            what its first group in parentheses matches if it has one.

    Raises:
        ConfigError: The pattern is not a regular expression.
        DataError: A path does not match, or all are in one group.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"group_pattern = {pattern!r}: not a regular expression: {error}") from error
    which = 1 if expression.groups else 0
    names: list[list[str]] = []
    missing: list[str] = []
    for part in parts:
        relative = [walk.relative(path) for path in part.paths]
        matches = [expression.search(path) for path in relative]
        names.append([match[which] or "" if match else "" for match in matches])
        missing += [path for path, name in zip(relative, names[-1], strict=True) if not name]
    if missing:
        raise DataError(
            f"{walk.name}: group_pattern = {pattern!r} does not match {len(missing):,} images ({few(missing)}); "
            f"correct it, or name the groups in {MANIFEST}, where an image without a group is independent"
        )
    if len({name for own in names for name in own}) == 1:
        raise DataError(
            f"{walk.name}: group_pattern = {pattern!r} puts all images in one group, {names[0][0]!r}: none could be "
            "held out"
        )
    return with_groups(parts, names)
