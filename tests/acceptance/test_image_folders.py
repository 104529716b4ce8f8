"""Folders of images as users have them, from what is found in them to a report."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.driver import run_study
from tests.acceptance.microscope_images import write_microscope_images, write_plates
from tests.acceptance.studies import crowding
from tests.conftest import REPOSITORY
from tests.study.studies import tiny
from trainables.data import load_splits
from trainables.errors import DataError

# What the inventory says of each case: the beginning of its line after the name, the end of it, and a remark.
FOUND = {
    "split_Train": ("class folders in Train/, Test/; 84 images of 3 classes (28 each): 48 train", "uint8", ""),
    "split_training_set": ("class folders in training_set/, test_set/; 84 images of 3 classes", "uint8", ""),
    "unequal": ("class folders; 300 images of 2 classes (15 of rare to 285 of common)", "uint8", "rare (15)"),
    "twelve_bit": ("class folders; 60 images of 2 classes (30 each)", "12 bits; used as 3 x 32 x 32 uint16", ""),
    "ten_bit": ("class folders; 60 images of 2 classes (30 each)", "10 bits; used as 3 x 32 x 32 uint16", ""),
    "mixed_depth": ("class folders; 60 images of 2 classes", "12 and 16 bits; used as 3 x 32 x 32 uint16", ""),
    "suffixes": ("class folders; 60 images of 2 classes (30 each)", "uint8", ""),
    "junk": ("class folders; 60 images of 2 classes (30 each)", "uint8", "left out: 120 files left behind"),
    "too_small": ("class folders; 60 images of 2 classes", "96 x 96 to 168 x 168 px, 8 bits; used as 3 x 32 x 32", ""),
    "with space (copy) @ a+b": ("class folders; 60 images of 2 classes (30 each)", "uint8", ""),
    "flat_beside_text": ("a flat folder; 40 images", "uint8", ""),
    "latin1": ("a flat folder; 40 images", "uint8", ""),
    "plates": ("class folders; 120 images of 3 classes (40 each)", "uint8", ""),
    "five_channels": ("class folders; 60 images of 3 classes (20 each)", "12 bits; used as 5 x 32 x 32 uint16", ""),
}
IN_CI = {"five_channels"}


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the cases that `make_cases.py` makes, next to the repository or in PRETEXT_CASES."""
    script = Path(os.environ.get("PRETEXT_CASES", REPOSITORY.parent / "shared" / "cases")) / "make_cases.py"
    if not script.is_file():
        pytest.skip(f"the cases are made by {script}, which is not there; set PRETEXT_CASES to its folder")
    folder = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    return folder


@pytest.mark.parametrize("case", FOUND)
def test_what_is_found_is_what_is_there(cases: Path, case: str) -> None:
    begin, end, remark = FOUND[case]
    inventory = load_splits(f"folder:{cases / case}", root=None, image_size=32).inventory
    assert inventory is not None
    assert inventory.line.partition(": ")[2].startswith(begin)
    assert end in inventory.line
    assert remark in "; ".join(inventory.remarks)


@pytest.mark.slow
@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.core] * (case in IN_CI)) for case in FOUND])
def test_every_folder_is_trained_on_to_a_report(
    cases: Path, case: str, local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts of such a store
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    few = {"search": {"num_samples": 1}, "confirm": {"seeds": 1}}
    outcome = run_study(tiny(dataset=f"folder:{cases / case}", image_size=32, tracking_uri=store, **few), tmp_path)
    assert not outcome.failed
    page = outcome.report.read_text(encoding="utf-8")
    assert "Found: folder:" in page


def few_steps(folder: Path, ray_address: str, *settings: str) -> tuple[int, str, str]:
    """Run the preset `quick` on few steps, as a user does; return exit code, terminal and report."""
    few = ["image_size=24", "budget_steps=4", "report_every=2", "search.num_samples=1", "confirm.seeds=2"]
    few += ["ablate.designs=[]", f"tracking_uri=sqlite:///{folder.parent / 'mlflow.db'}", f"dataset=folder:{folder}"]
    options = [part for setting in [*few, *settings] for part in ("--set", setting)]
    command = [sys.executable, str(REPOSITORY / "study" / "run.py"), "quick", "--output", str(folder.parent), *options]
    environment = os.environ | {"RAY_ADDRESS": ray_address}
    done = subprocess.run(
        command,
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=240 * crowding(),
        env=environment,
    )
    report = folder.parent / "quick" / "report.html"
    page = report.read_text(encoding="utf-8") if report.exists() else ""
    return done.returncode, " ".join((done.stdout + done.stderr).split()), page


@pytest.mark.slow
@pytest.mark.core
def test_mixed_microscope_images_go_from_command_to_report(tmp_path: Path, ray_address: str) -> None:
    folder = write_microscope_images(tmp_path / "scans")
    remedy = (
        r"1 of 300 images .* field 299.png \(image file is truncated\). Fix or remove them, or .*on_bad_image: skip"
    )
    with pytest.raises(DataError, match=remedy):
        load_splits(f"folder:{folder}", root=None, image_size=24)
    code, said, page = few_steps(folder, ray_address, "on_bad_image=skip")
    assert code == 0, said
    assert "a flat folder; 299 images: 239 train, 60 validation, no test split, which needs labels" in said
    assert "8, 12 and 16 bits; used as 3 x 24 x 24 uint16" in said
    assert "left out: 1 file that cannot be used as images (field 299.png)" in said
    assert "has no labels: the study can tell whether each task is learned" in said
    assert "left out: 1 file that cannot be used as images (field 299.png)" in page
    assert "Without labels" in page
    assert "on the test split of" not in page


@pytest.mark.slow
def test_unequal_classes_in_groups_go_from_command_to_report(tmp_path: Path, ray_address: str) -> None:
    code, said, page = few_steps(write_plates(tmp_path / "cells"), ray_address, r"group_pattern=plate\d+")
    assert code == 0, said
    assert "285 images of 5 classes (10 of rare to 140 of round)" in said
    assert "12 groups" in said
    assert "few images of class rare (10)" in said
    assert "with every class counted equally" in said
    assert "on the test split of" in page
