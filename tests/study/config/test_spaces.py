"""`search.space` replaces a task's own search space, or adds to it, and the plan says what is left out or replaced."""

from __future__ import annotations

from typing import Any

import pytest

from search_spaces import SPECS, Choice, LogUniform
from study.config import strict_yaml
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.plan.feasibility import check_plan
from study.plan.small_sets import left_out_batch_sizes
from study.plan.unsearched import set_but_searched, set_but_searched_lines, unsearched, unsearched_lines
from tests.study.studies import plan_of, tiny
from trainables.errors import ConfigError

LR = {"lr": {"loguniform": [1e-3, 2e-3]}}


def config(space: dict[str, Any], *tasks: str) -> StudyConfig:
    return check_config({"name": "spaces", "tasks": list(tasks or ["simclr"]), "search": {"space": space}})


def test_without_extend_the_configured_space_replaces_the_tasks_own():
    assert list(config(LR).space("simclr")) == ["lr"]
    assert config({**LR, "extend": False}).space("simclr") == config(LR).space("simclr")


def test_extend_adds_to_the_tasks_own_space_and_overrides_what_both_have():
    own, found = SPECS["simclr"].space, config({**LR, "extend": True, "weight_decay": [0.0, 0.1]}).space("simclr")
    assert list(found) == [*own, "weight_decay"]
    assert found["lr"] == LogUniform(low=1e-3, high=2e-3)
    assert found["weight_decay"] == Choice(values=(0.0, 0.1))
    assert all(found[name] == own[name] for name in own if name != "lr")


def test_extend_may_apply_to_one_task():
    both = config({"lr": [0.001], "simclr": {"extend": True}}, "rotation", "simclr")
    assert list(both.space("rotation")) == ["lr"]
    assert set(both.space("simclr")) == {*SPECS["simclr"].space}
    alone = config({"simclr": {"extend": True, "weight_decay": [0.0]}}, "rotation", "simclr")
    assert alone.space("rotation") == SPECS["rotation"].space
    assert "weight_decay" in alone.space("simclr")


def test_extend_must_be_true_or_false():
    with pytest.raises(ConfigError, match=r"search\.space\.extend = 'yes please': must be true, to add"):
        config({"extend": "yes please"})


def test_batch_sizes_of_the_tasks_own_space_that_do_not_fit_are_left_out_of_an_extended_one():
    large = max(SPECS["simclr"].space["batch_size"].grid(2))
    extended = {**LR, "extend": True}
    assert large in left_out_batch_sizes(config(extended), "simclr", large - 1)
    assert left_out_batch_sizes(config({**extended, "batch_size": [large]}), "simclr", large - 1) == []


def test_the_plan_names_what_is_no_longer_searched_with_its_value():
    plan = plan_of(tiny(search={"space": LR}, defaults={"rotation": {"batch_size": 8}}))
    found = unsearched(plan)
    assert list(found) == ["rotation"]
    assert set(found["rotation"]) == {*SPECS["rotation"].space} - {"lr"}
    assert found["rotation"]["batch_size"] == 8
    assert found["rotation"]["augmentation_strength"] == plan.search_base("rotation").augmentation_strength
    (line,) = unsearched_lines(found)
    assert line.startswith("rotation: search.space leaves out ")
    assert "batch_size (always 8)" in line


def test_values_of_options_are_named_too():
    plan = plan_of(tiny(tasks=["context_prediction"], search={"space": LR}))
    found = unsearched(plan)["context_prediction"]
    assert {name for name in found if name.startswith("option/")} == {
        name for name in SPECS["context_prediction"].space if name.startswith("option/")
    }
    assert found["option/pairs_per_image"] == 8


@pytest.mark.parametrize("space", [{}, {**LR, "extend": True}])
def test_nothing_is_named_where_the_whole_space_is_searched(space: dict[str, Any]):
    content = tiny().model_dump(mode="json")
    assert unsearched(plan_of(check_config({**content, "search": {**content["search"], "space": space}}))) == {}


SET = {
    "tasks": ["rotation", "simclr"],
    "defaults": {"rotation": {"lr": 3e-3, "augmentation": {"flip": 1.0}}, "simclr": {"batch_size": 64}},
    "task_options": {"simclr": {"temperature": 0.2, "projection_dim": 64}},
    "max_train": None,
}


def test_the_start_of_a_study_says_which_set_values_its_search_replaces(caplog: pytest.LogCaptureFixture):
    check_plan(plan_of(tiny(**SET, search={"space": {}})))
    assert caplog.messages == [
        "rotation: the search varies lr (0.003 is only its first value); for a fixed value, set "
        "search.space.rotation to {extend: true, lr: [0.003]}",
        "simclr: the search varies batch_size (64 is only its first value), option/temperature (0.2 is only its first "
        "value); for a fixed value, set search.space.simclr to {extend: true, batch_size: [64], option/temperature: "
        "[0.2]}",
    ]


@pytest.mark.parametrize(
    ("search", "value"),
    [
        ({"algorithm": "random"}, 3e-3),
        ({"algorithm": "grid", "num_samples": 2}, 3e-3),
        ({"scheduler": "pbt"}, 3e-3),
        ({}, 0.5),
    ],
)
def test_a_set_value_that_no_search_tries_has_no_effect(search: dict[str, Any], value: float):
    plan = plan_of(tiny(search=search | {"space": LR}, defaults={"rotation": {"lr": value, "batch_size": 8}}))
    (line,) = set_but_searched_lines(plan)
    assert line.startswith(f"rotation: the search varies lr ({value} has no effect); for a fixed value, set search.sp")
    assert line.endswith(".space.rotation to {lr: [" + str(value) + "]}")


@pytest.mark.parametrize(
    "space", [{}, {"simclr": {"weight_decay": [0.0, 0.1], "extend": True}}, {"batch_size": [32, 64]}], ids=str
)
def test_the_named_setting_fixes_the_values_and_leaves_the_rest_of_the_search(space: dict[str, Any]):
    plan = plan_of(tiny(**SET, search={"space": space}))
    before, found = plan.space("simclr"), set_but_searched(plan)["simclr"]
    line = set_but_searched_lines(plan)[-1]
    content = plan.config.model_dump(mode="json")
    content["search"]["space"]["simclr"] = strict_yaml.load(line.partition("search.space.simclr to ")[2])
    fixed = plan_of(check_config(content))
    assert fixed.space("simclr") == before | {name: Choice(values=(value,)) for name, value in found.items()}
    assert "simclr" not in set_but_searched(fixed)


def test_a_study_without_extend_keeps_its_hash():
    assert config(LR).config_hash != config({**LR, "extend": True}).config_hash
    assert config({}).config_hash == "219379391fe2"  # of version 0.1
