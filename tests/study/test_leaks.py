"""Near duplicates in a study's records: in the journal, in MLflow, and when a study continues on other splits."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from analysis.comparisons.leaks import leaked_images
from analysis.data.mlflow import _datasets
from analysis.data.study import Study
from analysis.records import StudyStarted
from study.api.sources import config as configured
from study.config.loading import simulated
from study.config.schema import FORMER_RULES
from study.config.validation import check_config
from study.driver import load_datasets
from study.execution.journal import Journal
from study.folder import as_begun, warn_of_other_data
from study.provenance import describe
from study.tracking.metadata import dataset_inputs
from tests.trainables.data.copies import parts, photographs
from trainables.data import make_splits
from trainables.errors import DataError
from trainables.trial import TrialConfig


def test_the_journal_and_mlflow_have_which_images_leak() -> None:
    splits = make_splits(*parts(photographs()))
    info = describe(splits)
    started = StudyStarted(study="copies", datasets={"plates": info})
    trial = TrialConfig(phase="search", task="rotation", dataset="plates")
    run: Any = SimpleNamespace(
        data=SimpleNamespace(params={"dataset": "plates"}),
        inputs=SimpleNamespace(dataset_inputs=dataset_inputs(started, trial)),
    )
    for datasets in ({"plates": info}, _datasets([run])):
        study = Study("copies", cast("Any", None), cast("Any", None), datasets=datasets)
        assert splits.leaks is not None
        found = leaked_images(study, "plates")
        assert found is not None
        assert np.array_equal(found, splits.leaks.test)


def test_without_near_duplicates_the_records_are_those_of_earlier_versions() -> None:
    every = photographs().take(np.arange(0, 120, 4))
    assert "leaks" not in describe(make_splits(every.take(np.arange(24)), every.take(np.arange(24, 30))))


def test_a_study_that_continues_on_other_splits_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, test = parts(photographs())
    first, other = (make_splits(train, test, leak=leak) for leak in ("allow", "move"))
    journal = Journal(tmp_path)
    journal.append(StudyStarted(study="copies", datasets={"plates": describe(first)}))
    journal.close()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_of_other_data(tmp_path, {"plates": first})
        assert not caplog.records
        warn_of_other_data(tmp_path, {"plates": other})
    assert "plates: the images, or their splits, are not those that this study began with" in caplog.text
    assert "leak=allow" in caplog.text


def test_allow_has_the_hash_of_studies_from_before_the_setting() -> None:
    hashes = [check_config({"name": "demo", "leak": leak}).config_hash for leak in (None, "allow", "move", "stop")]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_a_study_keeps_the_rules_that_it_began_with(tmp_path: Path) -> None:
    config = check_config({"name": "demo"})
    assert as_begun(config, tmp_path / "new") == config
    began: dict[str, Any] = config.model_dump(mode="json")
    for folder, recorded in (("now", began), ("before", {key: began[key] for key in began if key not in FORMER_RULES})):
        journal = Journal(tmp_path / folder)
        journal.append(StudyStarted(study="demo", config=recorded))
        journal.close()
    assert as_begun(config, tmp_path / "now") == config
    former = as_begun(config, tmp_path / "before")
    assert (former.split_rules, former.probe_every) == (1, None)
    assert former.config_hash == config.config_hash
    for again in (configured(config), simulated(config)):
        assert as_begun(again, tmp_path / "before").split_rules == 1
    named = check_config({"name": "demo", "split_rules": 2})
    assert as_begun(configured(named), tmp_path / "before").split_rules == 2


def test_near_duplicates_without_a_test_split_are_recorded_for_validation_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    every = replace(photographs(), labels=None, class_names=())
    splits = make_splits(every, every.take(np.arange(0)), validation_fraction=0.5)
    info = describe(splits)
    assert info["counts"]["test"] == 0
    study = Study("copies", cast("Any", None), cast("Any", None), datasets={"plates": info})
    in_test, in_validation = (leaked_images(study, "plates", split) for split in ("test", "validation"))
    assert in_test is not None
    assert len(in_test) == 0
    assert in_validation is not None
    assert in_validation.any()
    assert "validation images have near duplicates among the training images" in caplog.text
    assert "test images" not in caplog.text


@pytest.mark.parametrize("leak", ["allow", "move", "stop"])
def test_copies_of_training_images_in_another_probed_set_are_found(leak: str, caplog: pytest.LogCaptureFixture) -> None:
    train, test = parts(photographs())
    bare = replace(train, labels=None, class_names=())
    own, other = make_splits(bare, bare.take(np.arange(0)), leak="move"), make_splits(train, test)
    config = check_config({"name": "demo", "dataset": "own", "leak": leak, "evaluate": {"datasets": ["other"]}})
    found = "plates: .* test images and .* validation images have near duplicates among the training images of plates"
    caplog.clear()
    if leak == "stop":
        with pytest.raises(DataError, match=found):
            load_datasets(config, load=lambda name, **_: {"own": own, "other": other}[name])
    else:
        load_datasets(config, load=lambda name, **_: {"own": own, "other": other}[name])
        assert re.search(found, caplog.text)
