"""The transfer matrix: every pair of data sets once, each compared with untrained encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from analysis.figures import transfer_map
from analysis.pages.parts import Part
from analysis.pages.series import read_parts, write_page
from analysis.pages.transfer import transfer_frame, transfer_matrix
from study.series import load_series
from tests.analysis.report.pages import Page
from tests.analysis.simulated_studies import simulate_series
from trainables.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_series(load_series("transfer").simulated(), tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="module")
def parts(folder: Path) -> dict[str, Part]:
    return read_parts(folder)


def test_every_data_set_trained_on_meets_every_one_probed_on_once(parts: dict[str, Part]):
    frame = transfer_frame(*parts.values())
    assert not frame.duplicated(["task", "trained_on", "probed_on"]).any()
    assert set(frame["trained_on"]) == {"cifar10", "fashion_mnist", "shapes", "voc2012"}
    assert set(frame["probed_on"]) == {"cifar10", "fashion_mnist", "shapes"}
    assert len(frame) == 2 * 4 * 3
    assert (frame["n_seeds"] == 5).all()


def test_a_difference_is_the_mean_over_that_of_untrained_encoders_of_the_same_seeds(parts: dict[str, Part]):
    row = transfer_frame(*parts.values()).iloc[0]
    runs = parts["cifar10"].study.tested.groupby("task")[row["metric"]].mean()
    assert row["mean_difference"] == pytest.approx(runs["rotation"] - runs["random_init"])


def test_the_map_has_random_init_as_its_last_row(parts: dict[str, Part]):
    frame = transfer_frame(*parts.values()).query("task == 'simclr'")
    ax = transfer_map(frame, Figure(figsize=(8, 5)).subplots())
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["cifar10", "fashion_mnist", "shapes", "voc2012", "untrained"]
    written = {text.get_text() for text in ax.texts}
    assert f"{frame['baseline_mean'].iloc[0]:.3f}" in written
    assert f"{frame['mean'].iloc[0]:.3f}\n{frame['answer'].iloc[0]}" in written


def test_several_tasks_in_one_map_are_refused(parts: dict[str, Part]):
    with pytest.raises(UserError, match="several tasks in one map"):
        transfer_map(transfer_frame(*parts.values()), Figure().subplots())


@pytest.mark.core
@pytest.mark.slow
def test_the_page_has_a_map_a_task_and_says_what_is_best_on_each_data_set(folder: Path):
    page = Page(write_page(folder))
    assert page.unclosed == []
    assert len(page.images) == 2
    for name in ("cifar10", "fashion_mnist", "shapes"):
        assert f"On {name} (test split), an untrained encoder scores" in page.section("summary")
    assert "transfer_frame(cifar10, fashion, shapes, photographs)" in page.section("reproduce")


def test_without_an_evaluation_the_page_says_so():
    summary, (section,) = transfer_matrix({})
    assert summary == []
    assert "not" not in section.title
    assert section.blocks[0].text == "Nothing has been evaluated on the test split yet."  # type: ignore[union-attr]
