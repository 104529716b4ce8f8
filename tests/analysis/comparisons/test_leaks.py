"""Probes on test images with and without a near duplicate among the training images, from a study's records."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.comparisons.leaks import leak_effects, leaked_images
from analysis.data.per_image import PerImage
from analysis.data.study import Study
from analysis.report.blocks import Folded, Text
from analysis.report.sections.leaks import leak_findings, leak_warnings, near_duplicates
from trainables.errors import UserError
from trainables.per_image import pack
from trainables.trial import RANDOM_INIT

N, N_LEAKED, NAME = 400, 40, "plates"
COLUMN = f"probe/{NAME}/linear"
LEAKED = np.arange(N) < N_LEAKED


def correct(leaked: float, others: float) -> np.ndarray:
    """Return whether each test image is right, with these shares of the two kinds."""
    return np.where(LEAKED, np.arange(N) < round(leaked * N_LEAKED), np.arange(N) - N_LEAKED < others * (N - N_LEAKED))


def study(trials: dict[str, tuple[str, np.ndarray | None]], *, leaked: np.ndarray = LEAKED, n_moved: int = 0) -> Study:
    rows = [
        {"trial_id": key, "task": task, "probe_split": "test", COLUMN: np.nan if array is None else array.mean()}
        for key, (task, array) in trials.items()
    ]
    packed = {key: {COLUMN: pack(array)} for key, (_, array) in trials.items() if array is not None}
    leaks = {"policy": "allow", "n_moved": n_moved, "test": pack(leaked), "validation": pack(leaked[:10])}
    datasets = {NAME: {"leaks": leaks}, "clean": {}}
    return Study(
        "copies",
        pd.DataFrame(rows),
        pd.DataFrame(),
        datasets=datasets,
        per_image=PerImage(lambda trial_id: packed.get(trial_id, {})),
    )


def said(one: Study) -> str:
    blocks = list(near_duplicates(SimpleNamespace(study=one)))  # type: ignore[arg-type]
    assert all(isinstance(block, Text | Folded) for block in blocks)
    return " ".join(block.text for block in blocks if isinstance(block, Text))


def test_accuracies_with_and_without_copies_are_means_over_seeds_and_the_baselines_come_last() -> None:
    one = study({
        "u": (RANDOM_INIT, correct(0.5, 0.5)),
        "a": ("rotation", correct(1.0, 0.5)),
        "b": ("rotation", correct(0.8, 0.6)),
        "old": ("rotation", None),
    })  # fmt: skip
    found = leak_effects(one, one.runs)
    assert found["task"].tolist() == ["rotation", RANDOM_INIT]
    row = found.iloc[0]
    assert (row["n_seeds"], row["n_leaked"], row["n_others"]) == (2, N_LEAKED, N - N_LEAKED)
    assert row["leaked"] == pytest.approx(0.9)
    assert row["others"] == pytest.approx(0.55)
    assert row["accuracy"] == pytest.approx(0.585)
    assert row["ci_low"] < row["difference"] < row["ci_high"]


def test_the_report_says_by_how_much_the_probe_is_flattered_only_where_shown() -> None:
    flattered = said(study({"a": ("rotation", correct(0.95, 0.5))}))
    assert "40 of 400 test images have one among the training images" in flattered
    assert "rotation is right more often on them than on the other images (0.950 and 0.500)" in flattered
    assert "without them, the accuracy is 0.500 instead of 0.545" in flattered
    equal = said(study({"a": ("rotation", correct(0.55, 0.5))}))
    assert "rotation is not shown to be right more often on them" in equal


def test_where_every_test_image_has_a_copy_nothing_can_be_said() -> None:
    one = study({"a": ("rotation", correct(1, 1))}, leaked=np.ones(N, bool))
    assert "every test image has one among the training images, so nothing shows" in said(one)
    assert leak_findings(SimpleNamespace(study=one)) == [said(one)]  # type: ignore[arg-type]


def test_the_summary_has_only_what_is_shown() -> None:
    equal, better = (study({"a": ("rotation", correct(share, 0.5))}) for share in (0.55, 0.95))
    assert leak_findings(SimpleNamespace(study=equal)) == []  # type: ignore[arg-type]
    assert len(leak_findings(SimpleNamespace(study=better))) == 1  # type: ignore[arg-type]


def test_what_was_moved_is_said_and_nothing_is_said_without_copies() -> None:
    none = np.zeros(N, bool)
    assert said(study({"a": ("rotation", correct(1, 1))}, leaked=none, n_moved=12)) == (
        "**Near duplicates in plates**: 12 images moved to keep them on one side of the splits."
    )
    assert not said(study({"a": ("rotation", correct(1, 1))}, leaked=none))


def test_an_evaluation_of_other_images_is_left_out_and_damage_is_named() -> None:
    one = study({"a": ("rotation", np.ones(N - 1, bool))})
    assert leak_effects(one, one.runs).empty
    one.datasets[NAME]["leaks"]["test"] = "bool:400:AAAA"
    with pytest.raises(UserError, match="near duplicates of plates: damaged"):
        leaked_images(one, NAME)


def test_the_first_screen_says_what_leaks_and_what_it_changes() -> None:
    shown = leak_warnings(SimpleNamespace(study=study({"a": ("rotation", correct(0.95, 0.5))})))  # type: ignore[arg-type]
    assert shown == [
        "**40 of 400 test images of plates have a near duplicate among the training images**: on the others, a linear "
        "classifier on rotation gets 50.0 of 100 right, on all 54.5."
    ]
    unprobed = leak_warnings(SimpleNamespace(study=study({"old": ("rotation", None)})))  # type: ignore[arg-type]
    assert unprobed[0].endswith("training images**, so the scores on it may be too high for new images.")
    none = study({"a": ("rotation", correct(1, 1))}, leaked=np.zeros(N, bool))
    assert leak_warnings(SimpleNamespace(study=none)) == []  # type: ignore[arg-type]
