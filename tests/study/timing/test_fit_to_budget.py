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
from study.timing.fit_to_budget import USED, detectable_sds, detectable_words, fit_to_budget, sized, with_sizes_of
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


STEPS = {
    "search": {"num_samples": 8, "grace_period": 60, "chance_patience": 0, "space": {}},
    "ablate": {
        "designs": ["cures", "steps_by_strength", "factorial"],
        "steps": [200, 800],
        "base": {"rotation": {"budget_steps": 400}},
        "factors": {"budget_steps": [200, 400], "lr": [0.1, 0.2]},
        "cures": {"budget_steps": [1600], "rotation": {"lr": [0.5]}},
    },
}


def test_all_settings_in_steps_keep_their_proportion_to_the_budget_of_a_trial():
    config = tiny(budget_steps=200, report_every=20, budget_hours=1, **STEPS)
    fitting = sized(plan_of(config), 700, MACHINE, KnownCosts())[0].config
    factor = fitting.report_every / 20
    assert factor < 1
    assert fitting.budget_steps == 200 * factor
    assert (fitting.search.grace_period, fitting.search.chance_patience) == (60 * factor, 0)
    assert fitting.ablate.steps == [200 * factor, 800 * factor]
    assert fitting.ablate.base == {"rotation": {"budget_steps": 400 * factor}}
    assert fitting.ablate.factors == {"budget_steps": [200 * factor, 400 * factor], "lr": [0.1, 0.2]}
    assert fitting.ablate.cures == {"budget_steps": [1600 * factor], "rotation": {"lr": [0.5]}}
    assert check_config(fitting.model_dump(mode="json")) == fitting
    assert with_sizes_of(config, fitting.model_dump(mode="json")) == fitting
    assert with_sizes_of(fitting, fitting.model_dump(mode="json")) == fitting, "from the file in the study's folder"
    never = tiny(budget_steps=200, report_every=20, budget_hours=1, search={"chance_patience": None})
    assert sized(plan_of(never), 700, MACHINE, KnownCosts())[0].config.search.chance_patience is None


def test_without_a_gpu_the_time_of_trials_that_reserve_one_is_not_guessed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    on_gpu = tiny(budget_hours=1, resources={"gpu": 0.5})
    for begun in (False, True):
        with pytest.raises(ConfigError, match="this machine has none on which to time them"):
            fit_to_budget(plan_of(on_gpu), MACHINE, begun=begun)
    for config in (on_gpu.model_copy(update={"simulate": True}), tiny(budget_hours=1, simulate=True)):
        fit_to_budget(plan_of(config), MACHINE)


def test_a_study_is_sized_to_the_room_of_the_cluster_that_it_uses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("study.timing.estimate.n_cores", lambda: 2)
    few, many = (sized(plan(), 400, MACHINE, KnownCosts(), slots=slots)[0].config for slots in (None, 16))
    assert few.budget_steps < many.budget_steps


def test_the_detectable_difference_is_that_of_the_paired_test():
    assert detectable_sds(5, 1) == pytest.approx(paired.detectable_noncentrality(4, 0.05) / 5**0.5)
    assert detectable_sds(5, 1) > detectable_sds(10, 1)
    assert detectable_sds(5, 4) > detectable_sds(5, 1)
    words = detectable_words(plan().config, plan())
    assert f"{detectable_sds(5, 1):.1f} standard deviations with probability 0.8" in words
    assert words.startswith("with 5 paired seeds")
    assert "a comparison of two cells of the ablation" in words
    assert detectable_words(tiny(confirm={"seeds": [7]}), plan()).startswith("fewer than 3 seeds cannot show")


def words_of(tasks: tuple[str, ...] = ("rotation",), seeds: int = 5, **ablate: object) -> str:
    settings = {"designs": ["cures"], "cures": {"lr": [0.5]}, **ablate, "seeds": seeds}
    config = tiny(tasks=tasks, confirm={"seeds": seeds}, ablate=settings, budget_steps=200, report_every=20)
    return detectable_words(config, plan_of(config))


def test_the_family_of_a_comparison_is_the_one_that_the_analysis_corrects_for():
    assert "if it is one of" not in words_of(), "a reference cell is not a comparison"
    assert "if it is one of" not in words_of(("rotation", "simclr")), "tasks are families of their own"
    cures = {"lr": [0.5], "weight_decay": [0.1, 0.2]}
    assert f"and of {detectable_sds(5, 3):.1f} if it is one of 3 " in words_of(cures=cures)
    strengths = {"strengths": [0.0, 0.5], "base": {"augmentation_strength": 0.0}}
    assert "one of 3 " in words_of(cures=cures, designs=["cures", "together"], **strengths), "designs are families"
    shared = {"cures": {"augmentation_strength": [0.5]}, "designs": ["strength", "cures"], **strengths}
    assert "one of" not in words_of(**shared), "what two designs share counts once"


def test_cells_of_which_only_main_effects_are_tested_are_no_comparisons():
    words = words_of(("rotation", "simclr"), designs=["factorial"], factors={"lr": [0.1, 0.2], "width": [4, 8]})
    assert "a comparison of a task with untrained networks" in words
    assert f"and of {detectable_sds(5, 2):.1f} if it is one of 2 " in words


def test_with_fewer_seeds_than_a_family_needs_its_comparisons_are_said_to_be_untested():
    words = words_of(seeds=3, cures={"lr": [0.5, 0.2]})
    assert "but one of 2 in a design is shown without a test, which takes 5 seeds" in words
    assert f"{detectable_sds(3, 1):.1f} standard deviations" in words
    assert "without a test" not in words_of(seeds=3)
    config = tiny(evaluate={"datasets": []}, confirm={"seeds": 4})
    assert detectable_words(config, plan_of(config)).startswith("fewer than 5 seeds cannot show any difference")


def test_steps_between_probes_shrink_with_the_steps_so_that_a_sized_study_can_be_resumed():
    config = tiny(budget_steps=200, report_every=10, probe_every=40, budget_hours=1, search={"num_samples": 8})
    small = sized(plan_of(config), 130, MACHINE, KnownCosts())[0].config
    assert small.budget_steps < 200
    assert small.probe_every <= small.grace_period
    assert check_config(small.model_dump(mode="json")) == small
