"""Sizes of a study that a time budget chooses: paired seeds first, then steps, then search trials."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import pytest

from analysis.stats import paired
from study.config.validation import check_config
from study.plan.phases import Plan
from study.timing.estimate import estimate
from study.timing.fit_to_budget import USED, detectable_sds, detectable_words, sized, with_sizes_of
from study.timing.machine import Machine
from tests.study.studies import KnownCosts, plan_of, tiny
from trainables.errors import ConfigError

MACHINE = Machine(start=10, phase=4, warm_up=3, trial=0.1, end=8)
CURES = {"designs": ["cures"], "cures": {"lr": [0.5], "weight_decay": [0.1]}}


@functools.cache
def plan() -> Plan:
    search = {"num_samples": 8}
    return plan_of(tiny(budget_steps=200, report_every=20, budget_hours=1, search=search, ablate=CURES))


def sizes_within(seconds: float) -> tuple[int, int, int]:
    config = sized(plan(), seconds, MACHINE, KnownCosts())[0].config
    assert config.confirm.seeds == config.ablate.seeds
    assert config.budget_steps == 10 * config.report_every, "as many reports as configured"
    return config.ablate.seeds, config.budget_steps, config.search.num_samples


def test_a_longer_budget_has_more_seeds_then_more_steps_then_more_trials():
    found = [sizes_within(seconds) for seconds in (120, 130, 150, 200, 400, 600, 900, 2000, 10_000, 10**6)]
    assert found[0][0] == 3
    for before, after in itertools.pairwise(found):
        assert all(more >= less for less, more in zip(before, after, strict=True)), (before, after)
    assert any(seeds < 5 for seeds, *_ in found)
    assert all(steps == 50 and trials == 4 for seeds, steps, trials in found if seeds < 5), "seeds come first"
    assert all(trials == 4 for _, steps, trials in found if steps < 200), "then steps"
    assert found[-1] == (20, 16 * 200, 16 * 8)


def test_a_sized_plan_is_never_estimated_above_its_budget():
    for seconds in (120, 300, 500, 5000):
        fitting, found = sized(plan(), seconds, MACHINE, KnownCosts())
        assert found.high <= USED * seconds
        assert estimate(fitting, MACHINE, KnownCosts()) == found


def test_a_budget_that_is_too_short_is_refused_with_the_smallest_that_works():
    with pytest.raises(ConfigError, match=r"the smallest time that works is --hours 0\.\d\d$") as refused:
        sized(plan(), 20, MACHINE, KnownCosts())
    hours = float(str(refused.value).rpartition(" ")[2])
    assert sizes_within(3600 * hours)[0] >= 3
    with pytest.raises(ConfigError):
        sized(plan(), 3600 * (hours - 0.011), MACHINE, KnownCosts())
    with pytest.raises(ConfigError, match=rf"--hours {hours + 0.1:g}$"):
        sized(plan(), 20, MACHINE, KnownCosts(), spent=360)


def test_listed_seeds_and_grids_stay_as_they_are():
    listed = tiny(confirm={"seeds": [4, 5]}, search={"algorithm": "grid", "num_samples": 2}, budget_hours=1)
    config = sized(dataclasses.replace(plan(), config=listed), 3600, MACHINE, KnownCosts())[0].config
    assert config.confirm.seeds == [4, 5]
    assert config.search.num_samples == 2


@pytest.mark.parametrize("probe_every", ["auto", None, 40])
def test_a_resumed_study_has_the_sizes_with_which_it_began(probe_every: str | int | None):
    config = plan().config.model_copy(update={"probe_every": probe_every})
    fitting = sized(dataclasses.replace(plan(), config=config), 300, MACHINE, KnownCosts())[0].config
    assert with_sizes_of(config, fitting.model_dump(mode="json")) == fitting
    assert fitting.config_hash != config.config_hash
    assert fitting.model_copy(update={"budget_hours": None}).config_hash == fitting.config_hash


def test_the_detectable_difference_is_that_of_the_paired_test():
    assert detectable_sds(5, 1) == pytest.approx(paired.detectable_noncentrality(4, 0.05) / 5**0.5)
    assert detectable_sds(5, 1) > detectable_sds(10, 1)
    assert detectable_sds(5, 4) > detectable_sds(5, 1)
    words = detectable_words(plan().config, plan())
    assert f"{detectable_sds(5, 1):.1f} standard deviations with probability 0.8" in words
    assert words.startswith("with 5 paired seeds")
    assert detectable_words(tiny(confirm={"seeds": [7]}), plan()).startswith("one seed cannot show")


def test_steps_between_probes_shrink_with_the_steps_so_that_a_sized_study_can_be_resumed():
    config = tiny(budget_steps=200, report_every=10, probe_every=40, budget_hours=1, search={"num_samples": 8})
    small = sized(plan_of(config), 130, MACHINE, KnownCosts())[0].config
    assert small.budget_steps < 200
    assert small.probe_every <= small.grace_period
    assert check_config(small.model_dump(mode="json")) == small
