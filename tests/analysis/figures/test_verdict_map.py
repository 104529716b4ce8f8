"""Map of verdicts: every trial has a square at its place, with its verdict's color and letter."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color, to_rgb

from analysis.convergence import CATALOG, VERDICTS
from analysis.figures import verdict_map
from analysis.records.phases import FRESH_SEEDS
from tests.analysis.figure_helpers import ablation, blank, cut_off, legend, overlapping_rows, row_names
from trainables.errors import UserError


def random_verdicts(runs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    drawn = np.random.default_rng(seed).choice(VERDICTS, size=len(runs))
    return pd.DataFrame({"trial_id": runs["trial_id"], "verdict": drawn, "evidence": "", "cure": ""})


def searched(n: int = 60, tasks: tuple[str, ...] = ("rotation", "simclr")) -> pd.DataFrame:
    lr = np.random.default_rng(1).permutation(np.geomspace(1e-5, 1, n * len(tasks)))
    rows = [{"task": task, "cell": "", "seed": 0, "phase": "search"} for task in tasks for _ in range(n)]
    return pd.DataFrame(rows).assign(trial_id=[f"t{i}" for i in range(len(rows))], lr=lr)


def squares(ax: Axes) -> dict[tuple[float, float], str]:
    """Return the verdict at each place, by color."""
    found = {}
    for collection in ax.collections:
        (verdict,) = [name for name, known in CATALOG.items() if same_color(known.color, collection.get_facecolor()[0])]
        for path in collection.get_paths():
            x, y = path.get_extents().min + path.get_extents().max
            found[round(x / 2, 3), round(y / 2, 3)] = verdict
    return found


def letters(ax: Axes) -> dict[tuple[float, float], str]:
    by_letter = {verdict.letter: name for name, verdict in CATALOG.items()}
    texts = [(text.get_position(), text.get_text()) for text in ax.texts]
    return {(round(x, 3), round(y, 3)): by_letter[letter] for (x, y), letter in texts if letter in by_letter}


def test_every_verdict_has_a_color_a_letter_and_a_legible_one():
    assert len({verdict.letter for verdict in CATALOG.values()}) == len(VERDICTS)
    for one, other in itertools.combinations(CATALOG.values(), 2):
        assert np.abs(np.subtract(to_rgb(one.color), to_rgb(other.color))).max() > 0.1


def test_a_square_shows_its_verdict_by_color_and_by_letter_and_the_legend_counts():
    runs = searched()
    verdicts = random_verdicts(runs)
    ax = verdict_map(runs, verdicts, blank())
    assert squares(ax) == letters(ax)
    assert len(squares(ax)) == len(runs)
    counts = verdicts["verdict"].value_counts()
    assert sorted(legend(ax)) == sorted(f"{verdict.replace('_', ' ')} ({counts[verdict]})" for verdict in counts.index)


def test_sixty_trials_of_a_search_are_read_line_by_line_from_the_lowest_lr():
    runs = searched()
    verdicts = random_verdicts(runs)
    ax = verdict_map(runs, verdicts, blank())
    assert row_names(ax) == ["rotation", "simclr"]
    drawn = squares(ax)
    places = sorted(drawn, key=lambda place: (place[1], place[0]))
    by_lr = runs.merge(verdicts, on="trial_id").sort_values(["task", "lr"])
    assert [drawn[place] for place in places] == list(by_lr["verdict"])
    assert len({y for _, y in places}) == 6
    assert ax.get_xlabel() == "trials by lr, lowest first, line by line"


def test_cells_by_seeds_form_a_grid_with_a_gap_where_a_trial_is_missing():
    runs = ablation(["base", "no augmentation"], seeds=5).drop(index=7)
    verdicts = random_verdicts(runs)
    ax = verdict_map(runs, verdicts, blank())
    assert row_names(ax) == ["base", "no augmentation"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["100", "101", "102", "103", "104"]
    assert ax.get_xlabel() == "seed"
    expected = {
        (float(row.seed - 100), float(row.cell != "base")): row.verdict
        for row in runs.merge(verdicts, on="trial_id").itertuples()
    }
    assert squares(ax) == expected
    assert (2.0, 1.0) not in expected


def test_fresh_seeds_are_shown_short():
    runs = ablation(["base", "no augmentation"], seeds=5)
    runs["seed"] += FRESH_SEEDS - runs["seed"].min()
    ax = verdict_map(runs, random_verdicts(runs), blank())
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2", "3", "4"]
    assert ax.get_xlabel() == "seed"


def test_next_to_each_row_is_how_many_converged():
    runs = ablation(["base", "no augmentation"], seeds=5).drop(index=7)
    verdicts = random_verdicts(runs).assign(
        verdict=["converged"] * 5 + ["converged", "at_chance", "failed", "converged"]
    )
    ax = verdict_map(runs, verdicts, blank())
    assert [text.get_text() for text in ax.texts if " of " in text.get_text()] == ["5 of 5 ✓", "2 of 4 ✓"]


def test_rows_and_columns_can_be_asked_for():
    runs = searched(6).assign(n_images=[200, 1000] * 6, batch_size=[32, 64, 128, 32, 64, 128] * 2)
    ax = verdict_map(
        runs.query("task == 'rotation'"), random_verdicts(runs), blank(), rows=["n_images"], columns="batch_size"
    )
    assert row_names(ax) == ["200", "1000"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["32", "64", "128"]
    sizes = runs.assign(n_images=pd.Series([200, None] * 6, dtype="Int64"))
    assert row_names(verdict_map(sizes, random_verdicts(runs), blank(), rows=["n_images"], columns="lr")) == [
        "200",
        "all",
    ]


def test_several_tasks_name_their_rows_and_trials_without_a_verdict_are_left_out():
    runs = ablation(["base", "no augmentation"], seeds=3, tasks=("rotation", "simclr"))
    verdicts = random_verdicts(runs).iloc[:-3]
    ax = verdict_map(runs, verdicts, blank())
    assert row_names(ax) == ["rotation: base", "rotation: no augmentation", "simclr: base"]
    assert ax.get_title(loc="left") == "ablate: 9 verdicts"


def test_letters_stay_inside_their_squares():
    runs = searched(60, ("rotation", "context_encoder", "simclr", "context_prediction"))
    ax = verdict_map(runs, random_verdicts(runs), blank())
    ax.figure.draw_without_rendering()
    side = abs(np.diff(ax.transData.transform([(0, 0), (0.92, 0)])[:, 0])).item()
    marks = [text for text in ax.texts if len(text.get_text()) == 1]
    assert len(marks) == 240
    assert max(text.get_window_extent().width for text in marks) < side


def test_more_than_a_thousand_trials_are_small_squares_without_letters_that_fit_a_page():
    runs = searched(1200, ("rotation", "simclr"))
    verdicts = random_verdicts(runs)
    width, height = verdict_map(runs, verdicts).figure.get_size_inches()
    assert (width < 12, height < 5) == (True, True)
    ax = verdict_map(runs, verdicts, blank(width, height))
    assert Counter(squares(ax).values()) == Counter(verdicts["verdict"])
    assert not letters(ax)
    assert not cut_off(ax)


@pytest.mark.parametrize("own_size", [False, True])
def test_twenty_five_cells_by_eight_seeds_can_be_read(own_size: bool):
    runs = ablation(seeds=8)
    ax = verdict_map(runs, random_verdicts(runs), None if own_size else blank())
    assert len(squares(ax)) == 200
    assert not cut_off(ax)
    assert not overlapping_rows(ax)


@pytest.mark.parametrize("own_size", [False, True])
@pytest.mark.parametrize("is_grid", [False, True])
@pytest.mark.parametrize(
    ("n", "tasks"),
    [(1, ("rotation",)), (5, ("context_prediction",)), (2, ("rotation", "simclr")), (12, ("rotation", "simclr"))],
)
def test_a_map_of_few_squares_is_inside_the_figure(n: int, tasks: tuple[str, ...], is_grid: bool, own_size: bool):
    runs = searched(n, tasks)
    if is_grid:
        runs = runs.assign(seed=[place % n for place in range(len(runs))])
    ax = verdict_map(runs, random_verdicts(runs), None if own_size else blank())
    assert not cut_off(ax)


def test_frames_that_cannot_be_drawn_are_refused_with_what_is_missing_and_what_makes_it():
    runs = searched(3)
    with pytest.raises(UserError, match=r"without 'verdict': pass what analysis\.convergence\.verdicts returns"):
        verdict_map(runs, runs, blank())
    with pytest.raises(UserError, match=r"none of these 6 runs has a verdict; analysis\.convergence\.verdicts"):
        verdict_map(runs, random_verdicts(runs).assign(trial_id="other"), blank())
    with pytest.raises(UserError, match="unknown verdict bored; known are failed, diverged"):
        verdict_map(runs, random_verdicts(runs).assign(verdict="bored"), blank())
    with pytest.raises(UserError, match="runs without 'depth'"):
        verdict_map(runs, random_verdicts(runs), blank(), columns="depth")
