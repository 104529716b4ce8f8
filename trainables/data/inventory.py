"""Inventory of a data set: what was found in its files, what was left out and why, and how it is used.

`counting` takes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.data.intensity import LOW_16, REAL

SPLITS = ("train", "validation", "test")
FEW = 20  # images of a class in all splits, below which the class is named as small
N_CLASSES = 10  # rows of the table of classes
# Why files are left out, as it follows their number: "60 files left behind by other programs".
LEFT_BEHIND, HIDDEN, NOT_AN_IMAGE = "left behind by other programs", "hidden", "without an image"
HARMLESS = (HIDDEN, NOT_AN_IMAGE)  # reasons that need no warning


@dataclass(frozen=True)
class LeftOut:
    """Files that are not used, for one reason.

    Attributes:
        reason: The reason, as it follows a number of files.
        n_files: Their number.
        names: The first of them, relative to the data set's folder; a folder means all files in it.
    """

    reason: str
    n_files: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """Facts about the files of a data set, noted while they are read.

    Attributes:
        layout: What the folder looks like, such as `class folders`.
        notes: Sentences about what was not taken literally.
        left_out: Files that are not used, by reason.
        sizes: Width and height in px of the image with the fewest pixels, and of the one with the most.
        bits: Bits per value of the files, ascending: 8 to 16, LOW_16 for 16-bit files without a value above 255, or
            REAL.
        n_enlarged: Number of images that were smaller than they are used.
        pages: Number of files, and of the pages that were read of them as images; empty where a file is one image.
    """

    layout: str
    notes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    bits: tuple[int, ...] = ()
    n_enlarged: int = 0
    pages: tuple[int, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """What a data set holds.

    Attributes:
        name: Name of the data set.
        counts: Number of images by class, or kind of image, and split: train, validation and test.
        class_names: Names of the classes; empty without labels.
        image_size: Side in px of the images as used.
        n_channels: Their number of channels.
        dtype: Their type: uint8, uint16 or float32.
        n_duplicates: Number of images whose pixels are those of an earlier image.
        n_groups: Number of groups; None if the images are independent.
        found: Facts about the files; None for data sets that are not read from image files.
    """

    name: str
    counts: Mapping[str, Mapping[str, int]]
    class_names: tuple[str, ...]
    image_size: int
    n_channels: int
    dtype: str
    n_duplicates: int = 0
    n_groups: int | None = None
    found: Found | None = None

    @property
    def classes(self) -> dict[str, int]:
        """Number of images of each class in all splits, the smallest class first; empty without labels."""
        classes = {name: sum(self.counts[name].values()) for name in self.class_names if name in self.counts}
        return dict(sorted(classes.items(), key=lambda item: item[1]))

    @property
    def n_images(self) -> int:
        """Number of images in all splits."""
        return sum(sum(own.values()) for own in self.counts.values())

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should look at, one line each; empty if all is well."""
        lines = list(self.found.notes if self.found else ())
        if self.found:
            lines += [f"left out: {describe_left_out(each)}" for each in self.found.left_out if _matters(each)]
            if self.found.n_enlarged:
                enlarged = "1 image is" if self.found.n_enlarged == 1 else f"{self.found.n_enlarged:,} images are"
                lines.append(f"{enlarged} enlarged to {self.image_size} px")
        if self.n_duplicates:
            copies = (
                "1 image is an exact copy"
                if self.n_duplicates == 1
                else f"{self.n_duplicates:,} images are exact copies"
            )
            lines.append(f"{copies} of another one")
        small = [f"{name} ({n})" for name, n in self.classes.items() if n < FEW]
        if small:
            more = f" and {len(small) - 3} more" if len(small) > 3 else ""
            lines.append(f"few images of class {', '.join(small[:3])}{more}")
        return tuple(lines)

    @property
    def line(self) -> str:
        """The data set in one line: images, classes, splits, sizes and depth."""
        totals = {split: sum(own[split] for own in self.counts.values()) for split in SPLITS}
        listed = ", ".join(f"{total:,} {split}" for split, total in totals.items() if total)
        parts = [f"{self.n_images:,} images{self._of_classes()}: {listed}"]
        if not totals["test"]:
            parts[0] += ", no test split, which needs labels"
        if self.n_groups is not None:
            parts.append(f"{self.n_groups:,} groups")
        if self.found:
            parts.insert(0, self.found.layout)
            if self.found.pages:
                parts.append("{:,} files, {:,} pages".format(*self.found.pages))
            parts.append(f"{_sizes(self.found.sizes)} px, {_depths(self.found.bits)}")
        parts.append(f"used as {self.n_channels} x {self.image_size} x {self.image_size} {self.dtype}")
        return f"{self.name}: {'; '.join(parts)}"

    @property
    def table(self) -> list[tuple[str, ...]]:
        """Rows of class and number of images in each split, the smallest classes first if there are many."""
        order = [*self.classes, *(kind for kind in self.counts if kind not in self.classes)]
        if len(self.classes) <= N_CLASSES:
            order = list(self.counts)
        rows = [(kind, *(f"{self.counts[kind][split]:,}" for split in SPLITS)) for kind in order]
        hidden = len(rows) - N_CLASSES
        if hidden <= 2:
            return rows
        return [*rows[:N_CLASSES], (f"and {hidden} more", *("" for _ in SPLITS))]

    def summary(self) -> dict[str, Any]:
        """Return what the journal keeps, as plain JSON types: the line, the remarks, and the table with its head."""
        table = [["images", *SPLITS], *map(list, self.table)]
        return {"line": self.line, "remarks": list(self.remarks), "table": table}

    def _of_classes(self) -> str:
        if not (classes := list(self.classes.items())):
            return ""
        (smallest, least), (largest, most) = classes[0], classes[-1]
        each = f"{least:,} each" if least == most else f"{least:,} of {smallest} to {most:,} of {largest}"
        return f" of {len(classes)} classes ({each})"


def describe_left_out(left_out: LeftOut) -> str:
    """Return the number of files, the reason and the first names: `1 file without an image (notes.txt)`."""
    files = "file" if left_out.n_files == 1 else "files"
    return f"{left_out.n_files:,} {files} {left_out.reason} ({', '.join(left_out.names)})"


def _matters(left_out: LeftOut) -> bool:
    return left_out.reason not in HARMLESS


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    return " to ".join(f"{width} x {height}" for width, height in dict.fromkeys(sizes))


def _depths(bits: Sequence[int]) -> str:
    kinds = list(dict.fromkeys("real numbers" if each == REAL else f"{8 if each == LOW_16 else each}" for each in bits))
    listed = " and ".join([", ".join(kinds[:-1]), *kinds[-1:]] if len(kinds) > 1 else kinds)
    return listed + ("" if kinds[-1:] == ["real numbers"] else " bits")
