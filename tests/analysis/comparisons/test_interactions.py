"""Interactions: estimates are the truth of designs made by the study's own code, and aliases are named."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.comparisons import factorial_effects, pair_synergy, task_interaction
from analysis.comparisons.interactions import ANOVA_DTYPES, FACTORIAL_DTYPES, SYNERGY_DTYPES
from analysis.stats import factorial, paired
from analysis.stats.split_plot import box_p, interaction_p
from search_spaces.ablations import Levels, ablation
from tests.analysis.stats.textbook import textbook_f
from trainables.errors import UserError
from trainables.trial import TrialConfig

METRIC = "probe/shapes/linear"
FACTORS = {
    "lr": (1e-3, 1e-2),
    "augmentation/flip": (0.0, 1.0),
    "augmentation/noise": (0.0, 1.0),
    "n_images": (200, None),
}
BASE = TrialConfig("ablate", "rotation", n_images=200, augmentation={"flip": 1.0, "gray": 0.5, "crop_resize": 1.0})  # type: ignore[arg-type]
Truth = Callable[[TrialConfig], float]


def study(
    design: str,
    truth: Truth,
    n_seeds: int = 6,
    noise: float = 0.0,
    base: TrialConfig = BASE,
    factors: dict | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return runs and designs of one design; a run's value is `truth`, its seed's own level, and noise."""
    trials, rows = ablation(base, [design], Levels(factors=FACTORS if factors is None else factors))
    rng = np.random.default_rng(0)
    runs = []
    for seed in range(n_seeds):
        level = rng.normal(0.5, 0.1)
        for trial in trials:
            value = level + truth(trial) + rng.normal(0, noise)
            runs.append({**trial.replace(seed=seed).to_columns(), "status": "FINISHED", METRIC: value})
    return pd.DataFrame(runs).astype({"n_images": "Int64"}), pd.DataFrame(rows)


def has(trial: TrialConfig, op: str) -> float:
    return float(dict(trial.augmentation).get(op, 0.0) > 0)


def lr_and_flip(trial: TrialConfig) -> float:
    """lr adds 0.02; flip adds 0.01, and 0.03 more at the higher lr."""
    high = float(trial.lr > 5e-3)
    return 0.02 * high + 0.01 * has(trial, "flip") + 0.03 * high * has(trial, "flip")


def by_term(found: pd.DataFrame, column: str) -> dict[str, object]:
    return found.set_index("term")[column].to_dict()


def test_a_factorial_gives_each_effect_in_the_metrics_units():
    runs, _ = study("factorial", lr_and_flip)
    found = factorial_effects(runs, METRIC, list(FACTORS))
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == FACTORIAL_DTYPES
    expected = dict.fromkeys(found["term"], 0.0)
    expected |= {"lr": 0.02 + 0.03 / 2, "augmentation/flip": 0.01 + 0.03 / 2, "lr:augmentation/flip": 0.03}
    assert by_term(found, "estimate") == pytest.approx(expected, abs=1e-12)
    assert len(found) == 4 + 6
    assert (found["aliased_with"] == "").all()
    levels = by_term(found, "levels")
    assert (levels["lr"], levels["n_images"]) == ("0.001 to 0.01", "200 to all")
    assert levels["lr:augmentation/flip"] == "0.001 to 0.01, 0 to 1"


def test_a_factor_of_three_levels_is_compared_with_its_lowest_over_all_levels_of_the_other():
    steps = {1e-3: 0.0, 3e-3: 0.05, 1e-2: 0.02}

    def truth(trial: TrialConfig) -> float:
        return steps[trial.lr] + 0.01 * has(trial, "flip") * (trial.lr == 1e-2)

    runs, _ = study("factorial", truth, factors={"lr": tuple(steps), "augmentation/flip": (0.0, 1.0)})
    found = factorial_effects(runs, METRIC, ["lr", "augmentation/flip"])
    assert found["levels"].tolist() == [
        "0.001 to 0.003",
        "0.001 to 0.01",
        "0 to 1",
        "0.001 to 0.003, 0 to 1",
        "0.001 to 0.01, 0 to 1",
    ]
    assert found["estimate"].tolist() == pytest.approx([0.05, 0.025, 0.01 / 3, 0.0, 0.01], abs=1e-12)


def test_each_term_is_tested_as_the_paired_difference_that_it_is():
    runs, _ = study("factorial", lr_and_flip, noise=0.01)
    found = factorial_effects(runs, METRIC, list(FACTORS)).set_index("term")
    high = runs[runs["lr"] == 1e-2].groupby("seed")[METRIC].mean()
    low = runs[runs["lr"] == 1e-3].groupby("seed")[METRIC].mean()
    differences = (high - low).to_numpy()
    row = found.loc["lr"]
    assert row["estimate"] == pytest.approx(differences.mean())
    assert row["p"] == pytest.approx(stats.ttest_rel(high, low).pvalue)
    np.testing.assert_allclose(row[["ci_low", "ci_high"]].astype(float), paired.t_interval(differences, 0.95))
    np.testing.assert_allclose(found["p_holm"], paired.holm(found["p"].to_numpy()))
    assert set(found["test"]) == {"paired t"}
    assert (found["n_seeds"] == 6).all()


def test_a_screening_design_keeps_main_effects_clear_of_pairs_and_names_the_pairs_it_mixes_up():
    runs, _ = study("screening", lr_and_flip)
    assert runs["cell"].nunique() == 8 < 16
    found = factorial_effects(runs, METRIC, list(FACTORS))
    assert sorted(found["term"]) == sorted([*FACTORS, *map(":".join, itertools.combinations(FACTORS, 2))])
    estimates, aliases = by_term(found, "estimate"), by_term(found, "aliased_with")
    assert estimates["lr"] == pytest.approx(0.035)
    assert estimates["augmentation/flip"] == pytest.approx(0.025)
    assert [aliases[name] for name in FACTORS] == [""] * 4
    assert aliases["lr:augmentation/flip"] == "augmentation/noise:n_images"
    assert aliases["augmentation/noise:n_images"] == "lr:augmentation/flip"
    assert estimates["lr:augmentation/flip"] == pytest.approx(0.03)
    assert np.isnan(estimates["augmentation/noise:n_images"])
    assert found["estimate"].isna().sum() == 3
    assert found.loc[found["estimate"].isna(), ["p", "p_holm", "ci_low"]].isna().all(axis=None)


def test_the_estimate_of_an_aliased_pair_is_of_the_sum():
    def truth(trial: TrialConfig) -> float:
        return lr_and_flip(trial) + 0.05 * has(trial, "noise") * (trial.n_images is None)

    found = factorial_effects(study("screening", truth)[0], METRIC, list(FACTORS))
    assert by_term(found, "estimate")["lr:augmentation/flip"] == pytest.approx(0.03 + 0.05)


def test_aliases_carry_their_sign_and_share():
    half = pd.DataFrame({"a": [0, 1, 0, 1], "b": [0, 0, 1, 1], "c": [0, 1, 1, 0]})  # resolution III: c = -ab
    design = half.apply(lambda column: pd.Categorical(column, [0, 1], ordered=True))
    terms = factorial.terms(design)
    coefficients, aliases = factorial.fit(terms, np.eye(4))
    assert dict(zip([term.name for term in terms], aliases, strict=True)) == {
        "a": "-0.5 b:c",
        "b": "-0.5 a:c",
        "c": "-0.5 a:b",
        "a:b": "c",
        "a:c": "b",
        "b:c": "a",
    }
    truth = np.array([0.3, 0.2, 0.1, 0.04, 0.05, 0.06])
    response = sum(value * term.column for value, term in zip(truth, terms, strict=True))
    found = coefficients @ response
    np.testing.assert_allclose(found[:3], truth[:3] - 0.5 * truth[[5, 4, 3]])
    assert np.isnan(found[3:]).all()


def test_the_base_takes_its_place_in_a_design_though_its_values_are_not_written_out():
    base = TrialConfig("ablate", "context_prediction")
    factors = {"option/pairs_per_image": (8, 40), "augmentation/flip": (0.0, 1.0), "n_images": (200, None)}

    def truth(trial: TrialConfig) -> float:
        return 0.01 * (dict(trial.options).get("pairs_per_image", 8) == 40) + 0.02 * has(trial, "flip")

    runs, _ = study("factorial", truth, base=base, factors=factors)
    written = runs.loc[runs["cell"] == "base", ["option/pairs_per_image", "augmentation/flip", "n_images"]]
    assert written.isna().all(axis=None)
    found = by_term(factorial_effects(runs, METRIC, list(factors)), "estimate")
    assert [found[name] for name in factors] == pytest.approx([0.01, 0.02, 0.0])


def test_a_factor_of_words_is_ordered_by_the_alphabet_and_a_missing_one_has_its_default():
    base = TrialConfig("ablate", "context_encoder")
    runs, _ = study(
        "factorial",
        lambda trial: 0.1 * (dict(trial.options).get("mask", "random_blocks") == "random_blocks"),
        base=base,
        factors={"option/mask": ("center", "random_blocks"), "lr": (1e-3, 1e-2)},
    )
    found = factorial_effects(runs, METRIC, ["option/mask", "lr"])
    assert found.loc[0, "levels"] == "center to random_blocks"
    assert found.loc[0, "estimate"] == pytest.approx(0.1)


def test_a_seed_with_a_failed_cell_is_left_out_and_counted():
    runs, _ = study("factorial", lr_and_flip, noise=0.01)
    runs.loc[(runs["seed"] == 2) & (runs.index % 5 == 0), "status"] = "FAILED"
    found = factorial_effects(runs, METRIC, list(FACTORS))
    others = factorial_effects(runs[runs["seed"] != 2], METRIC, list(FACTORS))
    assert set(found["n_seeds"]) == {5}
    assert set(found["n_failed"]) == {(runs["status"] == "FAILED").sum()}
    np.testing.assert_array_equal(found["estimate"], others["estimate"])


def test_a_cell_that_always_failed_leaves_effects_unbiased_and_what_it_mixes_up_named():
    runs, _ = study("factorial", lr_and_flip, factors={name: FACTORS[name] for name in ("lr", "augmentation/flip")})
    both = (runs["lr"] == 1e-2) & (runs["augmentation/flip"] == 1)
    runs.loc[both, METRIC] = np.nan
    found = factorial_effects(runs, METRIC, ["lr", "augmentation/flip"])
    assert (found["n_seeds"].tolist(), found["n_failed"].tolist()) == ([6] * 3, [6] * 3)
    assert found.loc[2, "aliased_with"] == "the mean, lr, augmentation/flip"
    assert found["aliased_with"].tolist()[:2] == ["-0.5 lr:augmentation/flip"] * 2
    # Without the fourth cell only the effects at the other's low level are left, 0.02 and 0.01.
    assert found["estimate"].tolist()[:2] == pytest.approx([0.02, 0.01])


def test_a_task_all_of_whose_trials_failed_has_no_effects_and_no_synergy():
    first, _ = study("factorial", lr_and_flip)
    other, _ = study("factorial", lr_and_flip, base=BASE.replace(task="context_prediction"))
    runs = pd.concat([first.assign(status="FAILED"), other], ignore_index=True)
    assert set(factorial_effects(runs, METRIC, list(FACTORS))["task"]) == {"context_prediction"}
    none = factorial_effects(first.assign(**{METRIC: np.nan}), METRIC, list(FACTORS))
    assert none.empty
    assert none.dtypes.astype(str).to_dict() == FACTORIAL_DTYPES
    pairs, designs = study("pairs", op_truth)
    found = pair_synergy(pairs.assign(status="FAILED"), METRIC, designs)
    assert found["synergy"].isna().all()
    assert set(found["n_seeds"]) == {0}


def test_a_design_has_no_effects_until_a_second_level_of_a_factor_has_ended():
    runs, _ = study("factorial", lr_and_flip)
    one_cell = (runs["lr"] == 1e-3) & (runs["augmentation/flip"] == 1)
    running = runs.assign(status=runs["status"].where(one_cell, "RUNNING"))
    assert factorial_effects(running, METRIC, ["lr", "augmentation/flip"]).empty
    with pytest.raises(UserError, match="no task of these runs has two levels"):
        factorial_effects(runs.loc[one_cell], METRIC, ["lr", "augmentation/flip"])


def test_a_factor_that_failures_leave_at_one_level_has_no_effect():
    runs, _ = study("factorial", lr_and_flip)
    runs.loc[(runs["lr"] == 1e-2) | (runs["augmentation/flip"] == 1), "status"] = "FAILED"
    found = factorial_effects(runs, METRIC, ["lr", "augmentation/flip", "augmentation/noise", "n_images"])
    assert by_term(found, "estimate")["augmentation/noise"] == pytest.approx(0)
    assert found["estimate"].notna().sum() < len(found)


def test_below_5_seeds_a_factorial_is_estimated_and_not_tested():
    found = factorial_effects(study("factorial", lr_and_flip, n_seeds=4)[0], METRIC, list(FACTORS))
    assert by_term(found, "estimate")["lr"] == pytest.approx(0.035)
    assert found[["ci_low", "ci_high", "p", "p_holm"]].isna().all(axis=None)
    assert set(found["test"]) == {""}


def test_each_task_has_its_own_factors_and_family():
    first, _ = study("factorial", lr_and_flip, noise=0.01, factors={"lr": (1e-3, 1e-2)})
    second, _ = study(
        "factorial",
        lr_and_flip,
        noise=0.01,
        base=BASE.replace(task="context_prediction"),
        factors={"lr": (1e-3, 1e-2), "option/pairs_per_image": (1, 8)},
    )
    parts = [own for _, own in pd.concat([first, second]).groupby("seed")]
    runs = pd.concat([own.reset_index(drop=True) for own in parts])  # no index to tell rows by
    found = factorial_effects(runs, METRIC, ["lr", "option/pairs_per_image"])
    assert found.groupby("task", sort=False).size().to_dict() == {"rotation": 1, "context_prediction": 3}
    assert found.loc[0, "p"] == found.loc[0, "p_holm"]


def test_factors_that_cannot_be_estimated_are_refused():
    runs, _ = study("factorial", lr_and_flip)
    with pytest.raises(UserError, match="no column 'learning_rate' in these runs"):
        factorial_effects(runs, METRIC, ["learning_rate"])
    with pytest.raises(UserError, match="no task of these runs has two levels of any of batch_size"):
        factorial_effects(runs, METRIC, ["batch_size"])
    with pytest.raises(UserError, match=r"two runs of task 'rotation', lr '0.001', seed 0"):
        factorial_effects(runs, METRIC, ["lr"])


def op_truth(trial: TrialConfig) -> float:
    """flip adds 0.01, gray 0.02, crop 0.04; flip and crop together 0.03 more."""
    flip, gray, crop = (has(trial, op) for op in ("flip", "gray", "crop_resize"))
    return 0.01 * flip + 0.02 * gray + 0.04 * crop + 0.03 * flip * crop


def test_synergy_is_what_two_ops_do_beyond_what_each_does_alone():
    runs, designs = study("pairs", op_truth, noise=0.002)
    found = pair_synergy(runs, METRIC, designs)
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == SYNERGY_DTYPES
    pairs = found[found["first"] != found["second"]].set_index(["first", "second"])
    singles = found[found["first"] == found["second"]]
    assert sorted(singles["first"]) == ["crop_resize", "flip", "gray"]
    assert singles[["synergy", "p", "ci_low"]].isna().all(axis=None)
    assert pairs["synergy"].to_dict() == pytest.approx(
        {("crop_resize", "flip"): 0.03, ("flip", "gray"): 0.0, ("crop_resize", "gray"): 0.0}, abs=0.006
    )
    wide = runs.pivot(index="seed", columns="cell", values=METRIC)
    none = wide["no augmentation"]
    expected = wide["only crop_resize + flip"] - wide["only crop_resize"] - wide["only flip"] + none
    row = pairs.loc["crop_resize", "flip"]
    assert row["mean"] == pytest.approx(wide["only crop_resize + flip"].mean())
    assert row["p"] == pytest.approx(stats.ttest_1samp(expected, 0).pvalue)
    np.testing.assert_allclose(row[["ci_low", "ci_high"]].astype(float), paired.t_interval(expected.to_numpy(), 0.95))
    np.testing.assert_allclose(pairs["p_holm"], paired.holm(pairs["p"].to_numpy()))


def test_a_pair_that_is_the_base_itself_is_found_by_its_policy():
    base = BASE.replace(augmentation={"flip": 1.0, "crop_resize": 0.7})
    runs, designs = study("pairs", op_truth, base=base)
    assert "base" in set(designs["cell"])
    found = pair_synergy(runs, METRIC, designs)
    assert found["synergy"].dropna().tolist() == pytest.approx([0.03])


def test_a_synergy_takes_the_seeds_that_have_all_four_cells_and_counts_the_failed():
    runs, designs = study("pairs", op_truth)
    runs.loc[(runs["cell"] == "only flip") & (runs["seed"] == 1), "status"] = "FAILED"
    runs = runs[(runs["cell"] != "only flip + gray") | (runs["seed"] != 3)]
    found = pair_synergy(runs, METRIC, designs).set_index(["first", "second"])[["n_seeds", "n_failed"]]
    assert found.loc[("crop_resize", "flip")].tolist() == [5, 1]
    assert found.loc[("flip", "gray")].tolist() == [4, 1]
    assert found.loc[("crop_resize", "gray")].tolist() == [6, 0]
    assert found.loc[("flip", "flip")].tolist() == [5, 1]


def test_a_synergy_waits_for_cells_that_are_still_running():
    runs, designs = study("pairs", op_truth)
    running = runs.assign(status=runs["status"].where(runs["cell"] == "only flip", "RUNNING"))
    found = pair_synergy(running, METRIC, designs).set_index(["first", "second"])
    assert found["synergy"].isna().all()
    assert found["n_seeds"].to_dict() == {pair: 6 * (pair == ("flip", "flip")) for pair in found.index}
    assert set(found["n_failed"]) == {0}


def test_a_synergy_without_its_single_ops_is_refused():
    runs, designs = study("pairs", op_truth)
    with pytest.raises(UserError, match=r"rotation: a synergy compares.*no run of: no augmentation, flip$"):
        pair_synergy(runs[~runs["cell"].isin(["no augmentation", "only flip"])], METRIC, designs)
    with pytest.raises(UserError, match="no cell of a design `pairs`"):
        pair_synergy(runs, METRIC, designs.assign(design="leave_one_out"))


def two_tasks(values: np.ndarray, tasks: Sequence[str] = ("rotation", "simclr", "context_encoder")) -> pd.DataFrame:
    """Return runs of an array [tasks, cells, seeds]."""
    rows = [
        {"task": tasks[t], "cell": f"cell {c}", "seed": s, "status": "FINISHED", METRIC: values[t, c, s]}
        for t, c, s in np.ndindex(values.shape)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def split_plot(n_seeds: int = 6, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.5 + rng.normal(0, 0.05, (3, 1, n_seeds)) + rng.normal(0, 0.01, (3, 4, n_seeds))


def test_the_table_is_that_of_the_textbook_and_of_statsmodels_where_that_is_right():
    values = split_plot()
    found = task_interaction(two_tasks(values), METRIC).set_index("term")
    assert {name: str(dtype) for name, dtype in found.reset_index().dtypes.items()} == ANOVA_DTYPES
    f = {term: own[0] for term, own in textbook_f(values[None]).items()}
    for term in ("task", "cell", "task:cell"):
        assert found.loc[term, "F"] == pytest.approx(f[term])
    p = interaction_p(values, {term: np.float64(value) for term, value in f.items()})
    assert found.loc[list(p), "p"].to_dict() == pytest.approx(p)
    frame = two_tasks(values).rename(columns={METRIC: "value"})
    plain = anova_lm(ols("value ~ C(task) * C(cell) + C(task):C(seed)", frame).fit())
    assert found["df"].tolist() == plain["df"].tolist() == [2, 3, 6, 15, 45]
    assert found["sum_sq"].tolist() == pytest.approx(plain["sum_sq"].tolist())
    assert found.loc["task:cell", "F"] == pytest.approx(plain.loc["C(task):C(cell)", "F"])
    assert (
        plain.loc["C(task)", "PR(>F)"] < 0.001 < 0.05 < found.loc["task", "p"]
    )  # tasks are alike, their seeds are not


def test_degrees_of_freedom_are_those_of_f_where_all_noise_is_exactly_alike():
    spread = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    residuals = np.broadcast_to(spread[:3] - spread[:3].mean(axis=0), (2, 3, 6))
    f, hypothesis = np.float64(3.0), np.eye(2) - 0.5
    assert box_p(f, hypothesis, residuals) == pytest.approx(stats.f.sf(3.0, 2, 2 * 5 * 2))


def test_a_cell_that_acts_in_one_task_only_is_an_interaction_and_one_that_acts_alike_is_not():
    values = split_plot()
    values[:, 1] += 0.05
    alike = task_interaction(two_tasks(values), METRIC).set_index("term")["answer"]
    assert (alike["cell"], alike["task:cell"]) == ("different", "not shown to differ")
    assert (alike["task:seed"], alike["residual"]) == ("", "")
    values[0, 2] += 0.05
    once = task_interaction(two_tasks(values), METRIC).set_index("term")["answer"]
    assert once["task:cell"] == "different"


def test_an_interaction_takes_the_cells_that_all_tasks_have_and_the_seeds_that_are_whole():
    runs = two_tasks(split_plot(7))
    own = runs[runs["task"] == "simclr"].assign(cell="option/temperature=0.1")
    untrained = runs[runs["cell"] == "cell 0"].assign(task="random_init", cell="random_init")
    failed = runs.copy()
    failed.loc[(runs["task"] == "simclr") & (runs["cell"] == "cell 1") & (runs["seed"] == 2), "status"] = "FAILED"
    found = task_interaction(pd.concat([failed, own, untrained]), METRIC)
    pd.testing.assert_frame_equal(found, task_interaction(runs[runs["seed"] != 2], METRIC))
    two = task_interaction(runs, METRIC, ["cell 0", "cell 3"])
    assert two.set_index("term").loc["cell", "df"] == 1


def test_below_5_seeds_an_interaction_is_not_tested():
    found = task_interaction(two_tasks(split_plot(4)), METRIC).set_index("term")
    assert found[["F", "p"]].isna().all(axis=None)
    assert found["sum_sq"].notna().all()
    assert set(found.loc[["task", "cell", "task:cell"], "answer"]) == {"too few seeds"}


def test_an_interaction_that_cannot_be_asked_about_is_refused():
    runs = two_tasks(split_plot())
    with pytest.raises(UserError, match=r"two tasks that both have the same two cells; there are simclr: cell"):
        task_interaction(runs[runs["task"] == "simclr"], METRIC)
    lacking = runs[(runs["task"] != "simclr") | (runs["cell"] != "cell 1")]
    with pytest.raises(UserError, match="the same two cells"):
        task_interaction(lacking, METRIC, ["cell 0", "cell 1"])
    runs.loc[(runs["task"] == "simclr") & (runs["cell"] == "cell 1"), "status"] = "FAILED"
    with pytest.raises(UserError, match="0 seeds have a value of each of these cells in every task"):
        task_interaction(runs, METRIC)
