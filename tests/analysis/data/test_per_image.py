"""Per-image results of a study: the same from its journal, its parquet files and MLflow, and read only when needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.data.frames import export
from analysis.data.per_image import PerImage
from analysis.records import StudyStarted, TrialEnded, TrialStarted
from analysis.records.layout import PER_IMAGE_FILE
from analysis.stats.influence import balanced_accuracy_images, mean_iou_images
from study.execution.journal import Journal
from study.tracking.sync import sync
from trainables.errors import UserError
from trainables.per_image import pack
from trainables.trial import TrialConfig

RESULT = "probe/shapes/linear"
RNG = np.random.default_rng(0)
ANSWERS, LABELS = RNG.random((3, 40)) < 0.6, RNG.integers(4, size=40)
OVERLAPS = np.sort(RNG.integers(1, 50, (40, 2, 3)), axis=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a study of three trials with per-image results, and one without."""
    book = Journal(tmp_path / "seen")
    book.append(StudyStarted(study="seen", config={"name": "seen"}))
    for seed in range(4):
        trial = TrialConfig("confirm", "rotation", seed=seed)
        packed = {RESULT: pack(ANSWERS[seed]), "probe/shapes/labels": pack(LABELS)} if seed < 3 else {}
        packed |= {"probe/shapes/miou": pack(OVERLAPS)} if seed == 0 else {}
        results = {RESULT: float(ANSWERS[seed % 3].mean())}
        book.append(TrialStarted.of(trial))
        book.append(TrialEnded(trial_id=trial.trial_id, status="FINISHED", results=results, per_image=packed))
    book.close()
    return tmp_path / "seen"


def trial_ids(study: analysis.Study) -> list[str]:
    return list(study.runs.sort_values("seed")["trial_id"])


def check(study: analysis.Study) -> None:
    *with_images, without = trial_ids(study)
    for trial_id, answers in zip(with_images, ANSWERS, strict=True):
        np.testing.assert_array_equal(study.per_image.contributions(trial_id, RESULT), answers)
        assert study.per_image.contributions(trial_id, "probe/shapes/knn") is None
    assert study.per_image.contributions(without, RESULT) is None
    assert study.per_image.contributions("no such trial", RESULT) is None


def test_images_come_from_the_journal_or_from_parquet_files_alone(folder: Path):
    check(analysis.load(folder))
    export(folder)
    check(analysis.load(folder))
    (folder / "journal.jsonl").unlink()
    check(analysis.load(folder))
    (folder / PER_IMAGE_FILE).unlink()
    study = analysis.load(folder)
    assert study.per_image.contributions(trial_ids(study)[0], RESULT) is None


def test_images_come_from_mlflow_and_only_when_they_are_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch):
    uri = f"sqlite:///{folder.parent}/mlflow.db"
    monkeypatch.chdir(folder.parent)
    sync(folder, uri)
    asked = []
    from analysis.data import mlflow

    original = mlflow._json_artifact
    monkeypatch.setattr(mlflow, "_json_artifact", lambda *args: asked.append(args) or original(*args))
    study = analysis.load(uri, study="seen")
    assert asked == []
    check(study)
    check(study)
    assert len(asked) == 4, "once per trial of the study"


def test_damaged_images_are_an_error_that_names_the_trial():
    per_image = PerImage({"abc": {RESULT: "bool:3:AAAA"}}.__getitem__)
    with pytest.raises(UserError, match=rf"trial abc, {RESULT}: damaged per-image results.*run the trial again"):
        per_image.contributions("abc", RESULT)


def test_a_broken_parquet_file_of_images_is_an_error_only_where_they_are_needed(folder: Path):
    export(folder)
    (folder / "journal.jsonl").unlink()
    (folder / PER_IMAGE_FILE).write_bytes(b"PAR1")
    study = analysis.load(folder)
    with pytest.raises(UserError, match=r"per_image\.parquet cannot be read.*copy it again, or delete it"):
        study.per_image.contributions(trial_ids(study)[0], RESULT)


def test_averages_over_classes_have_contributions_of_images(folder: Path):
    study = analysis.load(folder)
    first = trial_ids(study)[0]
    found = study.per_image.contributions(first, f"{RESULT}_balanced_accuracy")
    np.testing.assert_array_equal(found, balanced_accuracy_images(ANSWERS[0], LABELS))
    found = study.per_image.contributions(first, "probe/shapes/miou")
    np.testing.assert_array_equal(found, mean_iou_images(OVERLAPS))
    assert study.per_image.contributions(first, f"{RESULT}_macro_f1") is None
