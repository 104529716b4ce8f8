"""Settings of the command line in place of those of a preset or a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces import Choice, Uniform
from study.config.loading import load_config
from tests.study.config.configurations import file_with, overridden
from trainables.errors import ConfigError


def test_set_changes_nested_values_lists_and_nulls():
    config = overridden("search.num_samples=3", "tasks=[simclr]", "n_images=50", "n_images=null", "encoder.width=8")
    assert config.search.num_samples == 3
    assert config.search.algorithm == load_config("quick").search.algorithm
    assert config.tasks == ["simclr"]
    assert config.n_images is None
    assert config.encoder.width == 8


def test_set_reaches_keys_that_the_preset_does_not_have():
    config = overridden("search.space=null", "search.space.option/temperature={uniform: [0.1, 0.5]}", "tasks=[simclr]")
    assert config.space("simclr") == {"option/temperature": Uniform(low=0.1, high=0.5)}


def test_a_number_with_an_exponent_is_a_number_wherever_it_is_written(tmp_path: Path):
    assert overridden("defaults.rotation.lr=1e-3").base_trial("rotation", "search").lr == 1e-3
    assert overridden("search.space.lr=[1e-4, 1E-3]").space("rotation")["lr"] == Choice(values=(1e-4, 1e-3))
    source = file_with(tmp_path, "name: a\ndefaults: {rotation: {lr: 2e-3, weight_decay: -0e0}}")
    assert load_config(source).base_trial("rotation", "search").lr == 2e-3


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("budget_steps", "must be KEY=VALUE"),
        ("=3", "must be KEY=VALUE"),
        ("name.first=3", "name is 'quick', which has no keys"),
        ("search.num_samples=[", "not valid YAML"),
        ("search.num_samples=!!python/object:os.system {}", "not valid YAML"),
        ("search.num_sample=3", "did you mean 'num_samples'"),
        ("search.num\nsamples=3", "unknown key"),
    ],
)
def test_an_override_that_cannot_be_applied_is_refused_in_one_line(override: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint) as refused:
        overridden(override)
    assert "\n" not in str(refused.value)


def test_the_command_lines_own_options_come_last():
    config = load_config("quick", ["tasks=[simclr]"], {"tasks": ["rotation"], "data_root": None})
    assert config.tasks == ["rotation"]


def test_tasks_may_be_chosen_from_a_preset_that_has_settings_for_the_others():
    for choice in ({"overrides": ["tasks=[rotation]"]}, {"changes": {"tasks": ["rotation"]}}):
        config = load_config("small_data", **choice)
        assert (config.tasks, config.ablate.cures["width"]) == (["rotation"], [8])
        assert "simclr" not in config.ablate.cures
    with pytest.raises(ConfigError, match="settings for task 'simclr'"):  # given on the command line, this is a mistake
        load_config("quick", ["tasks=[rotation]", "defaults.simclr.lr=0.1"])
