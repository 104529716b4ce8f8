"""Verdicts on recorded real trials.

`recorded/trials.json` has each trial's configuration, facts and true verdict, and what is known about it beyond its
own curve, such as the result of twice the steps; `recorded/NAME.csv` has one row per report. All were trained by
`trainables.training.loop.fit` on CIFAR-10 with `max_train: 2000` and, except for two, a conv4 of width 8. Most report
the standard error of every validation metric, not only of the primary one. They were recorded before changes had
errors of their own, which is why some of them are undecided.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.convergence import verdicts
from analysis.data.frames import FrameBuilder
from analysis.records import FINISHED
from trainables.trial import TrialConfig

FOLDER = Path(__file__).parents[1] / "recorded"
TRIALS: dict[str, dict[str, Any]] = json.loads((FOLDER / "trials.json").read_text())


def recorded(name: str, reports: int | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the frames of one recorded trial, up to its first `reports` reports after step 0."""
    trial, facts = TrialConfig.from_dict(TRIALS[name]["trial"]), TRIALS[name]["facts"]
    rows = pd.read_csv(FOLDER / f"{name}.csv")[: None if reports is None else reports + 1]
    builder = FrameBuilder()
    builder.trial(
        trial.trial_id,
        status=FINISHED,
        primary_metric=facts["primary_metric"],
        primary_mode=facts["primary_mode"],
        chance=facts["chance"][facts["primary_metric"]],
        n_validation=facts["n_validation"],
        **{f"chance/{metric}": level for metric, level in facts["chance"].items()},
        **trial.to_columns(),
    )
    for row in rows.to_dict("records"):
        step = int(row.pop("step"))
        builder.report(trial.trial_id, step, {name: value for name, value in row.items() if step or pd.notna(value)})
    return builder.build()


UNDECIDED = ("rotation_narrow", "context_encoder_200_images", "simclr_lr_1e-6")


@pytest.mark.parametrize("name", TRIALS)
def test_a_recorded_trial_gets_its_verdict(name: str) -> None:
    (found,) = verdicts(*recorded(name)).itertuples()
    print(f"\n{name}: {found.verdict}: {found.evidence}. Cure: {found.cure}")
    assert found.verdict == ("undecided" if name in UNDECIDED else TRIALS[name]["verdict"]), found.evidence


@pytest.mark.parametrize("name", TRIALS)
def test_the_standard_error_of_the_primary_metric_is_enough(name: str) -> None:
    runs, curves = recorded(name)
    others = curves["metric"].str.endswith("_se") & (curves["metric"] != f"{runs['primary_metric'].iloc[0]}_se")
    assert verdicts(runs, curves[~others])["verdict"].item() in (TRIALS[name]["verdict"], "undecided")


def test_the_conditions_of_the_original_report_are_named_as_cures() -> None:
    (found,) = verdicts(*recorded("context_prediction_70_steps")).itertuples()
    for words in (
        "70 showed each of 200 images 11.2 times",
        "pairs_per_image 8 or 40",
        "batch_no_affine instead of batch",
    ):
        assert words in found.cure


def test_overfitting_is_cured_by_more_images_before_augmentation() -> None:
    (found,) = verdicts(*recorded("rotation_200_images")).itertuples()
    assert -1 < found.cure.find("more images than 200") < found.cure.find("a higher augmentation_strength than 0 ")


@pytest.mark.parametrize("reports", [4, 7, 10])
def test_a_trial_classified_early_is_not_called_converged_while_it_learns(reports: int) -> None:
    for name in ("rotation_slow", "context_prediction_400_steps"):
        (found,) = verdicts(*recorded(name, reports)).itertuples()
        assert found.verdict in ("at_chance", "still_improving", "undecided"), (name, found.evidence)
