"""Effects over new seeds and new images where per-image results were kept, and over seeds alone elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import analysis
from analysis.comparisons import effects, factorial_effects, interval_scope, pair_synergy
from analysis.comparisons.images import image_contributions
from analysis.data.per_image import PerImage
from analysis.findings import compute_findings
from analysis.stats import paired
from analysis.stats.crossed import crossed_mean
from tests.analysis.ablated_runs import METRIC, design
from trainables.per_image import pack

OVER_SEEDS = ["mean", "mean_difference", "seeds_low", "seeds_high", "hedges_g", "pairing_correlation"]
Answers = dict[str, np.ndarray]  # by cell, bool [seeds, images]


def answers(n_seeds: int = 5, n_images: int = 60, *, gain: float = 0.6, seed: int = 0) -> Answers:
    """Draw answers of a base, of a cell that is better by `gain`, and of one that is not, on the same images."""
    rng = np.random.default_rng(seed)
    difficulty = rng.standard_normal(n_images)
    return {
        cell: difficulty + 0.1 * rng.standard_normal((n_seeds, 1)) + 0.3 * rng.standard_normal((n_seeds, n_images))
        < level
        for cell, level in {"base": 0.0, "gain": gain, "same": 0.0}.items()
    }


def study_of(drawn: Answers, *, without: tuple[str, ...] = ()) -> tuple[pd.DataFrame, PerImage]:
    """Return the runs and the per-image results of the answers, except for trials `without`, named `CELL-SEED`."""
    rows, packed = [], {}
    for cell, table in drawn.items():
        for seed, correct in enumerate(table):
            name = f"{cell}-{seed}"
            row = {"trial_id": name, "task": "a", "cell": cell, "seed": seed, "status": "FINISHED"}
            rows.append({**row, METRIC: correct.mean()})
            packed[name] = {} if name in without else {METRIC: pack(correct)}
    return pd.DataFrame(rows), PerImage(packed.__getitem__)


def by_cell(runs: pd.DataFrame, per_image: PerImage | None = None, **options: object) -> pd.DataFrame:
    return effects(runs, METRIC, per_image=per_image, **options).set_index("cell")  # type: ignore[arg-type]


def test_the_numbers_are_those_of_the_differences_of_every_image():
    drawn = answers()
    runs, per_image = study_of(drawn)
    found, alone = by_cell(runs, per_image, margin=0.02), by_cell(runs, margin=0.02)
    for cell in ("gain", "same"):
        table = drawn[cell].astype(float) - drawn["base"]
        estimate, row = crossed_mean(table.mean(axis=1), table), found.loc[cell]
        assert (row["test"], row["n_evaluated"], row["n_seeds"]) == ("crossed t", 60, 5)
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(estimate.interval(0.95))
        assert (row["family_low"], row["family_high"]) == pytest.approx(estimate.interval(0.975))
        assert (row["p"], row["p_equivalence"]) == pytest.approx((estimate.p_value(), estimate.equivalence_p(0.02)))
        assert row["smallest_detectable"] == pytest.approx(estimate.smallest_detectable(0.025))
    cautious = paired.holm(np.maximum(found["p"], alone["p"]).to_numpy())  # few seeds are trusted less far from 5%
    np.testing.assert_allclose(found["p_holm"], cautious)
    assert_frame_equal(found[OVER_SEEDS], alone[OVER_SEEDS])
    np.testing.assert_allclose(alone[["ci_low", "ci_high"]], alone[["seeds_low", "seeds_high"]])
    assert alone["n_evaluated"].isna().all()


def test_seeds_that_gain_the_same_few_images_are_not_better():
    base = np.zeros((5, 41), bool)
    gained = base.copy()
    for seed, count in enumerate((3, 3, 1, 4, 3)):
        gained[seed, :count] = True
    runs, per_image = study_of({"base": base, "cell": gained})
    assert by_cell(runs).loc["cell", "answer"] == "better"
    row = by_cell(runs, per_image, margin=0.02).loc["cell"]
    assert row["answer"] == "inconclusive"
    assert pd.isna(row["seeds_needed"])
    assert "a margin of 0.02 needs more than" in row["note"]


def test_a_note_names_the_p_value_that_leaves_an_answer_open():
    rng, reasons = np.random.default_rng(3), set()
    for _ in range(60):
        tables = {cell: rng.random((5, 300)) < 0.5 + gain for cell, gain in (("base", 0.0), ("a", 0.04), ("b", 0.0))}
        runs, per_image = study_of(tables)
        for row in by_cell(runs, per_image).itertuples():
            if not (found := re.search("excludes 0, but (.+) leaves", row.note)):
                continue
            reasons.add(found[1])
            assert not found[1].startswith("Holm") or 2 * row.p > 0.05
    assert "the p-value over seeds alone, adjusted for 2 comparisons," in reasons


def test_three_seeds_are_tested_if_all_of_them_kept_their_images_and_two_never():
    def pair(n_seeds: int) -> Answers:
        return {cell: table for cell, table in answers(n_seeds, 400, gain=1.0).items() if cell != "same"}

    runs, per_image = study_of(pair(3))
    assert by_cell(runs, per_image).loc["gain", "answer"] == "better"
    assert (by_cell(runs)["answer"] == "too few seeds").all()
    runs, per_image = study_of(pair(3), without=("gain-1",))
    found = by_cell(runs, per_image)
    assert found.loc["gain", "answer"] == "too few seeds"
    assert found.loc["gain", "note"].endswith("a test needs 5")
    runs, per_image = study_of(pair(2))
    assert by_cell(runs, per_image).loc["gain", "note"].endswith("a test needs 3")


def test_three_seeds_are_not_tested_in_a_family_of_several_comparisons():
    runs, per_image = study_of(answers(3, 400, gain=1.0))
    found = by_cell(runs, per_image)
    assert (found["answer"] == "too few seeds").all()
    assert found["note"].str.endswith("a test needs 5").all()


def test_some_seeds_with_images_are_enough_for_the_variance_of_images():
    runs, per_image = study_of(answers(6, 400), without=("gain-0", "base-1", "same-2"))
    found = by_cell(runs, per_image)
    assert found["n_evaluated"].eq(400).all()
    assert found["n_seeds"].eq(6).all()
    trials = np.array([[f"{cell}-{seed}" for seed in range(6)] for cell in ("gain", "base")])
    kept = image_contributions(trials, np.full_like(trials, METRIC, dtype=object), per_image)
    assert kept is not None
    assert kept.shape == (2, 4, 400)


def test_trials_on_other_numbers_of_images_are_compared_over_seeds_alone():
    drawn = answers(5, 60)
    drawn["gain"] = drawn["gain"][:, :59]
    runs, per_image = study_of(drawn)
    found = by_cell(runs, per_image)
    assert pd.isna(found.loc["gain", "n_evaluated"])
    assert found.loc["same", "n_evaluated"] == 60


def test_answers_that_never_differ_have_no_interval_and_are_tested_by_signs():
    drawn = answers(5, 60)
    drawn["gain"] = drawn["base"]
    row = by_cell(*study_of(drawn)).loc["gain"]
    assert (row["test"], row["p"]) == ("paired t", 1.0)
    assert pd.isna(row["n_evaluated"])
    assert np.isnan(row["ci_low"])


def test_factors_and_pairs_of_ops_are_tested_over_images_as_the_contrasts_that_they_are():
    rng = np.random.default_rng(4)
    policies = {"none": (0.0, 0.0), "flip": (1.0, 0.0), "gray": (0.0, 1.0), "both": (1.0, 1.0)}
    drawn = {cell: rng.random((5, 80)) < 0.5 + 0.1 * sum(policy) for cell, policy in policies.items()}
    runs, per_image = study_of(drawn)
    for index, name in enumerate(("augmentation/flip", "augmentation/gray")):
        runs[name] = runs["cell"].map({cell: policy[index] for cell, policy in policies.items()})
    none, flip, gray, both = (table.astype(float) for table in drawn.values())
    expected = {"flip": (flip + both - none - gray) / 2, "synergy": both - flip - gray + none}
    estimates = {name: crossed_mean(table.mean(axis=1), table) for name, table in expected.items()}

    terms = factorial_effects(runs, METRIC, ["augmentation/flip", "augmentation/gray"], per_image).set_index("term")
    pairs = pair_synergy(runs, METRIC, design(*(("a", "pairs", cell, "none") for cell in policies)), per_image)
    for row, name in (
        (terms.loc["augmentation/flip"], "flip"),
        (pairs.set_index("first").loc["flip"].iloc[-1], "synergy"),
    ):
        assert (row["n_evaluated"], row["test"]) == (80, "crossed t")
        assert (row["ci_low"], row["ci_high"]) == pytest.approx(estimates[name].interval(0.95))
        assert row["p"] == pytest.approx(estimates[name].p_value())
    assert factorial_effects(runs, METRIC, ["augmentation/flip", "augmentation/gray"])["n_evaluated"].isna().all()


def test_scope_says_what_intervals_are_over():
    runs, per_image = study_of(answers())
    both, alone = effects(runs, METRIC, per_image=per_image), effects(runs, METRIC)
    assert interval_scope(both) == "Intervals are over new seeds and new images."
    assert "over seeds alone" in interval_scope(alone)
    assert "this study kept no per-image results" in interval_scope(alone)
    mixed = interval_scope(pd.concat([both, alone]))
    assert "new images, and over seeds alone where" in mixed
    assert interval_scope(alone.assign(ci_low=np.nan)) == ""


@pytest.mark.core
@pytest.mark.slow
def test_every_probe_of_a_study_is_compared_over_images_and_curves_over_seeds(simulated_study: Path):
    found = compute_findings(analysis.load(simulated_study))
    counts = found.study.datasets["cifar10"]["counts"]
    assert found.effects["n_evaluated"].eq(counts["probe_validation"]).all()
    on_test = found.against_untrained.query("design == 'pre-training, test split'")
    assert on_test["n_evaluated"].eq(counts["test"]).all()
    assert on_test["n_seeds"].eq(3).all()
    assert found.every_effect["answer"].ne("too few seeds").all()
    by_loss = compute_findings(analysis.load(simulated_study), metric="val/loss").effects
    assert by_loss["n_evaluated"].isna().all()
