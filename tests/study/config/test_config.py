"""StudyConfig: valid configurations are read, and any other is refused in one line that names the problem."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces import SPECS, Choice, LogUniform, Uniform
from study.config import strict_yaml
from study.config.loading import load_config, preset_names
from study.config.schema import StudyConfig
from study.config.validation import check_config
from trainables.errors import ConfigError
from trainables.tasks import TASKS


def complaint(content: dict[str, Any]) -> str:
    """Return the one line that refuses a configuration."""
    with pytest.raises(ConfigError) as refused:
        check_config({"name": "demo", **content})
    assert "\n" not in str(refused.value)
    return str(refused.value)


def overridden(*overrides: str) -> StudyConfig:
    return load_config("quick", list(overrides))


def file_with(folder: Path, text: str) -> str:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_is_valid_and_is_named_after_its_file(preset: str):
    assert load_config(preset).name == preset.replace("_", "-")


def test_the_defaults_are_all_tasks_on_generated_images():
    config = check_config({"name": "demo"})
    assert config.tasks == list(TASKS)
    assert config.dataset == "shapes"


@pytest.mark.parametrize(
    ("ablate", "message"),
    [
        ({"designs": ["leave_one_in"]}, "ablate.designs.0 = 'leave_one_in': input should be 'leave_one_out'"),
        ({"design": ["pairs"]}, "ablate.design: unknown key; did you mean 'designs'?"),
        ({"designs": ["cures"], "cures": {"learning_rate": [1]}}, "learning_rate: no such factor"),
        ({"designs": ["cures"], "cures": {"lr": 1}}, "ablate.cures.lr = 1: must be a list of values to try"),
        ({"designs": ["cures"], "cures": {"rotation": 1}}, "ablate.cures.rotation = 1: must be a mapping"),
        ({"designs": ["pairs"], "base": {"augmentation_strength": 0}}, "pairs has nothing to vary for rotation"),
        ({"designs": ["pairs"], "base": {"seed": 1}}, "seed: no such factor"),
        ({"designs": ["pairs"], "base": {"lr": -1}}, "trial.lr = -1.0: must be in"),
        ({"designs": ["pairs"], "ops": ["flop"]}, "ablate.ops.0 = 'flop': input should be 'crop_resize'"),
        ({"designs": ["factorial"]}, "ablate.designs: factorial needs ablate.factors"),
        ({"designs": ["strength"], "strengths": [2]}, "ablate.strengths.0 = 2"),
        ({"margin": 0}, "ablate.margin = 0: input should be greater than 0"),
        ({"base": {"simclr": {"lr": 1}}}, "settings for task 'simclr', which is not among tasks"),
    ],
)
def test_an_ablation_that_cannot_be_run_is_refused_in_one_line(ablate: dict, message: str):
    assert message in complaint({"tasks": ["rotation"], "ablate": ablate})


def test_a_task_may_have_no_cures_where_another_has_some():
    cures = {"rotation": {"lr": [0.1]}, "simclr": {}}
    config = check_config({"name": "demo", "tasks": [*cures], "ablate": {"designs": ["cures"], "cures": cures}})
    cells = {task: config.ablation(config.base_trial(task, "confirm"))[0] for task in ("rotation", "simclr")}
    assert [cell.cell for cell in cells["rotation"]] == ["base", "lr=0.1"]
    assert cells["simclr"] == []


@pytest.mark.parametrize(
    ("content", "key", "suggestion"),
    [
        ({"budget_step": 10}, "budget_step", "'budget_steps'"),
        ({"search": {"num_sample": 3}}, "search.num_sample", "'num_samples'"),
        ({"encoder": {"widht": 8}}, "encoder.widht", "'width'"),
        ({"confirm": {"seed": 3}}, "confirm.seed", "'seeds'"),
        ({"defaults": {"rotation": {"learning_rate": 0.1}}}, "defaults.rotation.learning_rate", "lr"),
        ({"defaults": {"rotation": {"augmentation": {"crop": 1}}}}, "augmentation.crop", "'crop_resize'"),
        ({"defaults": {"rotation": {"augmentation": {"quarter_turn": 1}}}}, "augmentation.quarter_turn", "refuses it"),
        (
            {"search": {"space": {"augmentation/vertical_flip": [0, 1]}}},
            "space.augmentation/vertical_flip",
            "refuses it",
        ),
        (
            {"ablate": {"designs": ["add_one_in"], "ops": ["flip", "quarter_turn"]}},
            "quarter_turn",
            "rotation refuses it",
        ),
        ({"task_options": {"simclr": {"temprature": 1}}}, "task_options.simclr.temprature", "temperature"),
        ({"search": {"space": {"batchsize": [32]}}}, "search.space.batchsize", "'batch_size'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_closest_known_one(content: dict[str, Any], key: str, suggestion: str):
    message = complaint(content)
    assert key in message
    assert suggestion in message


@pytest.mark.parametrize(
    ("content", "key", "value"),
    [
        ({"budget_steps": "many"}, "budget_steps", "'many'"),
        ({"budget_steps": 10.5}, "budget_steps", "10.5"),
        ({"budget_steps": 0}, "budget_steps", "0"),
        ({"report_every": -1}, "report_every", "-1"),
        ({"n_images": 0}, "n_images", "0"),
        ({"image_size": 4}, "image_size", "4"),
        ({"max_train": 1}, "max_train", "1"),
        ({"seed": -1}, "seed", "-1"),
        ({"workers": 0}, "workers", "0"),
        ({"tasks": []}, "tasks", "[]"),
        ({"tasks": "rotation"}, "tasks", "'rotation'"),
        ({"tasks": ["rotation", "jigsaw"]}, "tasks.1", "'jigsaw'"),
        ({"tasks": ["rotation", "rotation"]}, "tasks", "'rotation'"),
        ({"encoder": {"name": "vgg"}}, "encoder.name", "'vgg'"),
        ({"encoder": {"width": 0}}, "encoder.width", "0"),
        ({"encoder": "conv4"}, "encoder", "'conv4'"),
        ({"search": {"algorithm": "bayes"}}, "search.algorithm", "'bayes'"),
        ({"search": {"scheduler": "hyperband"}}, "search.scheduler", "'hyperband'"),
        ({"search": {"reduction_factor": 1}}, "search.reduction_factor", "1"),
        ({"search": {"mode": "best"}}, "search.mode", "'best'"),
        ({"search": {"space": {"lr": {"loguniform": [0, 1]}}}}, "search.space.lr", "[0.0, 1.0]"),
        ({"search": {"space": {"lr": {"uniform": [-1, 1]}}}}, "search.space.lr", "-1"),
        ({"search": {"space": {"batch_size": {"uniform": [8, 16]}}}}, "search.space.batch_size", "8.0"),
        ({"search": {"space": {"optimizer": ["adamw", "adam"]}}}, "search.space.optimizer", "'adam'"),
        ({"search": {"space": {"rotation": 5}}}, "search.space.rotation", "5"),
        ({"search": {"space": {"augmentation/flip": [2]}}}, "search.space.augmentation/flip", "2"),
        ({"resources": {"gpu": -1}}, "resources.gpu", "-1"),
        ({"resources": {"custom": {"fast": 0}}}, "resources.custom.fast", "0"),
        ({"resources": {"custom": {"GPU": 1}}}, "resources.custom.GPU", "resources.gpu"),
        ({"resources": {"labels": {"zone": 1}}}, "resources.labels.zone", "1"),
        ({"resources": {"gpu": math.inf}}, "resources.gpu", "inf"),
        ({"defaults": {"rotation": {"lr": -1}}}, "defaults.rotation.lr", "-1"),
        ({"defaults": {"rotation": {"augmentation": 5}}}, "defaults.rotation.augmentation", "5"),
        ({"defaults": {"rotation": {"augmentation": {"flip": 2}}}}, "defaults.rotation.augmentation.flip", "2"),
        ({"defaults": {"rotation": {"lr": None}}}, "defaults.rotation.lr", "None"),
        ({"task_options": {"simclr": {"temperature": 0}}}, "task_options.simclr.temperature", "0"),
        ({"evaluate": {"datasets": "cifar10"}}, "evaluate.datasets", "'cifar10'"),
        ({"window": "wide"}, "window = ", "'wide': input should be a valid tuple"),
        (
            {"resources": {"fuse": "all"}},
            "resources.fuse = 'all': input should be a valid integer",
            ", or input should be 'auto'",
        ),
        ({"probe_every": 0}, "probe_every", "0: input should be greater than or equal to 1, or input should be 'auto'"),
    ],
)
def test_a_wrong_type_or_an_impossible_value_is_refused_with_its_key(content: dict[str, Any], key: str, value: str):
    message = complaint(content)
    assert message.startswith(key)
    assert value in message


def test_a_task_that_does_not_exist_is_refused_with_those_that_do():
    message = complaint({"tasks": ["jigsaw"]})
    assert all(task in message for task in TASKS)


@pytest.mark.parametrize(
    "content",
    [
        {"defaults": {"simclr": {"lr": 0.1}}},
        {"task_options": {"simclr": {"temperature": 0.2}}},
        {"search": {"space": {"simclr": {"lr": [0.1]}}}},
    ],
)
def test_settings_of_a_task_that_is_not_run_are_refused(content: dict[str, Any]):
    assert "'simclr', which is not among tasks = rotation" in complaint({"tasks": ["rotation"], **content})


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "/etc", "..", ".", ".hidden", "a\\b", "a b", "a\n", "", "x" * 65, "~"]
)
def test_a_name_that_would_leave_the_output_folder_is_refused(name: str):
    assert complaint({"name": name}).startswith("name = ")


def test_a_study_without_a_name_is_refused():
    with pytest.raises(ConfigError, match=r"^name: is missing$"):
        check_config({})


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


def test_the_hash_ignores_locations_and_resources():
    config = check_config({"name": "demo"})
    elsewhere = {"data_root": "/a", "storage": "s3://b", "tracking_uri": "c", "resources": {"cpu": 2}}
    assert check_config({"name": "demo", **elsewhere}).config_hash == config.config_hash


@pytest.mark.parametrize(
    "change",
    [
        *({"name": "other"}, {"tasks": ["rotation"]}, {"dataset": "cifar10"}, {"image_size": 16}, {"max_train": 500}),
        *({"n_images": 100}, {"on_bad_image": "skip"}, {"seed": 1}, {"encoder": {"width": 8}}, {"budget_steps": 10}),
        *({"report_every": 5}, {"defaults": {"rotation": {"lr": 0.1}}}, {"task_options": {"simclr": {}}}),
        *({"search": {"num_samples": 2}}, {"confirm": {"seeds": 2}}, {"evaluate": {"datasets": []}}, {"workers": 2}),
        {"probe_every": 50},
        {"evaluate": {"segmentation": False}},
    ],
    ids=str,
)
def test_the_hash_changes_with_everything_else(change: dict[str, Any]):
    assert check_config({"name": "demo", **change}).config_hash != check_config({"name": "demo"}).config_hash


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_config("quick").name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("preset", preset_names())
def test_yaml_written_and_read_again_is_the_same_configuration(preset: str, tmp_path: Path):
    config = load_config(preset, ["defaults.rotation.lr=1e-5"])
    again = load_config(file_with(tmp_path, config.to_yaml()))
    assert again == config
    assert again.config_hash == config.config_hash


def test_yaml_that_would_run_code_is_refused(tmp_path: Path):
    trap = tmp_path / "ran"
    source = file_with(tmp_path, f"name: !!python/object/apply:os.mkdir ['{trap}']")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(source)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must contain `key: value` lines, not None"),
        ("- a", "must contain `key: value` lines"),
        ("name: [", "not valid YAML"),
        ("name: a\nseed: 2020-13-40", "not valid YAML"),
        ("name: a\nseed: !!int x", "not valid YAML"),
        ("name: a\nseed: !!timestamp x", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("name: \0", "not valid YAML"),
        ("name: a\nsearch: {num_samples: 2}\nsearch: {num_samples: 3}", "'search' is given twice"),
    ],
)
def test_a_file_that_is_not_a_configuration_is_refused_in_one_line(text: str, complaint: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=complaint) as refused:
        load_config(file_with(tmp_path, text))
    assert "\n" not in str(refused.value)
    assert "study.yaml" in str(refused.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    (tmp_path / "study.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read as UTF-8 text"):
        load_config(str(tmp_path / "study.yaml"))


def test_a_missing_file_or_preset_is_refused_with_the_closest_known_one(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        load_config("cifar-10")


PLACES = [
    *((), ("search",), ("search", "space"), ("search", "space", "rotation"), ("search", "space", "lr"), ("defaults",)),
    *(("defaults", "rotation"), ("defaults", "rotation", "augmentation"), ("task_options", "simclr"), ("evaluate",)),
]
known = [*StudyConfig.model_fields, "space", "metric", "lr", "augmentation", "choice", "uniform", "temperature", *TASKS]
keys = st.one_of(st.sampled_from(known), st.none(), st.booleans(), st.integers(), st.text(max_size=5))
scalars = st.one_of(keys, st.floats(), st.dates(), st.binary())
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def nearly_right(draw: st.DrawFn) -> dict[Any, Any]:
    """A valid configuration with a few values, at any depth, replaced by anything."""
    content: dict[Any, Any] = {"name": "demo", "tasks": ["rotation", "simclr"]}
    for _ in range(draw(st.integers(1, 3))):
        place: Any = content
        for part in draw(st.sampled_from(PLACES)):
            place = place.setdefault(part, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            place[draw(keys)] = draw(anything)
    return content


def refusal(content: Callable[[], StudyConfig]) -> str | None:
    """Return the message that refuses a configuration, None for one that is accepted."""
    try:
        content()
    except ConfigError as error:
        return str(error)
    return None


def test_tasks_may_be_chosen_from_a_preset_that_has_settings_for_the_others():
    for choice in ({"overrides": ["tasks=[rotation]"]}, {"changes": {"tasks": ["rotation"]}}):
        config = load_config("small_data", **choice)
        assert (config.tasks, config.ablate.cures["width"]) == (["rotation"], [8])
        assert "simclr" not in config.ablate.cures
    with pytest.raises(ConfigError, match="settings for task 'simclr'"):  # given on the command line, this is a mistake
        load_config("quick", ["tasks=[rotation]", "defaults.simclr.lr=0.1"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(nearly_right(), st.dictionaries(keys, anything, max_size=4)))
def test_any_mapping_is_a_configuration_or_is_refused_in_one_line(content: dict[Any, Any]):
    message = refusal(lambda: check_config(content))
    if message is not None:
        assert len(message.splitlines()) == 1
        return
    config = check_config(content)
    assert check_config(strict_yaml.load(config.to_yaml())) == config
    for task in config.tasks:
        config.base_trial(task, "search").to_json()


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}!&*|>'\"#%@`,.\n\t 01e_~?=<"), max_size=30))
def test_any_text_for_a_value_is_accepted_or_refused_in_one_line(text: str):
    message = refusal(lambda: overridden(f"n_images={text}"))
    assert message is None or len(message.splitlines()) == 1


def test_a_window_is_hashable_and_by_default_changes_no_hash():
    plain, windowed = (check_config({"name": "s", **changes}) for changes in ({}, {"window": [[0, 4095], [1, 2]]}))
    assert hash(windowed.window) == hash(((0.0, 4095.0), (1.0, 2.0)))  # loaded data sets are cached by their arguments
    assert check_config(windowed.model_dump(mode="json")) == windowed
    assert plain.config_hash == check_config({"name": "s", "window": None, "stack": "first"}).config_hash
    assert plain.config_hash != windowed.config_hash
