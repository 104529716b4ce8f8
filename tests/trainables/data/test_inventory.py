"""Inventory of a data set: what was found, and what the terminal, the report and MLflow say of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from analysis.records import StudyStarted
from study.cli.words import dataset_lines
from study.provenance import describe
from study.tracking.notes import study_note
from trainables.data import load_splits


def test_a_clean_folder_is_one_line(tmp_path: Path, write_classes: Callable[..., Path]) -> None:
    folder = write_classes(tmp_path / "photos", ("cat", "dog"), n=25)
    splits = load_splits(f"folder:{folder}", root=None, image_size=32)
    (line,) = dataset_lines({"photos": describe(splits)})
    sides = (splits.pretext_train, splits.pretext_validation, splits.test)
    counts = ", ".join(
        f"{len(table)} {name}" for table, name in zip(sides, ("train", "validation", "test"), strict=True)
    )
    assert f"class folders; 50 images of 2 classes (25 each): {counts}; 48 x 40 px, 8 bits" in line
    assert line.endswith("used as 3 x 32 x 32 uint8")


def test_what_was_left_out_and_copied_is_counted(tmp_path: Path, write_classes: Callable[..., Path]) -> None:
    folder = write_classes(tmp_path / "photos", ("cat", "dog"), n=25)
    (folder / "cat" / "@eaDir").mkdir()
    photo = next(iter(sorted((folder / "cat").glob("*.*"))))
    (folder / "cat" / "@eaDir" / photo.name).write_bytes(photo.read_bytes())
    (folder / "dog" / f"copy{photo.suffix}").write_bytes(photo.read_bytes())
    facts = {"photos": describe(load_splits(f"folder:{folder}", root=None, image_size=32))}
    lines = dataset_lines(facts)
    assert "  left out: 1 file left behind by other programs (cat/@eaDir)" in lines
    assert "  1 image is an exact copy of another one" in lines
    assert lines[-3].split() == ["images", "train", "validation", "test"]
    assert [row.split()[0] for row in lines[-2:]] == ["cat", "dog"]
    note = study_note(StudyStarted(study="s", datasets=facts))
    assert "left out: 1 file left behind by other programs (cat/@eaDir)" in note.replace("&#40;", "(").replace(
        "&#41;", ")"
    )


def test_studies_of_former_versions_have_no_inventory() -> None:
    assert dataset_lines({"shapes": {"fingerprint": "0123", "counts": {"test": 3}}}) == []
