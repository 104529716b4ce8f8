"""Manifest of a data set: `manifest.csv`, which says each image's label, group, split and mask in place of folders."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from trainables.data.readers.decode import UNCOUNTED
from trainables.data.readers.layout import TEST, TRAIN, UNLABELED, VALIDATION, WITHOUT_LABEL, Parts, assembled, split_of
from trainables.data.readers.listing import MANIFEST, Listing, with_groups
from trainables.data.readers.walk import N_NAMED, Walk
from trainables.data.request import CURRENT, FORMER
from trainables.errors import ConfigError, DataError, printable, suggestion

COLUMNS = ("path", "label", "group", "split", "mask", "page")
NOT_LISTED = f"not listed in {MANIFEST}"  # why files are left out


@dataclass(frozen=True)
class _Row:
    """What one line of a manifest says of an image; empty strings where it says nothing."""

    line: int
    path: Path
    label: str
    group: str
    split: str
    mask: Path | None


@dataclass
class _Manifest:
    """A manifest as it is read: its columns and rows, and every fault in it."""

    columns: list[str]
    rows: list[_Row] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def fault(self, line: int, text: str) -> None:
        self.faults.append(f"line {line}: {text}")


def read_manifest(walk: Walk, group_pattern: str | None = None, split_rules: int = CURRENT) -> Parts:
    """List the parts of a data set from the manifest in its folder.

    Columns are `path`, relative to the folder, and any of `label`, `group`, `split` and `mask`, in any order. An empty
    label makes an image unlabeled, an empty group makes it independent. Images that are not listed are left out. If
    each page of a file is an image, a line is about all pages of the file, or the one that the column `page` names,
    counted from 1; a mask file has a page for each of them, or is of the one page.

    Args:
        walk: Walk through the folder.
        group_pattern: Pattern by which images are grouped; None if there is none.
        split_rules: See `assembled`.

    Raises:
        ConfigError: There are a group pattern and a column `group`.
        DataError: The manifest has faults; the message names the first ones with their line.
    """
    manifest = _parsed(walk)
    if group_pattern is not None:
        raise ConfigError(
            f"group_pattern = {group_pattern!r}, but {walk.root / MANIFEST} says what is in the data set: write the "
            "groups into its column group, and remove group_pattern"
        )
    _check_labels(manifest, split_rules)
    _check_splits(manifest)
    if manifest.faults:
        more = len(manifest.faults) - N_NAMED
        listed = "; ".join(manifest.faults[:N_NAMED]) + (f"; and {more} more faults" if more > 0 else "")
        raise DataError(f"{walk.name}: {walk.root / MANIFEST}: {listed}")
    used = {row.path for row in manifest.rows} | {row.mask for row in manifest.rows if row.mask}
    walk.leave_out(NOT_LISTED, [path for path in walk.images(walk.root) if path not in used])
    layout = f"{MANIFEST} ({', '.join(manifest.columns)})"
    return assembled(walk, _listings(walk, manifest), layout, split_rules=split_rules)


def _parsed(walk: Walk) -> _Manifest:
    """Parse the manifest; faults of single lines are collected in it.

    Raises:
        DataError: It is not a text file in UTF-8, or its header is wrong.
    """
    file = walk.root / MANIFEST
    walk.check_link(file)
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{walk.name}: {file} is not in UTF-8 ({error.reason}); save it as CSV in UTF-8") from error
    header = text.partition("\n")[0].strip()
    delimiter = max(",;\t", key=header.count)  # spreadsheets write semicolons where the comma is in numbers
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = [column.strip().lower() for column in next(reader, [])]
    unknown = [column for column in columns if column not in COLUMNS]
    if unknown:
        raise DataError(f"{walk.name}: {file}: column {unknown[0]!r}: {suggestion(unknown[0], COLUMNS)}")
    if "path" not in columns or len(set(columns)) < len(columns):
        raise DataError(
            f"{walk.name}: {file}: its first line must name the columns, each once: path, and any of label, group, "
            f"split and mask; it is {header[:80]!r}"
        )
    if "page" in columns and not walk.by_page:
        raise DataError(f"{walk.name}: {file} has a column page; set stack: pages, which reads each page as an image")
    manifest, seen = _Manifest(columns), dict[Path, int]()
    for values in _lines(reader, manifest):
        if not any(value.strip() for value in values):
            continue
        if len(values) != len(columns):
            manifest.fault(reader.line_num, f"{len(values)} values for {len(columns)} columns; quote commas in values")
            continue
        _add_row(walk, manifest, reader.line_num, dict(zip(columns, map(str.strip, values), strict=True)), seen)
    if not manifest.rows and not manifest.faults:
        raise DataError(f"{walk.name}: {file} lists no image")
    return manifest


def _lines(reader: Any, manifest: _Manifest) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        manifest.fault(reader.line_num, f"not CSV: {error}")


def _add_row(walk: Walk, manifest: _Manifest, line: int, values: dict[str, str], seen: dict[Path, int]) -> None:
    """Add one line to the manifest, or its fault."""
    file = _existing(walk, manifest, line, values["path"])
    images = [] if file is None else _named_images(walk, manifest, line, file, values.get("page", ""))
    masks: list[Path | None] = [None] * len(images)
    if images and values.get("mask"):
        masks = _masks(walk, manifest, line, values["mask"], images)
    label = unicodedata.normalize("NFC", values.get("label", ""))
    if printable(label) != label:
        manifest.fault(line, f"label {label!r} has characters that no report can print; use another name")
    for path, mask in zip(images, masks, strict=True):
        if path in seen:
            manifest.fault(line, f"{walk.relative(path)} is already in line {seen[path]}; keep one of them")
            return
        seen[path] = line
        manifest.rows.append(_Row(line, path, label, values.get("group", ""), values.get("split", ""), mask))


def _named_images(walk: Walk, manifest: _Manifest, line: int, file: Path, page: str) -> list[Path]:
    """Return the images that a line names: those in its file, or one page; none after noting a fault."""
    images = walk.images_in(file)
    if not page:
        return images
    # Of a file whose pages cannot be counted, the reader says why.
    named = [
        path for path in images if walk.pages[path].number == UNCOUNTED or str(walk.pages[path].number + 1) == page
    ]
    if not named:
        has = f"has the pages 1 to {len(images)}" if len(images) > 1 else "has one page"
        manifest.fault(line, f"page {page}, but {walk.relative(file)} {has}; correct it, or leave it empty for all")
    return named


def _masks(walk: Walk, manifest: _Manifest, line: int, value: str, images: list[Path]) -> list[Path | None]:
    """Return the mask of each image of a line: the page of the same number, or the only one; none after a fault."""
    file = _existing(walk, manifest, line, value)
    if file is None:
        return [None] * len(images)
    masks, n_pages = walk.images_in(file), len(walk.images_in(walk.file_of(images[0])))
    if len(masks) == len(images) == 1:
        return [*masks]
    if len(masks) != n_pages:
        manifest.fault(line, f"{n_pages} pages, but the mask {value} has {len(masks)}; each page needs its own")
        return [None] * len(images)
    by_index = {walk.pages[path].number: path for path in masks}
    return [by_index.get(walk.pages[path].number) for path in images]


def _existing(walk: Walk, manifest: _Manifest, line: int, value: str) -> Path | None:
    """Return the file that a line names, or None after noting why there is none."""
    relative = PurePosixPath(value.replace("\\", "/"))
    if not value:
        manifest.fault(line, "the path is empty; remove the line, or name an image")
    elif relative.is_absolute() or ".." in relative.parts or ":" in str(relative).partition("/")[0]:
        manifest.fault(line, f"{value} is not a path below {walk.root}; write it relative to this folder")
    elif not (walk.root / relative).is_file():
        manifest.fault(line, f"{value} is not a file in {walk.root}; correct or remove the line")
    else:
        path = walk.root / relative
        for parent in (path, *path.parents):
            if parent == walk.root:
                break
            walk.check_link(parent)
        return path
    return None


def _check_labels(manifest: _Manifest, split_rules: int) -> None:
    """Note faults of labels and masks: classes that training images lack, a single class, images without a mask."""
    labeled = [row for row in manifest.rows if row.label]
    held_out = (TEST,) if split_rules == FORMER else (VALIDATION, TEST, UNLABELED)
    trained = {row.label for row in labeled if split_of(row.split) not in held_out}
    if "label" in manifest.columns and len(trained) < 2 and manifest.rows:
        what = f"all training images have the label {min(trained)!r}" if trained else "no training image has a label"
        manifest.fault(1, f"{what}, and a probe needs two; for images without labels remove the column label")
    masked = [row for row in manifest.rows if row.mask and split_of(row.split) not in held_out]
    if "mask" in manifest.columns and not masked and not manifest.faults:
        manifest.fault(1, "no training image has a mask; name some, or remove the column mask")
    for row in labeled:
        if row.label not in trained:
            of = split_of(row.split)
            manifest.fault(row.line, f"no training image has the label {row.label!r} of this {of} image; add some")
        if "mask" in manifest.columns and row.mask is None:
            manifest.fault(row.line, "a label but no mask; with a column mask, labeled images need both")


def _check_splits(manifest: _Manifest) -> None:
    """Note faults of the splits: unknown names, empty ones next to others, and none for training."""
    given = [row for row in manifest.rows if row.split]
    for row in manifest.rows if given else ():
        if not row.split:
            manifest.fault(row.line, "the split is empty; write train, validation, test or unlabeled")
        elif split_of(row.split) is None:
            manifest.fault(row.line, f"split {row.split!r}; write train, validation, test or unlabeled")
    if given and not any(split_of(row.split) == TRAIN for row in given):
        manifest.fault(1, "no image has the split train")


def _listings(walk: Walk, manifest: _Manifest) -> dict[str, Listing]:
    """Return the files of each split, in the order of label and path."""
    names = tuple(sorted({row.label for row in manifest.rows if row.label}))
    rows: dict[str, list[_Row]] = {TRAIN: [], UNLABELED: []}
    for row in sorted(manifest.rows, key=lambda row: (row.label, row.path)):
        split = split_of(row.split) or TRAIN
        annotated = bool(row.label) if names else row.mask is not None or "mask" not in manifest.columns
        if annotated or split == UNLABELED:
            rows.setdefault(split, []).append(row)
        elif split == TRAIN:
            rows[UNLABELED].append(row)
        else:
            walk.leave_out(WITHOUT_LABEL, [row.path])
    listed = {split: Listing(tuple(row.path for row in own)) for split, own in rows.items()}
    for split in rows.keys() - {UNLABELED}:
        listed[split] = _annotated(rows[split], names)
    if "group" not in manifest.columns:
        return listed
    groups = [[row.group or f"\0{walk.relative(row.path)}" for row in own] for own in rows.values()]
    return dict(zip(listed, with_groups(list(listed.values()), groups), strict=True))


def _annotated(rows: Sequence[_Row], class_names: tuple[str, ...]) -> Listing:
    """Return rows with their labels and masks."""
    labels = np.array([class_names.index(row.label) for row in rows], np.int64) if class_names else None
    masks = tuple(row.mask for row in rows if row.mask is not None)
    return Listing(tuple(row.path for row in rows), labels, class_names, masks=masks)
