"""Size and training time of a study, estimated before it runs."""

from __future__ import annotations

from study.config.validation import check_config
from study.driver import load_datasets
from study.plan.estimate import estimate, seconds_per_step
from study.plan.phases import Plan


def plan_of(**settings) -> Plan:
    small = {"name": "sized", "tasks": ["rotation", "simclr"], "max_train": 400, "encoder": {"width": 4}}
    config = check_config({**small, "budget_steps": 10, "search": {"num_samples": 3}, **settings})
    return Plan(config, load_datasets(config))


def test_trials_and_steps_are_those_of_the_plan():
    sizes = {phase.phase: (phase.trials, phase.steps) for phase in estimate(plan_of(confirm={"top_k": 2, "seeds": 3}))}
    assert sizes == {"baselines": (4, 0), "search": (6, 60), "confirm": (12, 120), "evaluate": (10, 0)}


def test_a_grid_counts_its_points():
    space = {"lr": {"loguniform": [1e-3, 1e-2]}, "batch_size": [32, 64]}
    sizes = estimate(plan_of(search={"num_samples": 3, "algorithm": "grid", "space": space}))
    assert next(phase.trials for phase in sizes if phase.phase == "search") == 2 * 3 * 2


def test_time_grows_with_the_budget():
    short, long = (sum(p.seconds for p in estimate(plan_of(budget_steps=steps))) for steps in (10, 1000))
    assert long > 10 * short > 0


def test_a_step_is_timed_with_the_batches_that_trials_will_have():
    small, large = (
        seconds_per_step(plan_of(search={"space": {"batch_size": [size]}}), "rotation") for size in (8, 256)
    )
    assert large > 4 * small  # 32 times the work, plus a fixed cost per step


def test_an_ablation_counts_every_cell_with_every_seed_at_its_own_budget():
    cures = {"lr": [0.5], "budget_steps": [40]}
    phases = estimate(plan_of(ablate={"designs": ["cures"], "seeds": 5, "cures": cures}))
    ablate = next(phase for phase in phases if phase.phase == "ablate")
    assert ablate.trials == 5 * (2 * 3 + 1)  # base and two cures of two tasks, and the untrained encoder
    assert ablate.steps == 5 * 2 * (10 + 10 + 40)
    assert ablate.seconds > 0
