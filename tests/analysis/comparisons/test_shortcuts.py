"""Shortcuts: what counts as one, over seeds that share their images, and what the report says."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest

from analysis.comparisons.shortcuts import is_shortcut, shortcuts
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
    assert spread["ci_high"] - spread["ci_low"] == pytest.approx(2 * 1.96 * 0.1, rel=1e-3)


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
