"""`confirm.seeds` as a list: these seeds and no other, and what such a list may not hold."""

from __future__ import annotations

import pytest

from analysis.records.phases import FRESH_SEEDS, short_seed
from study.plan.history import History
from study.plan.phases import Plan
from tests.study.studies import plan_of, tiny
from trainables.errors import ConfigError


def plan(seeds: int | list[int]) -> Plan:
    return plan_of(tiny(confirm={"top_k": 1, "seeds": seeds}, ablate={"designs": ["cures"], "seeds": 2}))


def test_the_listed_seeds_are_those_of_the_baselines_and_of_the_estimate():
    listed = plan([5, 6, 7])
    assert listed.fresh_seeds() == [5, 6, 7]
    assert [trial.seed for trial in listed.baselines() if trial.task == "random_init"] == [5, 6, 7]
    assert listed.config.confirm.n_seeds == plan(3).config.confirm.n_seeds == 3
    assert listed.confirm(History()) == []


def test_the_seeds_of_the_ablation_do_not_depend_on_the_list():
    assert plan([5, 6]).ablation_seeds() == plan(2).ablation_seeds()


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([5, 5], "a seed occurs twice"),
        ([0, 5], "0 is the seed of the search"),
        ([], "must be a number of seeds, or a list of seeds from 0"),
        ([-1], "from 0 to 2,147,483,647"),
        (
            [5, FRESH_SEEDS + 501],
            "the ablation uses the seeds 1049076 to 1049077.*on 1049077 would be optimistic",
        ),
        (501, "the ablation uses the seeds 1049076 to 1049077"),
    ],
)
def test_a_list_that_would_mislead_is_refused(seeds: list[int], message: str):
    with pytest.raises(ConfigError, match=message):
        plan(seeds)


def test_seeds_of_the_ablation_may_be_listed_where_there_is_none():
    without = tiny(confirm={"top_k": 1, "seeds": [FRESH_SEEDS + 500, FRESH_SEEDS + 501]})
    assert plan_of(without).fresh_seeds() == [FRESH_SEEDS + 500, FRESH_SEEDS + 501]


def test_a_fresh_seed_is_shown_without_its_offset():
    assert [short_seed(seed) for seed in (0, 7, FRESH_SEEDS, FRESH_SEEDS + 1003)] == [0, 7, 0, 1003]
