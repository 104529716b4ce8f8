"""The page of the small-data benchmark: one row per task, number of images and strength, compared with untrained."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from analysis.pages.benchmark import _table, benchmark, benchmark_frame
from analysis.pages.parts import Part
from analysis.pages.series import read_parts
from analysis.report.blocks import Folded, Gallery
from study.series import load_series
from tests.analysis.simulated_studies import simulate_series

PARTS = ("cifar10", "shapes", "photographs")
CHANGES = [f"{part}.{change}" for part in PARTS for change in ("tasks=[rotation]", "ablate.seeds=3")]

SIZES = ["cifar10.ablate.sizes=[100,1000]", "shapes.ablate.sizes=[100,null]", "shapes.n_images=null"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Part]:
    """Three parts of the benchmark on simulated trials, with one task, two sizes and three seeds."""
    series = load_series("benchmark", [*CHANGES, *SIZES]).simulated()
    chosen = replace(series, parts={name: series.parts[name] for name in PARTS})
    return read_parts(simulate_series(chosen, tmp_path_factory.mktemp("series")))


@pytest.mark.core
@pytest.mark.slow
def test_each_cell_is_compared_with_the_untrained_networks_of_its_seeds(parts: dict[str, Part]):
    part = parts["cifar10"]
    frame = benchmark_frame(part)
    cells = [(100, 0.0), (100, 0.5), (100, 1.0), (1000, 0.0), (1000, 0.5), (1000, 1.0)]
    assert list(zip(frame["n_images"], frame["augmentation_strength"], strict=True)) == cells
    assert (frame["n_seeds"] == 3).all()
    runs = part.study.runs.query("phase == 'ablate'")
    metric = frame["metric"].iloc[0]
    untrained = runs.loc[runs["task"] == "random_init", metric].mean()
    for row in frame.itertuples():
        own = runs.query(f"task == 'rotation' and n_images == {row.n_images}")
        own = own.loc[own["augmentation_strength"] == row.augmentation_strength, metric]
        assert row.mean_difference == pytest.approx(own.mean() - untrained)


@pytest.mark.core
@pytest.mark.slow
def test_the_page_counts_the_cells_that_are_better_and_shows_them_all(parts: dict[str, Part]):
    part = parts["cifar10"]
    frame = benchmark_frame(part)
    [sentence], [section] = benchmark({"cifar10": part})
    better, worse = ((frame["answer"] == each).sum() for each in ("better", "worse"))
    assert sentence.startswith(f"**cifar10**: of 6 cells, {better} are shown to be better than untrained")
    assert f"{worse} worse" in sentence
    assert sentence.endswith("; 6 have too few seeds to test.") == (frame["answer"] == "too few seeds").all()
    [picture] = next(block for block in section.blocks if isinstance(block, Gallery)).pictures
    assert "100 images at strength 0 " in picture.alt
    assert len(picture.draw().lines) > 3
    [folded] = [block for block in section.blocks if isinstance(block, Folded)]
    assert len(folded.blocks[0].rows) == 6  # type: ignore[union-attr]


@pytest.mark.core
@pytest.mark.slow
def test_cells_of_all_images_are_in_the_table_and_not_in_the_figure(parts: dict[str, Part]):
    [_], [section] = benchmark({"shapes": parts["shapes"]})
    [picture] = next(block for block in section.blocks if isinstance(block, Gallery)).pictures
    [folded] = [block for block in section.blocks if isinstance(block, Folded)]
    assert {row[3] for row in folded.blocks[0].rows} == {"100", "all"}  # type: ignore[union-attr]
    assert [tick.get_text() for tick in picture.draw().get_xticklabels()] == ["100"]


def test_a_study_without_trained_cells_says_so():
    assert "No cell has been trained" in benchmark({})[1][0].blocks[0].text  # type: ignore[union-attr]


@pytest.mark.core
@pytest.mark.slow
def test_photographs_without_labels_are_compared_by_the_probe_on_labeled_images(parts: dict[str, Part]):
    frame = benchmark_frame(parts["photographs"])
    assert set(frame["metric"]) == {"probe/cifar10/linear"}
    assert frame["n_images"].tolist() == [100, 100, 100, 200, 200, 200]


def test_a_strength_is_shown_as_it_was_set():
    row = {"task": "rotation", "answer": "better", "verdict": None, "n_images": 100, "augmentation_strength": 0.25}
    numbers = {"mean": 0.5, "baseline_mean": 0.4, "mean_difference": 0.1, "ci_low": 0.0, "ci_high": 0.2, "n_seeds": 3}
    assert _table("a", pd.DataFrame([{**row, **numbers, "metric": "probe/a/linear"}])).rows[0][4] == "0.25"
