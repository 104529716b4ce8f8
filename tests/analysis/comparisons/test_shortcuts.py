"""Shortcuts: what counts as one, over seeds that share their images, and what the report says."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from analysis.comparisons.shortcuts import half_width, is_shortcut, shortcuts
from analysis.data.study import Study
from analysis.report.sections.shortcuts import shortcut_warnings


def study(lighting: list[float], border: list[float] | None = None, *, whole: float = 0.88, se: float = 0.01) -> Study:
    """Return a study whose chosen rotation trials ended with these accuracies."""
    runs, curves = [], []
    for i, value in enumerate(lighting):
        about = {"task": "rotation", "primary_metric": "val/accuracy", "primary_mode": "max"}
        runs.append({"trial_id": str(i), **about, "chance/val/accuracy": 0.25})
        last = {"val/accuracy": whole, "shortcut/lighting": value, "shortcut/lighting_se": se}
        if border:
            last |= {"shortcut/border": border[i], "shortcut/border_se": se}
        curves += [{"trial_id": str(i), "step": 20, "metric": name, "value": each} for name, each in last.items()]
    chosen = {"rotation": {"trial_ids": [run["trial_id"] for run in runs], "metric": "val/accuracy"}}
    return Study("lit", pd.DataFrame(runs), pd.DataFrame(curves), outcomes={"confirm": {"chosen": chosen}})


def said(one: Study) -> dict[str, str]:
    return shortcut_warnings(SimpleNamespace(study=one))  # type: ignore[arg-type]


def test_seeds_share_their_images_so_their_errors_do_not_average_out() -> None:
    row = shortcuts(study([0.8, 0.8, 0.8, 0.8], se=0.02)).iloc[0]
    assert (row["reduced"], row["n_seeds"]) == (0.8, 4)
    assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * 1.96 * 0.02, rel=1e-3)
    assert row["left"] == pytest.approx((0.8 - 0.25) / (0.88 - 0.25))
    spread = shortcuts(study([0.7, 0.9], se=0.0)).iloc[0]
    assert spread["ci_high"] - spread["ci_low"] == pytest.approx(2 * 12.706 * 0.1, rel=1e-3)  # t of one degree


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize(("seeds", "images"), [(0.05, 0.001), (0.02, 0.02), (0.001, 0.02)])
def test_intervals_cover_the_mean_over_new_seeds_and_new_images(n_seeds: int, seeds: float, images: float) -> None:
    generator, count = np.random.default_rng(0), 20_000
    of_images = generator.normal(0, images, (count, 1))  # the same for all seeds
    values = 0.8 + of_images + generator.normal(0, seeds, (count, n_seeds))
    covered = np.mean(np.abs(values.mean(axis=1) - 0.8) <= half_width(values, np.full(values.shape, images)))
    print(f"\n{n_seeds} seeds, SD of seeds {seeds} and of images {images}: {covered:.1%}")
    assert covered >= 0.945


def test_a_loss_has_no_scale_on_which_to_speak_of_a_shortcut() -> None:
    one = study([2.28, 2.28], whole=1.8)
    one.runs[["primary_metric", "primary_mode", "chance/val/loss"]] = "val/loss", "min", 2.3
    one.curves["metric"] = one.curves["metric"].replace("val/accuracy", "val/loss")
    assert shortcuts(one).empty
    assert not said(one)


def test_one_seed_shows_new_images_only_and_the_report_says_so() -> None:
    row = shortcuts(study([0.86], se=0.01)).iloc[0]
    assert row["ci_high"] - row["ci_low"] == pytest.approx(2 * 1.96 * 0.01, rel=1e-3)
    assert "0.860 [0.840, 0.880] (one seed: over new images only) on images" in said(study([0.86]))["rotation"]
    assert "one seed" not in said(study([0.85, 0.87]))["rotation"]


def test_both_numbers_are_stated_where_a_cue_suffices() -> None:
    text = said(study([0.85, 0.87], [0.3, 0.3]))["rotation"]
    assert text.startswith("**rotation may have learned a shortcut**: its val/accuracy is 0.860 [")
    assert "] on images reduced to their smooth lighting, and 0.880 on whole images (chance 0.250)." in text
    assert "border**" not in text
    both = said(study([0.85, 0.87], [0.86, 0.86]))["rotation"]
    assert "smooth lighting and 0.860 [" in both
    assert "on images reduced to their border, and 0.880" in both


@pytest.mark.parametrize(
    "one",
    [
        study([0.5, 0.5]),  # much of what it learned is not lighting
        study([0.80, 0.80], se=0.05),  # it may be less than 75%
        study([0.59, 0.59], whole=0.6),  # it has learned less than half
    ],
)
def test_nothing_is_said_where_that_is_not_shown(one: Study) -> None:
    assert not is_shortcut(shortcuts(one)).any()
    assert said(one) == {}


def test_studies_of_earlier_versions_have_no_controls() -> None:
    now = study([0.8])
    curves = now.curves.loc[now.curves["metric"] == "val/accuracy"]
    one = Study("before", now.runs, curves, outcomes=now.outcomes)
    assert shortcuts(one).empty
    assert said(one) == {}
