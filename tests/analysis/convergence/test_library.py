"""Verdicts on the library of real trials: how often one is false where it is given, and how often none is given."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.convergence import verdicts
from analysis.convergence.still_improving import TWICE_THE_STEPS
from study.execution.stopping import ChanceStopper
from tests.analysis import trial_library
from tests.analysis.trial_library import FITTED, TESTED
from tests.benchmarks.trial_library import KEPT_IMAGES, Images, make_trial
from trainables.data import shapes
from trainables.ray_adapter.messages import TrialReport, to_result
from trainables.training import monitor
from trainables.trial import TrialConfig

PAGE = Path(__file__).parents[3] / "docs" / "statistics.md"
FALSE = {"at_chance": 0.05, "converged": 0.05, "still_improving": 0.10}
# Trials of each half that have the verdict at least, so that the share of false ones means something. `converged` has
# none: on real images and a few hundred steps, one of the 405 trials has it, so simulated curves test its error rate.
GIVEN = {"at_chance": 10, "still_improving": 80}
UNDECIDED = {5: 0.40, 12: 0.20}  # by reports after step 0
FEW_IMAGES = "voc2012"  # 25 or 50 validation images leave more than half of the trials undecided


@pytest.fixture(scope="module")
def judged() -> pd.DataFrame:
    """Return the library with the verdict on each trial and whether it is false."""
    library = trial_library.load()
    found = library.merge(verdicts(*trial_library.frames(library)), on="trial_id")
    for answers in (trial_library.answers(library), trial_library.helped_by_more_steps(library)):
        found = found.merge(answers, left_on="trial_id", right_index=True)
    false = [trial_library.is_false(row.verdict, row) for row in found.itertuples()]
    return found.assign(false=false)


def test_the_library_has_every_task_data_set_and_number_of_reports(judged: pd.DataFrame) -> None:
    assert set(judged["dataset"]) == {*FITTED, *TESTED}
    assert judged.groupby(["task", "dataset"]).size().min() >= 5
    assert set(judged["n_reports"]) == {2, 5, 12, 20}


def test_a_trial_is_made_with_more_validation_images_than_the_product_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "sample_sizes", monitor.sample_sizes)  # which making a trial replaces
    train, rest, gold = (shapes.generate(n, split="train", seed=seed) for seed, n in enumerate((1200, 300, 1000)))
    settings = {"width": 4, "batch_size": 8, "n_images": 1200, "budget_steps": 2, "report_every": 1}
    row = make_trial(TrialConfig("library", "rotation", **settings), Images(train, rest, gold))
    assert row["product_images"] == 100
    assert json.loads(row["facts"])["n_validation_images"] == KEPT_IMAGES // 100 * 100


@pytest.mark.parametrize("half", [FITTED, TESTED], ids=["fitted", "tested"])
@pytest.mark.parametrize("verdict", FALSE)
def test_a_verdict_that_is_given_is_seldom_false(judged: pd.DataFrame, half: tuple[str, ...], verdict: str) -> None:
    given = judged.loc[judged["dataset"].isin(half) & (judged["verdict"] == verdict)]
    print(f"\n{verdict}: {given['false'].sum()} of {len(given)} false")
    assert len(given) >= GIVEN.get(verdict, 0)
    assert given["false"].sum() <= FALSE[verdict] * len(given)


def test_one_real_trial_has_converged_and_rightly(judged: pd.DataFrame) -> None:
    assert judged.loc[judged["verdict"] == "converged", "false"].tolist() == [False]


def test_hardly_a_trial_that_counts_as_having_left_chance_had_learned_nothing(judged: pd.DataFrame) -> None:
    left = judged["left_chance"]
    learned = judged.loc[left.fillna(False), "learned"]
    counts = {"left": len(learned), "not": int((~left).sum()), "open": int(left.isna().sum())}
    print(f"\n{counts}; {(learned < trial_library.MARGIN).sum()} learned less than {trial_library.MARGIN:.0%}")
    assert (learned > 0).all()
    assert (learned < trial_library.MARGIN).mean() <= 0.02
    assert counts["open"] <= 0.25 * len(judged)
    stated = f"Of the library's {len(judged)} trials, {counts['left']} count as having left chance, {counts['not']} as"
    assert f"{stated} not, and {counts['open']} are open." in " ".join(PAGE.read_text().split())


def test_the_page_states_how_often_verdicts_on_the_library_are_false(judged: pd.DataFrame) -> None:
    page = PAGE.read_text()
    for verdict in ("at_chance", "still_improving"):
        given = judged.loc[judged["verdict"] == verdict]
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{verdict}` |"))
        assert f"| {given['false'].sum()} of {len(given)} real trials" in row
        held_out = given.loc[given["dataset"].isin(TESTED), "false"]
        assert f"{held_out.sum()} of {len(held_out)}" in page


@pytest.mark.parametrize("reports", UNDECIDED)
def test_few_trials_are_undecided(judged: pd.DataFrame, reports: int) -> None:
    of_reports = judged.loc[judged["n_reports"] == reports]
    undecided = (of_reports["verdict"] == "undecided").groupby(of_reports["dataset"]).agg(["mean", "size"])
    print(f"\n{reports} reports, undecided: {undecided.round(2).to_dict('index')}")
    enough = of_reports.loc[of_reports["dataset"] != FEW_IMAGES, "verdict"]
    assert (enough == "undecided").mean() <= UNDECIDED[reports]


def test_the_rates_that_the_advice_states_are_those_of_the_library(judged: pd.DataFrame) -> None:
    of_verdict = judged.loc[judged["verdict"] == "still_improving"]
    for name, stated in (("own", TWICE_THE_STEPS.own), ("probe", TWICE_THE_STEPS.probe)):
        answers = of_verdict[name].dropna()
        assert stated == ((answers == "better").sum(), len(answers))


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_of_the_trials_that_a_search_stops_at_chance_few_would_have_learned(judged: pd.DataFrame, share: float) -> None:
    runs, curves = trial_library.frames(judged)
    stopped = []
    for trial_id, own in curves.groupby("trial_id"):
        row = runs.set_index("trial_id").loc[trial_id]
        stopper = ChanceStopper(patience=int(share * row["budget_steps"]))
        for step, report in own.groupby("step"):
            metrics = dict(zip(report["metric"], report["value"], strict=True))
            if stopper(str(trial_id), to_result(TrialReport(step=int(step), metrics=metrics, facts=_facts(row)))):
                stopped.append(trial_id)
                break
    learned = judged.set_index("trial_id").loc[stopped, "learned"] >= trial_library.MARGIN
    print(f"\npatience of {share:.0%} of the budget: {learned.sum()} of {len(stopped)} stopped trials learned later")
    assert stopped
    assert learned.sum() <= 0.02 * len(stopped)


def _facts(row: pd.Series) -> dict[str, object]:
    names = ("primary_metric", "primary_mode", "n_validation", "n_validation_images")
    chance = {name.removeprefix("chance/"): level for name, level in row.items() if str(name).startswith("chance/val/")}
    return {name: row[name] for name in names} | {"chance": {k: v for k, v in chance.items() if pd.notna(v)}}
