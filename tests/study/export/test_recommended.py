"""The recommended study runs without changes, and trains exactly the chosen configurations."""

from __future__ import annotations

from analysis.records.phases import CONFIRM
from study.config.loading import load_config
from study.config.seeds import ablation_seeds, fresh_seeds
from study.config.validation import check_config
from study.driver import load_datasets
from study.export.recommended import write_recommended
from study.plan.feasibility import check_plan
from study.plan.phases import Plan


def chosen_of(config):
    values = {"lr": 0.0123, "batch_size": 32, "augmentation_strength": 0.25}
    trials = {
        "rotation": config.base_trial("rotation", CONFIRM).with_values(values),
        "simclr": config.base_trial("simclr", CONFIRM).with_values({**values, "option/temperature": 0.2}),
    }
    return {task: {"config": trial.to_dict()} for task, trial in trials.items()}


def test_the_recommended_study_loads_and_its_only_trials_are_the_chosen_configurations(tmp_path):
    config = check_config({"name": "found", "tasks": ["rotation", "simclr"], "max_train": 400, "budget_steps": 7})
    chosen = chosen_of(config)
    path = write_recommended(tmp_path, config, chosen)
    again = load_config(str(path))
    plan = Plan(again, load_datasets(again))
    check_plan(plan)
    for task, choice in chosen.items():
        (trial,) = plan.enumerated(task)
        assert trial.replace(phase=CONFIRM).to_dict() == choice["config"]
    seeds = fresh_seeds(again)
    assert len(seeds) == 5, "enough for a test"
    assert not {*seeds} & {config.seed, *fresh_seeds(config), *ablation_seeds(config)}, "these chose the configuration"


def test_nothing_is_written_where_nothing_was_chosen(tmp_path):
    assert write_recommended(tmp_path, check_config({"name": "empty"}), {}) is None
    assert not list(tmp_path.iterdir())
