"""Layout of a folder: which images are for training and which for testing, by the names of the folders they are in."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainables.data.readers.listing import Listing, grouped_by_file, grouped_by_pattern, hold_out
from trainables.data.readers.walk import Content, Walk, few
from trainables.data.request import CURRENT, FORMER
from trainables.errors import DataError, printable

TRAIN, VALIDATION, TEST, UNLABELED = "train", "validation", "test", "unlabeled"
WITHOUT_LABEL = "held out from training, without a label"  # why files are left out
UNTESTABLE = "of a test part, which nothing reads without labels; move them to the training part to learn from them"

_AROUND = r"(?:images?|imgs?|data|set|split|part|folder)"
_SPLITS = {
    TRAIN: r"train|training|trn",
    VALIDATION: r"val|valid|validation|dev",
    TEST: r"test|testing|tst",
    UNLABELED: r"unlabell?ed|unannotated|unsup|unsupervised|no[ ._-]?labels?",
}


@dataclass(frozen=True)
class Parts:
    """The parts of a data set, as the names of folders or a manifest say.

    Attributes:
        layout: What the folder looks like, such as `class folders`.
        train: Training part.
        test: Test part; empty if there is none, as without labels.
        unlabeled: Images for pretext training only.
        validation: Validation part; empty if validation images are drawn from the training part.
        notes: Sentences about what was not taken literally.
        test_is_drawn: Whether the test part was held out from the training part.
    """

    layout: str
    train: Listing
    test: Listing
    unlabeled: Listing = field(default_factory=Listing)
    validation: Listing = field(default_factory=Listing)
    notes: tuple[str, ...] = ()
    test_is_drawn: bool = False


def split_of(name: str) -> str | None:
    """Return the split that a folder, or an entry of a manifest, is named after, in any case; None if there is none.

    `Train`, `training_set`, `train-images`, `VAL`, `dev`, `TestSet` and `unlabeled` are such names.
    """
    for split, words in _SPLITS.items():
        if re.fullmatch(rf"(?:{_AROUND}[ ._-]*)?(?:{words})(?:[ ._-]*{_AROUND})*", name.strip(), re.IGNORECASE):
            return split
    return None


def list_parts(walk: Walk, group_pattern: str | None = None, split_rules: int = CURRENT) -> Parts:
    """List the parts of a folder: {train,test}/CLASS/*, CLASS/*, {train,test}/* or only images.

    The last two have no labels. All of it may be in one folder below. `assembled` says what becomes of a validation
    folder, and whether a test part is held out.

    Args:
        walk: Walk through the folder.
        group_pattern: Pattern of the path by which images are grouped, or None.
        split_rules: See `assembled`.

    Raises:
        DataError: The folder is empty or ambiguous, has a single class, or contains a link that leads out of it.
    """
    folder, notes = _inner_folder(walk)
    splits = _split_folders(walk, folder)
    if not splits:
        if split_rules != FORMER:
            _check_classes_are_no_splits(walk, folder)
        labeled, unlabeled = _list_part(walk, folder)
        listed = {TRAIN: labeled, UNLABELED: unlabeled}
        if labeled.labels is not None:
            notes += _read_without_label(walk, folder)
        return assembled(walk, _grouped(walk, listed, group_pattern), _layout(labeled), notes, split_rules)
    listed = {}
    for split in (TRAIN, VALIDATION, TEST):
        if split in splits:
            known = listed[TRAIN].class_names if split != TRAIN else None
            listed[split], unlabeled = _list_part(walk, folder / splits[split], known)
            if split == TRAIN:
                listed[UNLABELED] = unlabeled
            else:
                walk.leave_out(WITHOUT_LABEL, unlabeled.paths)
    if UNLABELED in splits:
        extra = Listing(tuple(walk.images(folder / splits[UNLABELED])))
        listed[UNLABELED] = listed[UNLABELED].joined(extra)
    layout = f"{_layout(listed[TRAIN])} in {', '.join(f'{name}/' for name in splits.values())}"
    return assembled(walk, _grouped(walk, listed, group_pattern), layout, notes, split_rules)


def assembled(
    walk: Walk, listed: Mapping[str, Listing], layout: str, notes: Sequence[str] = (), split_rules: int = CURRENT
) -> Parts:
    """Return the parts of a data set after deciding what a validation part is for, and whether to hold out a test part.

    A validation part is kept. With labels and without a test part, it is the test part instead. A test part is held out
    only for probes, which need labels or masks: without them, every image but those for validation is trained on.
    The pages of a file are one group unless the user has grouped the images.

    Args:
        walk: Walk through the folder.
        listed: Files by split.
        layout: What the folder looks like.
        notes: Sentences about what was not taken literally.
        split_rules: CURRENT, or FORMER for what earlier versions did.
    """
    if walk.by_page and all(each.groups is None for each in listed.values()):
        listed, by_file = grouped_by_file(walk, listed)
        notes = [*notes, *by_file]
    train, test, said = listed[TRAIN], listed.get(TEST), list(notes)
    unlabeled, validation = listed.get(UNLABELED, Listing()), listed.get(VALIDATION)
    n = f"the {len(validation or ()):,} validation images"
    if split_rules != FORMER and train.labels is None and not train.masks:
        if test is not None:
            walk.leave_out(UNTESTABLE, test.paths)
        return Parts(layout, train, train.take([]), unlabeled, validation or Listing(), tuple(said))
    if validation is not None and test is None:
        test, validation = validation, None
        said.append(f"{n} are the test part, because the data set has none; validation images are drawn anew")
    if validation is not None and split_rules == FORMER:
        train, validation = train.joined(validation), None
        said.append(f"{n} join the training images, from which validation images are drawn")
    if test is not None:
        return Parts(layout, train, test, unlabeled, validation or Listing(), tuple(said))
    train, test = hold_out(train, walk.root)
    if not len(test) and (train.labels is not None or train.masks):
        raise DataError(f"{walk.name}: no test part can be held out of {walk.root}: {_why_none_is_held_out(train)}")
    return Parts(layout, train, test, unlabeled, notes=tuple(said), test_is_drawn=True)


def _why_none_is_held_out(listing: Listing) -> str:
    """Return why `hold_out` gives no test part, and what to do."""
    if listing.groups is None:
        few_images = "only one image has a mask" if listing.labels is None else "no class has two images"
        return f"{few_images}; add images"
    one = len(np.unique(listing.groups)) == 1
    which = "all images are in one group" if one else "every group has all images of a class"
    return f"{which}, and groups stay together; name smaller groups, or add images in other groups"


def _grouped(walk: Walk, listed: Mapping[str, Listing], group_pattern: str | None) -> Mapping[str, Listing]:
    if group_pattern is None:
        return listed
    return dict(zip(listed, grouped_by_pattern(walk, list(listed.values()), group_pattern), strict=True))


def _read_without_label(walk: Walk, folder: Path) -> list[str]:
    """Return a note for each folder beside class folders whose images are read without a label because of its name."""
    names = [name for name in walk.content(folder).folders if split_of(name) == UNLABELED]
    return [
        f"{name}/ is read as {len(walk.images(folder / name)):,} images without a label; rename it to make it a class"
        for name in names
    ]


def _inner_folder(walk: Walk) -> tuple[Path, list[str]]:
    """Return the folder that holds the splits or classes: the root, or the only folder in it, with a note about it."""
    content = walk.content(walk.root)
    if content.images or len(content.folders) != 1 or split_of(content.folders[0]):
        return walk.root, []
    inner = walk.root / content.folders[0]
    below = walk.content(inner)
    if below.images or (len(below.folders) < 2 and not any(map(split_of, below.folders))):
        return walk.root, []
    return inner, [f"all images are in {content.folders[0]}/"]


def _split_folders(walk: Walk, folder: Path) -> dict[str, str]:
    """Return the folder of each split, empty if the folders are classes.

    Raises:
        DataError: It cannot be said which of both they are.
    """
    content = walk.content(folder)
    found = {name: split for name in content.folders if (split := split_of(name))}
    found |= {name: split for name in content.empty if (split := split_of(name)) in (TRAIN, TEST)}
    parts = [name for name, split in found.items() if split in (TRAIN, TEST)]
    others = [name for name in content.folders if name not in found]
    if not parts or (others and not {"train", "test"} & set(parts) and len(parts) == 1):
        return {}  # a class may be called Train or Testing
    unread = [*others, *(path.name for path in content.images)]
    if unread:
        raise DataError(
            f"{walk.name}: {folder} has {few(unread)} next to {parts[0]}/, which would not be read; move it elsewhere"
        )
    by_split: dict[str, str] = {}
    for name, split in found.items():
        if split in by_split:
            raise DataError(f"{walk.name}: {folder} has two {split} folders, {by_split[split]} and {name}; join them")
        by_split[split] = name
    if TRAIN not in by_split:
        raise DataError(f"{walk.name}: {folder} has a test folder but no train folder")
    return {split: by_split[split] for split in _SPLITS if split in by_split}


def _check_classes_are_no_splits(walk: Walk, folder: Path) -> None:
    """Check that no class folder is named as a split and has folders of the other classes.

    Raises:
        DataError: One does; it is a split whose training images are beside it.
    """
    names = walk.content(folder).folders
    for name in names:
        if split_of(name) in (None, UNLABELED):
            continue
        common = [each for each in walk.content(folder / name).folders if each in names]
        if common:
            raise DataError(
                f"{walk.name}: {folder} has {name}/{common[0]}/ next to {common[0]}/: move the class folders into "
                f"{folder / TRAIN}/, or give {name}/ another name if it is a class"
            )


def _list_part(walk: Walk, folder: Path, known: tuple[str, ...] | None = None) -> tuple[Listing, Listing]:
    """List the labeled and unlabeled images of a part; a held-out part must share the `known` classes."""
    content = walk.content(folder)
    extra = [name for name in content.folders if split_of(name) == UNLABELED]
    classes = [name for name in content.folders if name not in extra]
    if known is not None and bool(known) != bool(classes) and (classes or content.images):
        raise DataError(f"{walk.name}: in {walk.root}, only one of train and {folder.name} has class folders")
    loose = [path for file in content.images for path in walk.images_in(file)]
    loose += [path for name in extra for path in walk.images(folder / name)]
    if not classes:
        if not loose:
            raise DataError(f"{walk.name}: {folder} has no images")
        return Listing(tuple(loose)), Listing()
    if content.images and len(classes) == 1:
        raise DataError(
            f"{walk.name}: {folder} has images ({few([path.name for path in content.images])}) next to a folder with "
            f"images ({classes[0]}): put all images in one folder, or those with a label in two or more class folders"
        )
    return _list_classes(walk, folder, content, classes, known), Listing(tuple(loose))


def _list_classes(
    walk: Walk, folder: Path, content: Content, classes: list[str], known: tuple[str, ...] | None
) -> Listing:
    name = walk.name
    forms: dict[str, str] = {}
    for label in classes:
        twin = forms.setdefault(unicodedata.normalize("NFC", label), label)
        if twin != label:
            raise DataError(
                f"{name}: {folder} has two class folders named {label}, written in different Unicode characters (NFC "
                "and NFD); join them"
            )
    if known is None:
        if len(classes) + len(content.empty) == 1:
            raise DataError(
                f"{name}: {folder} has the single class folder {classes[0]!r}, and a probe needs two; "
                f"for images without labels use folder:{folder / classes[0]}"
            )
        if content.empty:
            raise DataError(f"{name}: class folder {few(content.empty)} of {folder} has no images; fill or remove it")
        known = tuple(classes)
    unprintable = [label for label in classes if printable(label) != label]
    if unprintable:
        raise DataError(f"{name}: class folder {few(unprintable)} of {folder} has a name that no report can print")
    ids = {unicodedata.normalize("NFC", label): index for index, label in enumerate(known)}
    unknown = [label for label in (*classes, *content.empty) if unicodedata.normalize("NFC", label) not in ids]
    if unknown:
        raise DataError(f"{name}: class folder {few(unknown)} of {folder} is not among the training classes")
    files = {form: walk.images(folder / label) for form, label in forms.items()}
    paths = tuple(path for own in files.values() for path in own)
    labels = [ids[form] for form, own in files.items() for _ in own]
    return Listing(paths, np.array(labels, np.int64), known)


def _layout(listing: Listing) -> str:
    return "class folders" if listing.labels is not None else "a flat folder"
