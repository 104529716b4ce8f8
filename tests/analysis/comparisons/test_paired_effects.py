"""Effects: each cell against its baseline by seeds; the numbers, the answers, and what ties do to them."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from analysis.comparisons import ANSWERS, effects, paired_differences
from analysis.comparisons.paired_effects import EFFECT_DTYPES, PAIR_DTYPES
from analysis.stats import paired
from tests.analysis.ablated_runs import METRIC, SPREAD, design, one_cell, only_effect, runs_of, with_value
from trainables.errors import UserError


@pytest.mark.parametrize("n", [5, 8, 12])
def test_a_frame_gives_exactly_the_numbers_of_the_arrays(n: int):
    rng = np.random.default_rng(n)
    base = rng.normal(0.5, 0.05, n)
    cells = {f"cell {i}": base + rng.normal(0.004 * i, 0.005, n) for i in range(4)}
    found = effects(
        runs_of({("a", name): values for name, values in ({"base": base} | cells).items()}), METRIC, margin=0.01
    ).set_index("cell")
    differences = np.array([values - base for values in cells.values()])
    test = paired.choose_test(n, 4, 0.05)
    p, p_equivalence = paired.p_value(differences, test), paired.equivalence_p(differences, 0.01, test)
    low, high = paired.t_interval(differences, 0.95)
    family_low, family_high = paired.t_interval(differences, 1 - 0.05 / 4)
    nothing = np.full(4, np.nan)
    bca_low, bca_high = paired.bca_interval(differences, 0.95) if n >= 10 else (nothing, nothing)
    expected = pd.DataFrame(
        {
            "mean": [values.mean() for values in cells.values()],
            "baseline_mean": base.mean(),
            "mean_difference": differences.mean(axis=1),
            "ci_low": low,
            "ci_high": high,
            "family_low": family_low,
            "family_high": family_high,
            "picked_low": family_low,
            "picked_high": family_high,
            "p": p,
            "p_holm": paired.holm(p),
            "hedges_g": paired.hedges_g(differences),
            "pairing_correlation": [np.corrcoef(values, base)[0, 1] for values in cells.values()],
            "smallest_detectable": paired.smallest_detectable(differences, 0.05 / 4),
            "p_equivalence": p_equivalence,
            "p_equivalence_holm": paired.holm(p_equivalence),
            "bca_low": bca_low,
            "bca_high": bca_high,
        },
        index=list(cells),
    )
    assert_frame_equal(
        found.loc[list(cells), list(expected)], expected, check_names=False, rtol=1e-9, check_index_type=False
    )
    assert set(found["test"]) == {test}


def test_true_effects_are_found_in_a_study_of_four_tasks_with_seeds_that_differ_more_than_cells():
    rng = np.random.default_rng(0)
    truth = {"big gain": 0.03, "big loss": -0.03, "nothing": 0.0, "next to nothing": 0.002, "gain": 0.01}
    tasks, n, noise, margin = ["rotation", "simclr", "context_encoder", "context_prediction"], 10, 0.003, 0.008
    cells = {}
    for task in tasks:
        seeds = rng.normal(0.5, 0.03, n)  # ten times the noise
        cells |= {(task, "base"): seeds + rng.normal(0, noise, n)}
        cells |= {(task, name): seeds + effect + rng.normal(0, noise, n) for name, effect in truth.items()}
    found = effects(runs_of(cells), METRIC, margin=margin)
    assert len(found) == len(tasks) * len(truth)
    answers = found.groupby("cell")["answer"].unique().map(set).to_dict()
    assert answers["big gain"] == {"better"}
    assert answers["big loss"] == {"worse"}
    assert answers["nothing"] == answers["next to nothing"] == {"equivalent"}
    assert answers["gain"] <= {"better", "equivalent", "inconclusive"}
    assert (found["pairing_correlation"] > 0.95).all()
    error = found["mean_difference"] - found["cell"].map(truth)
    assert (error.abs() < 4 * noise * np.sqrt(2 / n)).all()
    covered = (found["ci_low"] <= found["cell"].map(truth)) & (found["cell"].map(truth) <= found["ci_high"])
    assert covered.mean() > 0.8
    assert found["smallest_detectable"].between(noise, 4 * noise).all()
    unpaired = found["mean"].groupby(found["cell"]).std().mean()
    assert unpaired > found["smallest_detectable"].max() / 2  # without pairing, seeds would drown these effects


def test_columns_and_their_dtypes_are_those_declared_also_of_no_comparison():
    runs = one_cell(0.01 * SPREAD[:5])
    none = effects(runs, METRIC, designs=design(("a", "factorial", "cell", "")))
    assert len(none) == 0
    for found in (none, effects(runs, METRIC)):
        assert {name: str(dtype) for name, dtype in found.dtypes.items()} == EFFECT_DTYPES
    assert {name: str(dtype) for name, dtype in paired_differences(runs, METRIC).dtypes.items()} == PAIR_DTYPES


@pytest.mark.parametrize(("mode", "answers"), [("max", ("better", "worse")), ("min", ("worse", "better"))])
def test_mode_decides_what_is_better_and_nothing_else(mode: str, answers: tuple[str, str]):
    gained, lost = one_cell(0.02 + 0.003 * SPREAD[:6]), one_cell(-0.02 + 0.003 * SPREAD[:6])
    assert only_effect(gained, mode=mode)["answer"] == answers[0]
    assert only_effect(lost, mode=mode)["answer"] == answers[1]
    assert_frame_equal(
        effects(gained, METRIC, mode="max").drop(columns="answer"),
        effects(gained, METRIC, mode="min").drop(columns="answer"),
    )


def test_without_a_margin_nothing_is_called_equivalent():
    tiny = one_cell(1e-5 * SPREAD[:6])
    assert only_effect(tiny, margin=0.01)["answer"] == "equivalent"
    found = only_effect(tiny)
    assert found["answer"] == "inconclusive"
    assert np.isnan([found["p_equivalence"], found["p_equivalence_holm"]]).all()


def test_a_sure_difference_smaller_than_the_margin_is_equivalent_and_says_so():
    found = only_effect(one_cell(0.003 + 0.0005 * SPREAD[:6]), margin=0.01)
    assert found["p_holm"] < 0.05
    assert (found["answer"], found["note"]) == ("equivalent", "there is a difference, smaller than the margin")


def test_an_answer_needs_holms_p_and_the_note_says_where_the_interval_alone_would_have_told():
    base = 0.5 + 0.02 * np.cos(np.arange(5))
    cells = {("a", f"cell {i}"): base + 0.01 * np.roll(SPREAD[:5], i) for i in range(5)}
    cells[("a", "base")] = base
    cells[("a", "gain")] = base + 0.013 + 0.009 * SPREAD[:5]
    alone = only_effect(runs_of({key: cells[key] for key in [("a", "base"), ("a", "gain")]}))
    assert (alone["answer"], alone["note"]) == ("better", "")
    found = effects(runs_of(cells), METRIC).set_index("cell").loc["gain"]
    assert found["p"] == alone["p"] < 0.05 < found["p_holm"] == pytest.approx(6 * found["p"])
    assert found["ci_low"] == alone["ci_low"] > 0 > found["family_low"]
    assert found["answer"] == "inconclusive"
    assert found["note"] == "the interval excludes 0, but Holm's adjustment for 6 comparisons leaves the answer open"


def test_where_answer_and_interval_disagree_a_note_says_why_and_nowhere_else():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(25):
        n, margin = int(rng.integers(5, 10)), 0.01
        base = rng.normal(0.5, 0.05, n)
        cells = {("a", f"c{i}"): base + rng.normal(rng.choice([0, 0.004, 0.01]), 0.008, n) for i in range(3)}
        for row in effects(runs_of(cells | {("a", "base"): base}), METRIC, margin=margin).itertuples():
            leaves_out_zero = row.ci_low > 0 or row.ci_high < 0
            inside = -margin < row.ci_low and row.ci_high < margin
            plain = {
                "better": leaves_out_zero,
                "worse": leaves_out_zero,
                "equivalent": inside and not leaves_out_zero,
                "inconclusive": not inside and not leaves_out_zero,
            }[row.answer]
            assert bool(row.note) != plain, row
            seen.add((row.answer, plain))
    assert {("better", True), ("equivalent", False), ("equivalent", True), ("inconclusive", False)} <= seen


def test_from_8_seeds_on_signs_decide_and_the_note_says_where_the_t_interval_does_not():
    one_large = [0.001, 0.002, 0.001, 0.003, 0.002, 0.001, 0.002, 0.05]
    found = only_effect(one_cell(one_large))
    assert (found["test"], found["p"], found["answer"]) == ("sign-flip", 2**-7, "better")
    assert found["ci_low"] < 0
    assert found["note"] == "the sign-flip test finds a difference, although the t interval includes 0"


def test_the_bootstrap_stands_beside_the_t_interval_from_10_seeds_on():
    assert np.isnan(only_effect(one_cell(0.01 * SPREAD[:9]))["bca_low"])
    found = only_effect(one_cell(0.01 * SPREAD[:10]))
    assert found["bca_low"] < found["mean_difference"] < found["bca_high"]


def test_equal_differences_are_judged_by_signs_and_the_note_says_so():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = only_effect(one_cell([0.25] * 5, [0.5] * 5), margin=0.5)
        only_effect(one_cell([0.0] * 10), margin=0.5)
    assert (found["p"], found["p_equivalence"], found["answer"]) == (2**-4, 2**-5, "inconclusive")
    assert found["note"] == "every seed has the same difference, so there is no interval, and only signs are tested"
    assert np.isnan([found["ci_low"], found["hedges_g"], found["pairing_correlation"]]).all()
    assert only_effect(one_cell([0.0] * 5))["answer"] == "inconclusive"
    assert only_effect(one_cell([0.25] * 6))["answer"] == "better"


def test_seeds_that_agree_by_luck_do_not_show_equivalence():
    """One seed in ten gains ten times the margin; five seeds usually miss it and agree on no difference."""
    rng, studies = np.random.default_rng(0), 100
    found = [only_effect(one_cell(np.where(rng.random(5) < 0.1, 0.1, 0.0)), margin=0.01) for _ in range(studies)]
    assert sum(np.isnan(row["ci_low"]) for row in found) > studies / 3
    assert not any(row["answer"] == "equivalent" for row in found)


def test_a_family_is_one_design_of_one_task_and_each_cell_has_its_own_baseline():
    rng = np.random.default_rng(0)
    seeds = rng.normal(0.5, 0.05, 6)
    names = ["base", "n_images=200", "x=1", "n_images=200, x=1"]
    cells = {(task, name): seeds + rng.normal(0.01 * i, 0.005, 6) for task in "ab" for i, name in enumerate(names)}
    rows = [("a", "size", "base", "base"), ("a", "size", "x=1", "base")]
    rows += [("a", "size", "n_images=200", "n_images=200"), ("a", "size", "n_images=200, x=1", "n_images=200")]
    rows += [("a", "cures", "x=1", "base"), ("a", "factorial", "x=1", ""), ("b", "size", "x=1", "base")]
    rows += [("absent", "size", "x=1", "base")]
    found = effects(runs_of(cells), METRIC, designs=design(*rows))
    assert found[["task", "design", "cell", "baseline"]].to_numpy().tolist() == [
        ["a", "size", "x=1", "base"],
        ["a", "size", "n_images=200, x=1", "n_images=200"],
        ["a", "cures", "x=1", "base"],
        ["b", "size", "x=1", "base"],
    ]
    expected = cells["a", "n_images=200, x=1"] - cells["a", "n_images=200"]
    assert found.loc[1, "mean_difference"] == pytest.approx(expected.mean())
    np.testing.assert_allclose(found["p_holm"][:2], paired.holm(found["p"][:2].to_numpy()))
    assert found.loc[2, "p_holm"] == found.loc[0, "p_holm"], "a shared comparison counts in the first design alone"
    assert found.loc[3, "p_holm"] == found.loc[3, "p"]


def test_a_comparison_that_two_designs_share_counts_once():
    rng = np.random.default_rng(1)
    seeds = rng.normal(0.5, 0.05, 6)
    cells = {("a", name): seeds + rng.normal(0.01, 0.005, 6) for name in ("base", "x=1", "y=1", "z=1")}
    shared = [("a", "first", "x=1", "base"), ("a", "second", "x=1", "base")]
    second = [("a", "second", "y=1", "base"), ("a", "second", "z=1", "base")]
    found = effects(runs_of(cells), METRIC, designs=design(*shared, *second)).set_index(["design", "cell"])
    pd.testing.assert_series_equal(found.loc[("first", "x=1")], found.loc[("second", "x=1")], check_names=False)
    alone = effects(runs_of(cells), METRIC, designs=design(*second)).set_index(["design", "cell"])
    assert found.loc[("second", "y=1"), "p_holm"] == alone.loc[("second", "y=1"), "p_holm"]
    assert found.loc[("first", "x=1"), "p_holm"] == found.loc[("first", "x=1"), "p"]


def test_equivalence_needs_both_ends_of_the_interval_within_the_margin():
    differences = 0.004 + 0.01 * SPREAD[:6]
    one_sided, two_sided = (float(paired.t_interval(differences, confidence)[1]) for confidence in (0.90, 0.95))
    row = only_effect(one_cell(differences), margin=(one_sided + two_sided) / 2)
    assert row["p_equivalence_holm"] <= 0.05
    assert row["ci_high"] == pytest.approx(two_sided)
    assert row["answer"] != "equivalent"
    assert "the interval reaches beyond it" in row["note"]


def test_every_difference_is_there_for_the_figures_and_averages_to_the_effect():
    runs = with_value(one_cell(0.01 * SPREAD[:7]), "cell", 103, status="FAILED")
    pairs = paired_differences(runs, METRIC)
    assert pairs["seed"].tolist() == sorted(pairs["seed"])
    assert pairs["difference"].isna().tolist() == [False, False, False, True, False, False, False]
    assert pairs["baseline_value"].notna().all()
    assert pairs["difference"].mean() == pytest.approx(only_effect(runs)["mean_difference"])


def test_untrained_encoders_are_no_task_to_compare_cells_in():
    cells = {("random_init", "random_init"): [0.4] * 5, ("a", "base"): SPREAD[:5], ("a", "cell"): SPREAD[1:6]}
    assert effects(runs_of(cells), METRIC)["task"].tolist() == ["a"]


def test_a_metric_of_whole_numbers_with_gaps_is_read():
    runs = one_cell([1, 2, 0, 1, 2, 3], [10, 11, 9, 8, 12, 11])
    runs[METRIC] = runs[METRIC].astype("Int64")
    found = only_effect(with_value(runs, "cell", 100, value=pd.NA))
    assert (found["n_seeds"], found["n_failed"], found["mean_difference"]) == (5, 1, 1.6)


def test_the_level_follows_the_confidence():
    runs = one_cell(0.008 + 0.01 * SPREAD[:6])
    wide, narrow = only_effect(runs, confidence=0.95), only_effect(runs, confidence=0.8)
    assert (wide["answer"], narrow["answer"]) == ("inconclusive", "better")
    assert wide["ci_low"] < 0 < narrow["ci_low"]
    assert narrow["smallest_detectable"] < wide["smallest_detectable"]


def test_an_unknown_metric_is_named_with_those_there_are():
    runs = one_cell(SPREAD[:5], None).assign(**{"last/val/loss": 1.0, "probe/cifar10/chance": 0.1, "cell_note": "x"})
    with pytest.raises(
        UserError, match=r"no metric 'probe/stl10/linear'.*there are: probe/cifar10/linear, last/val/loss "
    ):
        effects(runs, "probe/stl10/linear")
    with pytest.raises(UserError, match="no metric 'cell_note'"):
        effects(runs, "cell_note")


@pytest.mark.parametrize("designs", [None, design(("a", "d", "cell", "bsae"))])
def test_a_baseline_that_was_not_run_is_named_with_the_cells_there_are(designs: pd.DataFrame | None):
    with pytest.raises(UserError, match=r"a: no run of the baseline 'bsae'; there are the cells 'base', 'cell'$"):
        effects(one_cell(SPREAD[:5]).sort_values("cell"), METRIC, "bsae", designs=designs)


def test_runs_put_together_from_parts_need_no_index_of_their_own():
    runs = one_cell(0.02 + 0.003 * SPREAD[:6])
    parts = pd.concat([runs[runs["cell"] == cell].reset_index(drop=True) for cell in ("base", "cell")])
    assert_frame_equal(effects(parts, METRIC), effects(runs, METRIC))


def test_two_runs_of_one_seed_are_refused_and_named():
    runs = one_cell(SPREAD[:5])
    twice = pd.concat([runs, runs[(runs["cell"] == "cell") & (runs["seed"] == 103)]])
    with pytest.raises(UserError, match=r"two runs of task 'a', cell 'cell', seed 103.*runs\.phase == 'ablate'"):
        effects(twice, METRIC)


@pytest.mark.parametrize(
    "options", [{"mode": "most"}, {"margin": 0.0}, {"margin": float("nan")}, {"margin": -1}, {"confidence": 95}]
)
def test_an_option_out_of_range_is_refused(options: dict):
    with pytest.raises(UserError, match=f"^{next(iter(options))} = "):
        effects(one_cell(SPREAD[:5]), METRIC, **options)


def test_answers_are_those_declared():
    rng = np.random.default_rng(1)
    cells = {("a", f"c{i}"): rng.normal(0.5 + 0.02 * i, 0.01, 4 + i) for i in range(5)} | {
        ("a", "base"): rng.normal(0.5, 0.01, 9)
    }
    assert set(effects(runs_of(cells), METRIC, margin=0.01)["answer"]) <= set(ANSWERS)
