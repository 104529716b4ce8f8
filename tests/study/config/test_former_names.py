"""A study that spells `grey`, as version 0.1 did, is read as one that spells `gray`, and keeps its identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.config.loading import load_config
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.series import load_series
from tests.study.studies import tiny

FORMER = """
name: former
tasks: [rotation, context_prediction]
defaults: {rotation: {augmentation: {crop_resize: 0.5, grey: 0.25}}}
task_options: {context_prediction: {grey: 0.5}}
search: {space: {lr: [0.001], augmentation/grey: [0.1, 0.3], context_prediction: {option/grey: [0.0, 1.0]}}}
ablate: {designs: [add_one_in, cures], ops: [flip, grey], cures: {augmentation/grey: [0.5]}}
"""
QUICK_OF_0_1 = """
name: quick
dataset: shapes
max_train: 1000
encoder: {name: conv4, width: 16}
budget_steps: 100
report_every: 50
search:
  num_samples: 3
  space: {lr: {loguniform: [1.0e-3, 1.0e-2]}, augmentation_strength: {uniform: [0, 1]}, batch_size: [32, 64]}
confirm: {top_k: 1, seeds: 3}
"""
# As version 0.1 computed them for this study.
CONFIG_HASH = "c9a470ef80a0"
TRIAL_IDS = {"rotation": "db16271ab192", "context_prediction": "90fa88b34e36"}

NOTICE = "former: 'grey' is now spelled 'gray'; the former spelling is still accepted"


def written(folder: Path, spelled: str) -> str:
    path = folder / f"{spelled}.yaml"
    path.write_text(FORMER.replace("grey", spelled), encoding="utf-8")
    return str(path)


def ids_of(config: StudyConfig) -> dict[str, str]:
    return {task: config.base_trial(task, "search").trial_id for task in config.tasks}


@pytest.mark.parametrize("spelled", ["grey", "gray"])
def test_both_spellings_are_the_study_that_version_0_1_ran(tmp_path: Path, spelled: str):
    config = load_config(written(tmp_path, spelled))
    assert config.config_hash == CONFIG_HASH
    assert ids_of(config) == TRIAL_IDS


def test_the_former_spelling_is_read_as_the_current_one_in_every_section(tmp_path: Path):
    former, current = (load_config(written(tmp_path, spelled)) for spelled in ("grey", "gray"))
    assert former == current
    assert "grey" not in former.to_yaml()


def test_a_name_outside_of_those_sections_may_be_spelled_as_it_likes():
    config = tiny(name="grey-study", dataset="folder:/photos/grey", tasks=["rotation"])
    assert (config.name, config.dataset) == ("grey-study", "folder:/photos/grey")


def test_one_line_says_that_the_spelling_is_a_former_one(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    load_config(written(tmp_path, "grey"))
    assert caplog.messages == [NOTICE]


def test_nothing_is_said_of_the_current_spelling(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    load_config(written(tmp_path, "gray"))
    assert caplog.messages == []


@pytest.mark.parametrize("load", [load_config, load_series])
def test_set_accepts_the_former_spelling_with_one_line(load, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    source = tmp_path / "quick.yaml"
    source.write_text(QUICK_OF_0_1, encoding="utf-8")
    loaded = load(str(source), ["ablate.designs=[add_one_in]", "ablate.ops=[grey]"])
    config = loaded if isinstance(loaded, StudyConfig) else loaded.parts["quick"]
    assert config.ablate.ops == ["gray"]
    assert config.config_hash == "ef28c57a5bc0"  # as version 0.1 computed it
    assert caplog.messages == [NOTICE.replace("former:", "quick:")]


def test_a_study_of_the_current_spelling_is_written_and_read_in_it(tmp_path: Path):
    config = load_config(written(tmp_path, "gray"))
    (tmp_path / "again.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(str(tmp_path / "again.yaml")) == check_config(config.model_dump(mode="json")) == config
