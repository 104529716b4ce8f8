"""The file that docs/extending.md shows, a task, an encoder and an op, as a whole study whose driver is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from analysis import load
from analysis.records import TrialEnded
from study.config.validation import check_config
from tests.acceptance.studies import DriverProcess, assert_whole, kill
from tests.conftest import REPOSITORY
from tests.documents import all_blocks
from trainables import plugins

SEARCH = {"algorithm": "random", "num_samples": 3, "scheduler": "none"}
ABLATE = {"designs": ["add_one_in", "cures"], "ops": ["invert"], "seeds": 2}


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """The file of the page; what it registers is forgotten after the test."""
    (block,) = (each for each in all_blocks(REPOSITORY / "docs" / "extending.md") if each.title == "my_task.py")
    path = tmp_path / block.title
    path.write_text(block.text, encoding="utf-8")
    yield path
    plugins.unload(plugins.loaded(path.name))


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_task_an_encoder_and_an_op_of_one_file_are_a_study_that_survives_its_driver(
    plugin: Path, tmp_path: Path
) -> None:
    content = {
        "name": "plugged-in",
        "plugins": [str(plugin)],
        "tasks": ["upside_down"],
        "encoder": {"name": "patches"},
        "simulate": True,
        "confirm": {"top_k": 1, "seeds": 2},
        "budget_steps": 1000,
        "report_every": 100,
        "search": SEARCH,
        "ablate": ABLATE,
        "resources": {"cpu": 2},
    }
    study = DriverProcess(tmp_path, check_config(content), {"RAY_ADDRESS": "local"})
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**content, "plugins": [plugin.name]}), encoding="utf-8")
    with study.running() as process:
        study.wait_for(process, lambda events: sum(isinstance(event, TrialEnded) for event in events) >= 2)
        kill(process)
    assert (study.folder / "plugins" / plugin.name).read_bytes() == plugin.read_bytes()
    assert study.run() == 0, study.log()
    assert_whole(study)
    assert "Traceback" not in study.log()

    runs = load(study.folder).runs
    of_task = runs[runs["task"] == "upside_down"]
    assert set(of_task["phase"]) >= {"search", "confirm", "ablate"}
    assert set(of_task["encoder"]) == {"patches"}
    assert of_task["augmentation/invert"].nunique() > 1
    assert "upside_down" in (study.folder / "report.html").read_text(encoding="utf-8")
    assert study.outcome()["failed"] == []

    plugin.write_text(plugin.read_text(encoding="utf-8").replace("stride=4", "stride=8"), encoding="utf-8")
    assert study.run() == 2, study.log()
    assert "Traceback" not in study.log()
    assert "belongs to a study of another configuration" in study.log()
    assert "sha256" in study.log()
