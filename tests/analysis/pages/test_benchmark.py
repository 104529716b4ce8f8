"""The page of the small-data benchmark: one row per task, number of images and strength, compared with untrained."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.pages.benchmark import benchmark, benchmark_frame
from analysis.pages.parts import Part
from analysis.pages.series import read_parts
from study.series import load_series
from tests.analysis.simulated_studies import simulate_series

CHANGES = ["cifar10.tasks=[rotation]", "cifar10.ablate.seeds=3", "cifar10.ablate.sizes=[100,1000]"]


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Part:
    """The first part of the benchmark on simulated trials, with one task, two sizes and three seeds."""
    series = load_series("benchmark", CHANGES).simulated()
    first = type(series)({"cifar10": series.parts["cifar10"]}, series.name, series.page)
    return read_parts(simulate_series(first, tmp_path_factory.mktemp("series")))["cifar10"]


@pytest.mark.core
@pytest.mark.slow
def test_each_cell_is_compared_with_the_untrained_networks_of_its_seeds(part: Part):
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
def test_the_page_counts_the_cells_that_are_better_and_shows_them_all(part: Part):
    frame = benchmark_frame(part)
    [sentence], [section] = benchmark({"cifar10": part})
    assert sentence.startswith(f"**cifar10**: {(frame['answer'] == 'better').sum()} of 6 cells")
    assert len(section.blocks[0].rows) == 6  # type: ignore[union-attr]


def test_a_study_without_trained_cells_says_so():
    assert "No cell has been trained" in benchmark({})[1][0].blocks[0].text  # type: ignore[union-attr]


@pytest.mark.core
@pytest.mark.slow
def test_every_part_of_the_preset_can_be_simulated(tmp_path: Path):
    series = load_series("benchmark", [f"{name}.ablate.seeds=2" for name in ("cifar10", "fashion", "shapes")])
    parts = read_parts(simulate_series(series.simulated(), tmp_path))
    assert list(parts) == ["cifar10", "fashion", "shapes", "photographs"]
    assert [len(benchmark_frame(each)) for each in parts.values()] == [48, 48, 48, 24]
