"""The rates that advice states are those that were measured, on trials of real images, by `cure_rates.py`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.convergence.remedies import (
    A_HUNDREDTH_OF_LR,
    DIFFERENT_VIEWS,
    FOUR_TIMES_THE_IMAGES,
    STRENGTH_HALF,
    Measured,
)

RECORDED = pd.read_csv(Path(__file__).parents[2] / "recorded" / "cure_rates.csv")
MEMORIZING = RECORDED[RECORDED["name"].str.startswith("memorizes/")]
IDENTICAL_VIEWS = RECORDED[RECORDED["name"].str.startswith("identical-views/")]
BROKEN = RECORDED[RECORDED["verdict"].isin(["diverged", "collapsed"])]


@pytest.mark.parametrize(
    ("measured", "cases", "change"),
    [
        (FOUR_TIMES_THE_IMAGES, MEMORIZING, "more images"),
        (STRENGTH_HALF, MEMORIZING, "stronger augmentation"),
        (DIFFERENT_VIEWS, IDENTICAL_VIEWS, "augmentation_strength 0.5"),
        (A_HUNDREDTH_OF_LR, BROKEN, "a hundredth of the learning rate"),
    ],
)
def test_advice_states_the_rates_that_were_measured(measured: Measured, cases: pd.DataFrame, change: str) -> None:
    tried = cases[cases["change"] == change]
    for stated, answers in ((measured.own, tried["own"]), (measured.probe, tried["probe"])):
        assert stated == ((answers == "better").sum(), len(tried))


def test_the_first_cure_is_the_one_that_helped_most_often() -> None:
    for cases, first in ((MEMORIZING, "more images"), (BROKEN, "a hundredth of the learning rate")):
        helped = cases.assign(better=cases["own"] == "better").groupby("change")["better"].sum()
        assert helped.idxmax() == first
        assert (helped.drop(first) < helped[first]).all()
