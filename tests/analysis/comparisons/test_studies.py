"""Studies compared with each other: pairs of seeds and images where there are any, independent means elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import analysis
from analysis.__main__ import app
from analysis.comparisons import TOO_FEW
from analysis.comparisons.settings import NOT_RECORDED
from analysis.comparisons.studies import OTHER_IMAGES, SAME_IMAGES, UNTRAINED
from analysis.data.study import Study
from study.config.validation import check_config
from study.tracking.sync import sync
from tests.analysis.report.pages import Page
from tests.analysis.simulated_studies import simulate
from trainables.errors import UserError

COLUMN = "probe/cifar10/linear"


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Simulated studies: `wide`, with the images and seeds of `narrow`; `small`, with other images; `later`, seeds."""
    output = tmp_path_factory.mktemp("studies")
    changes = {"narrow": {"encoder": {"width": 4}}, "wide": {}, "small": {"max_train": 500}, "later": {}}
    common = {"simulate": True, "dataset": "cifar10", "tasks": ["rotation"], "budget_steps": 400, "report_every": 200}
    common |= {"search": {"num_samples": 2}, "confirm": {"top_k": 1, "seeds": 5}}
    return {name: simulate(check_config({"name": name, **common, **own}), output) for name, own in changes.items()}


def replaced(study: Study, **changes: object) -> Study:
    return Study(**{**vars(study), **changes})


def test_the_same_seeds_and_images_are_paired(studies: dict[str, Path]):
    found = analysis.compare(studies["narrow"], studies["wide"])
    row = found.effects.query("task == 'rotation'").iloc[0]
    assert (row["design"], row["n_seeds"], row["test"]) == (SAME_IMAGES, 5, "crossed t")
    values = [
        each.runs.query("phase == 'evaluate' and task == 'rotation'").set_index("seed")[COLUMN]
        for each in found.studies.values()
    ]
    pairs = found.differences.query("task == 'rotation'").set_index("seed")["difference"]
    pd.testing.assert_series_equal(pairs.sort_index(), (values[1] - values[0]).sort_index(), check_names=False)
    assert set(found.effects["task"]) == {"rotation", UNTRAINED}


def test_the_settings_that_differ_are_named_and_no_other(studies: dict[str, Path]):
    settings = analysis.compare(studies["narrow"], studies["wide"]).settings
    named = settings.query("kind == 'setting'").set_index("name")
    assert list(named.index) == ["name", "encoder.width"]
    assert named.loc["encoder.width"].tolist()[1:] == ["4", "24"]
    assert "rotation.width" in set(settings.query("kind == 'chosen'")["name"])
    assert settings.query("kind == 'data'").empty


def test_a_setting_that_an_earlier_version_lacked_was_not_recorded(studies: dict[str, Path]):
    earlier = analysis.load(studies["wide"])
    config = {name: value for name, value in earlier.config.items() if name != "stack"}
    settings = analysis.compare(studies["narrow"], replaced(earlier, config=config)).settings
    assert settings.set_index("name").loc["stack", "wide"] == NOT_RECORDED


def test_other_seeds_on_the_same_images_are_paired_in_their_order(studies: dict[str, Path]):
    study = analysis.load(studies["later"])
    shifted = replaced(study, runs=study.runs.assign(seed=study.runs["seed"] + 3))  # two of five seeds are shared
    found = analysis.compare(studies["wide"], shifted).effects.query("task == 'rotation'").iloc[0]
    assert (found["design"], found["n_seeds"]) == (SAME_IMAGES, 5)


def test_own_photographs_are_known_by_their_fingerprint_too(studies: dict[str, Path]):
    folder = "folder:/home/me/photos"
    loaded = [analysis.load(studies[name]) for name in ("narrow", "wide")]
    on_photographs = [
        replaced(
            each,
            runs=each.runs.rename(columns=lambda name: name.replace("probe/cifar10/", f"probe/{folder}/")),
            datasets={folder: each.datasets["cifar10"]},
        )
        for each in loaded
    ]
    row = analysis.compare(*on_photographs).effects.query("task == 'rotation'").iloc[0]
    assert (row["metric"], row["design"]) == (f"probe/{folder}/linear", SAME_IMAGES)


def test_other_images_are_compared_as_independent_means(studies: dict[str, Path]):
    found = analysis.compare(studies["narrow"], studies["wide"], studies["small"])
    row = found.effects.query("task == 'rotation' and cell == 'small'").iloc[0]
    assert (row["design"], row["test"]) == (OTHER_IMAGES, "unpaired t")
    assert row["ci_low"] < row["mean_difference"] < row["ci_high"]
    assert np.isnan(row["p_equivalence"])
    assert "small" not in set(found.differences["cell"])


def test_other_images_without_per_image_results_are_not_tested(studies: dict[str, Path]):
    bare = replaced(analysis.load(studies["small"]), per_image=analysis.data.per_image.PerImage())
    row = analysis.compare(studies["wide"], bare).effects.query("task == 'rotation'").iloc[0]
    assert np.isnan(row["ci_low"])
    assert "choice of images is not excluded" in row["note"]


def test_a_failed_seed_keeps_a_study_from_being_better(studies: dict[str, Path]):
    study = analysis.load(studies["wide"])
    runs = study.runs.copy()
    own = runs.index[(runs["phase"] == "evaluate") & (runs["task"] == "rotation")]
    runs.loc[own, COLUMN] += 0.2
    for column in (own[0], own[1]):
        runs.loc[column, "status"] = "FAILED"
    row = analysis.compare(studies["narrow"], replaced(study, runs=runs)).effects.query("task == 'rotation'").iloc[0]
    assert row["n_failed"] == 2
    assert row["answer"] in ("inconclusive", TOO_FEW)


@pytest.mark.parametrize("lacking", ["narrow", "wide"])
def test_a_metric_that_a_study_never_measured_is_not_one_that_its_seeds_failed(studies: dict[str, Path], lacking: str):
    loaded = {name: analysis.load(studies[name]) for name in ("narrow", "wide", "later")}
    without = replaced(loaded[lacking], runs=loaded[lacking].runs.assign(**{COLUMN: np.nan}))
    found = analysis.compare(*(loaded | {lacking: without}).values()).effects.query("task == 'rotation'")
    assert list(found["cell"]) == ([] if lacking == "narrow" else ["later"])


def test_without_a_test_split_the_metric_of_the_choice_is_compared(studies: dict[str, Path]):
    loaded = [analysis.load(studies[name]) for name in ("narrow", "wide")]
    unlabeled = [replaced(each, runs=each.runs.query("phase != 'evaluate'")) for each in loaded]
    (_, row), *others = analysis.compare(*unlabeled).effects.iterrows()
    assert not others
    assert (row["metric"], row["split"], row["n_seeds"]) == ("last/probe/linear", "validation", 5)


def test_two_studies_of_one_name_are_told_apart(studies: dict[str, Path]):
    found = analysis.compare(studies["wide"], studies["wide"])
    assert list(found.studies) == ["wide (1)", "wide (2)"]
    assert (found.effects["mean_difference"] == 0).all()


def test_what_cannot_be_compared_is_said_in_one_line(studies: dict[str, Path]):
    with pytest.raises(UserError, match="at least two studies"):
        analysis.compare(studies["wide"])
    with pytest.raises(UserError, match=r"metric = 'probe/cifar10/x': not a result .* there are: probe/cifar10/linear"):
        analysis.compare(studies["wide"], studies["small"], metric="probe/cifar10/x")
    with pytest.raises(UserError, match="no such folder"):
        analysis.compare(studies["wide"], "nowhere")


def test_the_command_writes_a_page_of_a_folder_and_a_study_in_mlflow(
    studies: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts of such a store
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    sync(studies["wide"], uri)
    ended = CliRunner().invoke(
        app, ["compare", str(studies["narrow"]), f"{uri}#wide", "--output", str(tmp_path / "page")]
    )
    assert ended.exit_code == 0, ended.output
    page = Page(tmp_path / "page" / "report.html")
    assert page.unclosed == []
    assert len(page.images) == 1
    assert "encoder.width" in page.section("settings")
    assert "rotation: wide" in page.section("summary")
    assert SAME_IMAGES in page.section("results")
    assert f"analysis.compare('{studies['narrow']}', '{uri}#wide')" in page.section("reproduce")
