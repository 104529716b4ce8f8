"""Searchers and schedulers, asked as Tune would ask them: what is tried, in which order, and what is stopped."""

from __future__ import annotations

import math
from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.variant_generator import generate_variants

from analysis.records import FAILED, FINISHED, STOPPED
from search_spaces import Choice, Domain, LogUniform, Uniform
from study.config.loading import load_config, preset_names
from study.execution.executor import Executor
from study.execution.search import (
    FIFOScheduler,
    PerTaskASHA,
    PerTaskSearcher,
    default_values,
    population,
    queued_trials,
    tpe,
    tune_domain,
)
from study.plan.history import History
from study.plan.phases import Plan
from tests.study.executed_studies import FakeTrial
from tests.study.studies import add, plan_of, tiny
from trainables.objective import OBJECTIVE
from trainables.ray_adapter.trainable import Shared
from trainables.trial import TrialConfig


@pytest.mark.parametrize("domain", [Uniform(low=0.2, high=0.3), LogUniform(low=0.2, high=0.3), Choice(values=(7, 8))])
def test_tune_samples_from_the_same_domain(domain: Domain):
    assert all(sample in domain for sample in tune_domain(domain).sample(None, size=20))


def test_listed_trials_are_samples_of_their_space_each_once_and_in_order():
    trials = [TrialConfig("search", "rotation", seed=seed) for seed in range(5)]
    space = queued_trials(trials)
    sampled = [next(iter(generate_variants(space)))[1] for _ in trials]
    assert sampled == [{"trial": trial.to_dict()} for trial in trials]


@pytest.mark.parametrize("scheduler", [FIFOScheduler(), PerTaskASHA(max_t=6, grace_period=2, reduction_factor=2)])
def test_trials_start_in_their_order_one_that_failed_again_after_all_others_and_the_ended_are_forgotten(scheduler: Any):
    first, second, paused = trials = [FakeTrial(name) for name in ("c", "b", "a")]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    paused.status = "PAUSED"
    assert scheduler.choose_trial_to_run(None) is first
    scheduler.on_trial_add(None, first)  # Tune puts it into the queue again
    assert scheduler.choose_trial_to_run(None) is second
    second.status = "ERROR"
    assert scheduler.choose_trial_to_run(None) is first
    first.status = "TERMINATED"
    assert scheduler.choose_trial_to_run(None) is paused
    paused.status = "RUNNING"
    assert scheduler.choose_trial_to_run(None) is None
    assert list(scheduler._alive.values()) == [paused]


def test_asha_stops_the_worse_of_two_but_no_trial_at_the_end_of_its_budget():
    scheduler = PerTaskASHA(max_t=6, grace_period=2, reduction_factor=2)

    def ask(trial: FakeTrial, step: int, value: float) -> str:
        return scheduler.on_trial_result(None, trial, {"step": step, "objective": value})

    good, bad, late = FakeTrial("good"), FakeTrial("bad"), FakeTrial("late")
    for trial in (good, bad, late):
        scheduler.on_trial_add(None, trial)
    assert ask(good, 2, 0.9) == "CONTINUE"
    assert ask(good, 6, 0.9) == "CONTINUE"
    assert ask(bad, 2, 0.1) == "STOP"
    assert ask(late, 6, 0.1) == "CONTINUE"  # its first report and its last


def test_asha_compares_with_trials_that_have_ended_before_the_study_was_resumed():
    scheduler = PerTaskASHA(max_t=6, grace_period=2, reduction_factor=2)
    scheduler.recall("earlier", "rotation", [(0, 0.1), (2, 0.9), (4, 0.9)])
    resumed, other = FakeTrial("resumed", {"task": "rotation"}), FakeTrial("other", {"task": "simclr"})
    for trial in (resumed, other):
        scheduler.on_trial_add(None, trial)
    assert [scheduler.on_trial_result(None, each, {"step": 2, "objective": 0.1}) for each in (resumed, other)] == [
        "STOP",
        "CONTINUE",
    ]


def test_asha_never_holds_a_trial_of_one_task_against_those_of_another():
    scheduler = PerTaskASHA(max_t=6, grace_period=2, reduction_factor=2)
    trials = [FakeTrial("good", {"task": "rotation"}), FakeTrial("listed", {"trial": {"task": "simclr"}})]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    actions = [
        scheduler.on_trial_result(None, trial, {"step": 2, "objective": value})
        for trial, value in zip(trials, (0.9, 0.1), strict=True)
    ]
    assert actions == ["CONTINUE", "CONTINUE"]


def test_no_point_of_a_small_space_is_suggested_twice_nor_what_an_earlier_driver_has_run():
    plan = plan_of(tiny(search={"num_samples": 9, "space": {"lr": [1e-2, 5e-3, 1e-3]}}))
    base = plan.search_base("rotation")
    searches = PerTaskSearcher(
        {"rotation": tpe(plan, History(), "rotation")}, {"rotation": base}, [base.replace(lr=1e-2)]
    )
    suggested = []
    while (config := searches.suggest(str(len(suggested)))) != PerTaskSearcher.FINISHED:
        suggested.append(config)
    assert sorted(suggested, key=lambda config: config["lr"]) == [{"task": "rotation", "lr": lr} for lr in (1e-3, 5e-3)]
    assert searches.n_left == 0


@pytest.mark.parametrize(("metric", "sign"), [("probe/linear", 1), ("val/loss", -1)])
def test_a_resumed_search_knows_the_values_of_its_ended_trials_but_not_of_those_that_failed(
    metric: str, sign: int, monkeypatch: pytest.MonkeyPatch
):
    plan = plan_of(tiny(search={"num_samples": 9, "metric": metric}))
    base, history, known = plan.search_base("rotation"), History(), {}
    monkeypatch.setattr(
        OptunaSearch, "add_evaluated_point", lambda _, values, objective: known.update({values["lr"]: objective})
    )

    def ran(lr: float, *values: float, status: str | None) -> None:
        add(history, base.replace(lr=lr), *values, metric=metric, status=status)

    ran(1e-3, 0.1, 0.5, status=FINISHED)
    ran(2e-3, 0.4, status=STOPPED)
    ran(3e-3, 0.9, status=FAILED)
    ran(4e-3, 0.9, math.nan, status=FINISHED)
    ran(5e-3, status=FINISHED)  # its metric was never reported
    ran(6e-3, 0.3, status=None)  # its driver has died
    add(history, base.replace(lr=7e-3, phase="confirm"), 0.9, metric=metric)
    searcher, left = tpe(plan, history, "rotation")
    assert known == {1e-3: sign * 0.5, 2e-3: sign * 0.4}
    assert left == 9 - 5
    assert searcher.suggest("next") == {"lr": 6e-3}


def test_population_based_training_never_leaves_the_space():
    space = {"lr": {"loguniform": [1e-3, 1e-2]}, "augmentation_strength": {"uniform": [0.9, 1.0]}}
    search = {"scheduler": "pbt", "space": space | {"weight_decay": [1e-4, 1e-3]}}
    domains = tiny(search=search).space("rotation")
    scheduler = population(domains, max_t=9, grace_period=3)
    config = {"trial": {"lr": 1e-2, "augmentation_strength": 0.99, "weight_decay": 1e-3, "batch_size": 8}}
    for _ in range(50):
        changed, _ = scheduler._get_new_config(None, FakeTrial("a", config))
        assert {name: changed["trial"][name] for name in domains if changed["trial"][name] not in domains[name]} == {}
        assert changed["trial"]["batch_size"] == 8


def test_a_trial_of_a_population_ends_with_its_last_report():
    scheduler = population(tiny().space("rotation"), max_t=9, grace_period=3)
    nothing_to_pause = None
    last = {"step": 9, OBJECTIVE: 0.1}
    assert scheduler.on_trial_result(nothing_to_pause, FakeTrial("a", {}), last) == TrialScheduler.CONTINUE


def test_tasks_without_a_space_are_listed_and_optuna_searches_the_others(monkeypatch: pytest.MonkeyPatch):
    plan = plan_of(tiny(tasks=["rotation", "simclr"]))
    own = plan.space("simclr")
    monkeypatch.setattr(Plan, "space", lambda self, task: own if task == "simclr" else {})
    monkeypatch.setattr(Executor, "__init__", lambda self: None)
    executor, listed, searched = Executor(), [], []
    executor.plan, executor.config, executor.shared, executor.deadline = plan, plan.config, Shared({}, ""), math.inf
    monkeypatch.setattr(executor, "_run_listed", lambda name, trials, *_: listed.extend(trials))
    monkeypatch.setattr(executor, "_search_by_tpe", lambda tasks, shared: searched.extend(tasks))
    executor.search("rotation", "simclr")
    assert (listed, searched) == ([plan.search_base("rotation")], ["simclr"])


@pytest.mark.parametrize("preset", preset_names())
def test_a_search_begins_inside_its_space_also_where_the_space_excludes_the_default(preset: str):
    config = load_config(preset)
    for task in config.tasks:
        space, base = config.space(task), config.base_trial(task, "search")
        first = default_values(task, base, space)
        assert set(first) == set(space)  # Ray's OptunaSearch refuses a point that leaves one out
        assert all(value in space[name] for name, value in first.items())
        kept = {name for name in ("lr", "batch_size") if name in space and getattr(base, name) in space[name]}
        assert all(first[name] == getattr(base, name) for name in kept)
