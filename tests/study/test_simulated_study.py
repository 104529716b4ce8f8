"""A whole study on simulated trials runs every phase of a real one, and recovers the simulated truth."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.comparisons import effects
from analysis.records import JOURNAL_FILE, TrialStarted, read
from trainables import simulated
from trainables.trial import RANDOM_INIT, TrialConfig

pytestmark = [pytest.mark.core, pytest.mark.slow]

PROBE = "probe/cifar10/linear"


@pytest.fixture(scope="module")
def study(study_on_ray: Path) -> analysis.Study:
    return analysis.load(study_on_ray)


@pytest.fixture(scope="module")
def ablated(study: analysis.Study) -> pd.DataFrame:
    return study.runs.query("phase == 'ablate'")


def trials(folder: Path) -> dict[str, TrialConfig]:
    return {event.trial_id: event.config for event in read(folder, TrialStarted)}


def test_every_phase_runs_and_every_cell_has_every_seed_once(study: analysis.Study, ablated: pd.DataFrame):
    assert list(study.runs["phase"].unique()) == ["baselines", "search", "confirm", "ablate", "evaluate"]
    counts = Counter(zip(ablated["task"], ablated["cell"], ablated["seed"], strict=True))
    assert set(counts.values()) == {1}
    assert set(ablated.groupby(["task", "cell"])["seed"].apply(lambda seeds: tuple(sorted(seeds)))) == {
        tuple(sorted(ablated["seed"].unique()))
    }
    assert RANDOM_INIT in set(ablated["task"])


def test_every_cell_of_the_designs_was_run(study: analysis.Study, ablated: pd.DataFrame):
    run = set(zip(ablated["task"], ablated["cell"], strict=True))
    designs = study.designs
    assert set(designs["design"]) == {"size_by_strength", "pairs", "cures"}
    for column in ("cell", "baseline"):
        assert set(zip(designs["task"], designs[column], strict=True)) <= run


def test_intervals_contain_the_simulated_effects(study_on_ray: Path, study: analysis.Study, ablated: pd.DataFrame):
    config = {(trial.task, trial.cell): trial for trial in trials(study_on_ray).values() if trial.phase == "ablate"}
    found = effects(ablated, PROBE, designs=study.designs, margin=0.01)
    found = found[found["cell"] != found["baseline"]]
    truth = [
        simulated.expected_value(config[row.task, row.cell], PROBE)
        - simulated.expected_value(config[row.task, row.baseline], PROBE)
        for row in found.itertuples()
    ]
    covered = found["ci_low"].le(truth) & found["ci_high"].ge(truth)
    assert len(found) > 30
    assert covered.mean() > 0.85  # 95% on average; intervals that share a seed are correlated
    wrong = found[(found["answer"] == "better").to_numpy() & (pd.Series(truth) <= 0).to_numpy()]
    assert wrong.empty
    large = pd.Series(truth, found.index) > 0.05
    assert large.sum() >= 3
    assert (found.loc[large, "answer"] == "better").all()


def test_the_ablation_reads_the_same_from_mlflow(study_on_ray: Path, study: analysis.Study):
    uri = json.loads(next(iter((study_on_ray / JOURNAL_FILE).read_text().splitlines())))["config"]["tracking_uri"]
    tracked = analysis.load(uri, study=study.name)
    pd.testing.assert_frame_equal(tracked.designs, study.designs)
    assert tracked.outcomes == study.outcomes
