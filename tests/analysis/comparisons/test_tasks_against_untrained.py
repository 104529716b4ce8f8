"""Pretext tasks compared with untrained encoders: all are one family, since the headline names those that help."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.comparisons import effects
from analysis.comparisons.designs import chosen_against_untrained
from analysis.data.per_image import PerImage
from analysis.stats import paired
from tests.analysis.ablated_runs import METRIC, design, runs_of
from tests.analysis.journals import TRUTH, write_study
from trainables.per_image import pack

TASKS = ("rotation", "simclr", "context_encoder", "context_prediction")
DESIGNS = design(*((task, "d", "chosen", "untrained") for task in TASKS))


def drawn(rng: np.random.Generator, n_seeds: int, top_k: int) -> pd.DataFrame:
    """Draw runs of tasks that are no better than untrained: the best of `top_k` candidates each, by the mean."""
    untrained = rng.normal(0.4, 0.02, n_seeds)
    cells = {}
    for task in TASKS:
        candidates = rng.normal(0.4, 0.02, (top_k, n_seeds))
        cells |= {(task, "untrained"): untrained, (task, "chosen"): candidates[candidates.mean(axis=1).argmax()]}
    return runs_of(cells)


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("top_k", [1, 2])
def test_some_task_falsely_helps_in_at_most_one_study_of_twenty(top_k: int):
    rng, studies = np.random.default_rng(top_k), 200
    frames = [drawn(rng, 5, top_k) for _ in range(studies)]
    together, alone = (
        [effects(runs, METRIC, designs=DESIGNS, across_tasks=family)["answer"].eq("better").any() for runs in frames]
        for family in (True, False)
    )
    assert np.mean(together) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / studies)
    assert np.mean(together) < np.mean(alone)
    assert np.mean(alone) > 0.05


def test_all_tasks_of_a_study_are_one_family_per_metric(tmp_path: Path):
    study = analysis.load(write_study(tmp_path))
    more = [study.runs]  # two more seeds of every encoder
    for seed in (900, 901):
        again = study.tested.drop_duplicates("task").assign(seed=seed)
        more.append(again.assign(trial_id=again["trial_id"] + str(seed)))
    runs = pd.concat(more, ignore_index=True)
    rng, column = np.random.default_rng(0), "probe/shapes/linear"
    runs[column] += rng.normal(0, 0.05, len(runs))
    [(found, seeds)] = chosen_against_untrained(dataclasses.replace(study, runs=runs), margin=0.01)
    assert found["task"].tolist() == list(TRUTH)
    assert found["n_seeds"].eq(5).all()
    np.testing.assert_allclose(found["p_holm"], paired.holm(found["p"].to_numpy()))
    assert (found["p_holm"] > found["p"]).any()
    assert seeds.groupby("task")["baseline_value"].apply(tuple).nunique() == 1


def test_three_seeds_are_enough_with_images_where_each_task_has_one_comparison():
    rng, packed, rows = np.random.default_rng(0), {}, []
    for task in TASKS:
        for cell, level in (("untrained", 0.4), ("chosen", 0.6)):
            for seed in range(3):
                name = f"{task}-{cell}-{seed}"
                correct = rng.random(200) < level
                packed[name] = {METRIC: pack(correct)}
                about = {"trial_id": name, "task": task, "cell": cell, "seed": seed, "status": "FINISHED"}
                rows.append(about | {METRIC: correct.mean()})
    runs, per_image = pd.DataFrame(rows), PerImage(packed.__getitem__)
    found = effects(runs, METRIC, designs=DESIGNS, per_image=per_image, across_tasks=True)
    assert found["answer"].ne("too few seeds").all()
    alone = effects(runs, METRIC, designs=DESIGNS, across_tasks=True)["answer"]
    assert alone.eq("too few seeds").all()
    assert (found["p_holm"] >= found["p"]).all()
    again = pd.concat([DESIGNS, DESIGNS.assign(cell="untrained", baseline="chosen")])
    twice = effects(runs, METRIC, designs=again, per_image=per_image, across_tasks=True)["answer"]
    assert twice.eq("too few seeds").all()
