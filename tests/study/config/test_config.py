"""StudyConfig: valid configurations are read, with defaults that fit the budget and the task."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces import SPECS, Choice, LogUniform
from study.config.loading import load_config, preset_names
from study.config.validation import check_config
from tests.study.config.configurations import file_with
from trainables.tasks import TASKS


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_is_valid_and_is_named_after_its_file(preset: str):
    assert load_config(preset).name == preset.replace("_", "-")


def test_the_defaults_are_all_tasks_on_generated_images():
    config = check_config({"name": "demo"})
    assert config.tasks == list(TASKS)
    assert config.dataset == "shapes"


def test_a_task_may_have_no_cures_where_another_has_some():
    cures = {"rotation": {"lr": [0.1]}, "simclr": {}}
    config = check_config({"name": "demo", "tasks": [*cures], "ablate": {"designs": ["cures"], "cures": cures}})
    cells = {task: config.ablation(config.base_trial(task, "confirm"))[0] for task in ("rotation", "simclr")}
    assert [cell.cell for cell in cells["rotation"]] == ["base", "lr=0.1"]
    assert cells["simclr"] == []


def test_a_task_searches_its_own_space_where_none_is_given():
    assert check_config({"name": "demo"}).space("simclr") == SPECS["simclr"].space


def test_a_given_space_replaces_the_spaces_of_all_tasks_and_is_replaced_by_one_tasks_own():
    config = check_config(
        {"name": "demo", "search": {"space": {"lr": {"loguniform": [1e-4, 1e-2]}, "simclr": {"lr": [0.1]}}}}
    )
    assert config.space("rotation") == {"lr": LogUniform(low=1e-4, high=1e-2)}
    assert config.space("simclr") == {"lr": Choice(values=(0.1,))}


def test_a_space_for_one_task_leaves_the_spaces_of_the_others():
    config = check_config({"name": "demo", "search": {"space": {"simclr": {"lr": [0.1]}}}})
    assert config.space("rotation") == SPECS["rotation"].space


def test_patience_and_grace_come_from_the_budget_where_they_are_not_set():
    config = check_config({"name": "demo", "budget_steps": 100})
    assert (config.grace_period, config.chance_patience) == (25, 50)
    assert check_config({"name": "demo", "search": {"chance_patience": 0}}).chance_patience == 0


def test_reports_come_at_the_end_of_the_budget_at_the_latest():
    config = check_config({"name": "demo", "budget_steps": 10, "report_every": 25})
    assert config.base_trial("rotation", "search").report_every == 10


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, 125),
        ({"probe_every": None}, None),
        ({"probe_every": 50}, 50),
        ({"report_every": 50}, 100),
        ({"report_every": 100}, None),
        ({"search": {"grace_period": 60}}, 50),
    ],
    ids=str,
)
def test_features_are_measured_each_quarter_of_the_budget_or_as_often_as_is_set(change: dict, expected: int | None):
    config = check_config({"name": "demo", **change})
    assert config.base_trial("rotation", "search").probe_every == expected


def test_trials_have_the_ids_of_studies_that_measured_features_at_every_report():
    for every in ("auto", None, 50):
        trial = check_config({"name": "demo", "probe_every": every}).base_trial("rotation", "search")
        assert trial.trial_id == "8781bbc0dfa1"


@pytest.mark.parametrize("preset", preset_names())
def test_yaml_written_and_read_again_is_the_same_configuration(preset: str, tmp_path: Path):
    config = load_config(preset, ["defaults.rotation.lr=1e-5"])
    again = load_config(file_with(tmp_path, config.to_yaml()))
    assert again == config
    assert again.config_hash == config.config_hash
