"""Survival curves and the data-size law: curves at the values of the frames, censoring and held-out sizes marked."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from analysis.comparisons import data_size_law, kaplan_meier
from analysis.figures import size_law, survival_curves
from tests.analysis.figure_helpers import CELLS, blank, cut_off, legend
from trainables.errors import UserError

BUDGET = 500
METRIC = "probe/shapes/linear"


def times(cells: dict[str, list[int]], task: str = "rotation") -> pd.DataFrame:
    """Return what `steps_to` gives for steps of each cell's seeds; BUDGET is a seed without the event."""
    rows = [
        {
            "task": task,
            "cell": cell,
            "seed": seed,
            "trial_id": f"{cell}{seed}",
            "steps": step,
            "observed": step < BUDGET,
        }
        for cell, steps in cells.items()
        for seed, step in enumerate(steps)
    ]
    found = pd.DataFrame(rows)
    return found.assign(observed=found["steps"] < BUDGET)


def curve(ax: Axes, name: str) -> tuple[np.ndarray, np.ndarray, str]:
    (line,) = [line for line in ax.lines if str(line.get_label()).startswith(name)]
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float), line.get_drawstyle()


def test_a_curve_falls_at_its_events_and_ends_at_the_budget():
    ax = survival_curves(kaplan_meier(times({"base": [100, 200, 200, BUDGET]})), blank())
    steps, share, style = curve(ax, "base")
    assert style == "steps-post"
    np.testing.assert_allclose(steps, [0, 100, 200, BUDGET])
    np.testing.assert_allclose(share, [1, 0.75, 0.25, 0.25])
    assert legend(ax) == ["base (3 of 4 shown to have left chance)", "seeds that ended without showing it"]
    assert ax.get_ylabel() == "share not shown to\nhave left chance"
    assert ax.get_title(loc="left") == "rotation: steps to take-off"


def test_a_frame_that_begins_at_its_first_event_gets_a_start():
    found = kaplan_meier(times({"base": [100, 200]}))
    ax = survival_curves(found.loc[found["step"] > 0], blank())
    np.testing.assert_allclose(curve(ax, "base")[0], [0, 100, 200])
    np.testing.assert_allclose(curve(ax, "base")[1], [1, 0.5, 0])


def test_a_tick_marks_seeds_that_ended_without_the_event_and_only_those():
    cells = {"some": [100, BUDGET, BUDGET], "all": [100, 200, 300]}
    ax = survival_curves(kaplan_meier(times(cells)), blank(), event="converged")
    ticks = [line.get_data() for line in ax.lines if line.get_marker() == "|" and len(line.get_xdata())]
    assert [(tuple(x), tuple(y)) for x, y in ticks] == [((BUDGET,), (pytest.approx(2 / 3),))]
    assert "seeds that ended unconverged" in legend(ax)
    none = survival_curves(kaplan_meier(times({"all": [100, 200, 300]})), blank())
    assert legend(none) == ["all (3 of 3 shown to have left chance)"]


def test_bands_are_the_intervals_of_up_to_three_cells():
    cells = {name: [100, 200, 300, BUDGET, BUDGET] for name in ("a", "b", "c", "d")}
    found = kaplan_meier(times(cells))
    ax = survival_curves(found[found["cell"] != "d"], blank())
    assert len(ax.collections) == 3
    heights = ax.collections[0].get_paths()[0].vertices[:, 1]
    own = found[found["cell"] == "a"]
    assert heights.min() == pytest.approx(own["ci_low"].min())
    assert heights.max() == pytest.approx(own["ci_high"].max())
    assert not survival_curves(found, blank()).collections


def test_eight_cells_differ_in_color_style_and_width_and_more_are_drawn_alike():
    eight = survival_curves(kaplan_meier(times({cell: [100, 200, 300, BUDGET, BUDGET] for cell in CELLS[:8]})), blank())
    drawn = [line for line in eight.lines if line.get_drawstyle() == "steps-post"]
    assert len({line.get_color() for line in drawn}) == len({line.get_linewidth() for line in drawn}) == 8
    assert len({str(line._unscaled_dash_pattern) for line in drawn}) == 8
    assert not cut_off(eight)
    many = survival_curves(kaplan_meier(times({cell: [100, 200, BUDGET] for cell in CELLS})), blank())
    assert legend(many) == [f"{len(CELLS)} cells", "seeds that ended without showing it"]


def test_a_survival_frame_that_lacks_something_says_so():
    found = kaplan_meier(times({"base": [100]}))
    with pytest.raises(UserError, match=r"survival without 'at_risk'.*analysis\.comparisons\.kaplan_meier"):
        survival_curves(found.drop(columns="at_risk"), blank())
    with pytest.raises(UserError, match="nothing to draw: survival without a row"):
        survival_curves(found.iloc[:0], blank())
    with pytest.raises(UserError, match="event = 'bored'"):
        survival_curves(found, blank(), event="bored")


def sized_runs(tasks: tuple[str, ...] = ("rotation",), sizes: tuple[int | None, ...] = (200, 500, 1500, 5000, None)):
    generator = np.random.default_rng(0)
    rows = [
        {"task": task, "phase": "ablate", "seed": seed, "n_images": n}
        | {METRIC: 0.6 - 2 * (n or 17000) ** -0.45 + generator.normal(0, 0.005)}
        for task in tasks
        for n in sizes
        for seed in range(5)
    ]
    return pd.DataFrame(rows).astype({"n_images": "Int64"})


def test_dots_are_seeds_and_the_line_is_the_law_thick_where_it_was_fitted():
    runs = sized_runs()
    laws = data_size_law(runs, METRIC, all_images=17000)
    ax = size_law(runs, laws, METRIC, blank(), all_images=17000)
    law = laws.iloc[0]
    (dots, ring) = [points for points in ax.collections if isinstance(points, PathCollection)][:2]
    np.testing.assert_allclose(np.sort(dots.get_offsets()[:, 1]), np.sort(runs[METRIC]))
    assert set(dots.get_offsets()[:, 0]) == {200, 500, 1500, 5000, 17000}
    thin, thick = sorted((line for line in ax.lines if len(line.get_xdata()) == 100), key=lambda x: x.get_linewidth())
    for line, last in ((thin, 17000), (thick, 5000)):
        n, y = (np.asarray(values, float) for values in line.get_data())
        np.testing.assert_allclose(y, law["a"] + law["b"] * n ** -law["c"])
        assert (n.min(), n.max()) == (200, pytest.approx(last))
    np.testing.assert_allclose(ring.get_offsets(), [[17000, law["observed"]]])
    (cross,) = [line.get_data() for line in ax.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert (cross[0][0], cross[1][0]) == (17000, law["predicted"])
    assert ax.get_xscale() == "log"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["200", "500", "1,500", "5,000", "17,000"]
    assert any(law["answer"] in text for text in legend(ax))


def test_means_are_over_the_seeds_that_the_law_was_fitted_to():
    runs = sized_runs()
    runs.loc[(runs["seed"] == 0) & (runs["n_images"] == 200), METRIC] = np.nan
    laws = data_size_law(runs, METRIC, all_images=17000)
    ax = size_law(runs, laws, METRIC, blank(), all_images=17000)
    (means,) = [line.get_ydata() for line in ax.lines if len(line.get_xdata()) == 5]
    whole = runs[runs["seed"] > 0]
    assert means[-1] == pytest.approx(whole.loc[whole["n_images"].isna(), METRIC].mean())
    assert means[-1] == pytest.approx(laws["observed"].iloc[0])


def test_too_few_sizes_show_their_seeds_and_no_law():
    runs = sized_runs(sizes=(200, 500, 1500))
    ax = size_law(runs, data_size_law(runs, METRIC), METRIC, blank())
    assert not [line for line in ax.lines if len(line.get_xdata()) == 100]
    assert "rotation: too few sizes" in legend(ax)


def test_a_law_without_runs_or_sizes_says_so():
    runs = sized_runs()
    laws = data_size_law(runs, METRIC, all_images=17000)
    with pytest.raises(UserError, match=r"all_images=50_000"):
        size_law(runs, laws, METRIC, blank())
    with pytest.raises(UserError, match=r"laws without 'c'.*analysis\.comparisons\.data_size_law"):
        size_law(runs, laws.drop(columns="c"), METRIC, blank(), all_images=17000)
    with pytest.raises(UserError, match="in the runs of simclr"):
        size_law(runs, laws.assign(task="simclr"), METRIC, blank(), all_images=17000)
    with pytest.raises(UserError, match="9 groups, but at most 8"):
        size_law(runs, pd.concat([laws] * 9), METRIC, blank(), all_images=17000)
