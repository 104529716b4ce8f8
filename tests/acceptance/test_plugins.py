"""One file with a task, an encoder and an op is all that a user adds: it has everything that this package's tasks have.

The file is that of docs/extending.md, and nothing else is installed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from analysis import load
from analysis.records import TrialEnded
from study.config.validation import check_config
from tests.acceptance.studies import DriverProcess, assert_mlflow_equals_journal, assert_whole, kill
from tests.conftest import REPOSITORY
from tests.documents import all_blocks, plugin_of_the_page
from tests.study.mlflow_stores import all_runs
from trainables import plugins

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEARCH = {"algorithm": "random", "num_samples": 3, "scheduler": "none"}
ENCODER = "timm/test_resnet" if importlib.util.find_spec("timm") else "patches"


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """The file of the page; what it registers is forgotten after the test."""
    path = plugin_of_the_page(tmp_path)
    yield path
    plugins.unload(plugins.loaded(path.name))


def study_of(plugin: Path, **changes: Any) -> DriverProcess:
    """Return a study of the file's task, on a local Ray of its own, that names the file by its path."""
    content = {"plugins": [str(plugin)], "tasks": ["upside_down"], "confirm": {"top_k": 1, "seeds": 2}, **changes}
    study = DriverProcess(plugin.parent, check_config(content), {"RAY_ADDRESS": "local"})
    (plugin.parent / "study.yaml").write_text(yaml.safe_dump({**content, "plugins": [plugin.name]}), encoding="utf-8")
    return study


def run_and_kill_and_run(study: DriverProcess, trials: int) -> None:
    """Kill the driver with SIGKILL after some trials have ended, and run the study to its end."""
    with study.running() as process:
        study.wait_for(process, lambda events: sum(isinstance(event, TrialEnded) for event in events) >= trials)
        kill(process)
    assert study.run() == 0, study.log()
    assert_whole(study)
    assert_mlflow_equals_journal(study)
    assert "Traceback" not in study.log()
    assert study.outcome()["failed"] == []


@pytest.mark.core
def test_a_simulated_study_searches_ablates_and_survives_its_driver(plugin: Path) -> None:
    study = study_of(
        plugin,
        name="plugged-in",
        encoder={"name": "patches"},
        simulate=True,
        budget_steps=1000,
        report_every=100,
        search=SEARCH,
        ablate={"designs": ["add_one_in", "cures"], "ops": ["invert"], "seeds": 2},
        resources={"cpu": 2},
    )
    run_and_kill_and_run(study, trials=2)
    assert (study.folder / "plugins" / plugin.name).read_bytes() == plugin.read_bytes()
    runs = load(study.folder).runs
    of_task = runs[runs["task"] == "upside_down"]
    assert set(of_task["phase"]) >= {"search", "confirm", "ablate"}
    assert set(of_task["encoder"]) == {"patches"}
    assert of_task["augmentation/invert"].nunique() > 1
    assert "option/hidden" in of_task  # the cure that the file proposes
    assert "upside_down" in (study.folder / "report.html").read_text(encoding="utf-8")

    plugin.write_text(plugin.read_text(encoding="utf-8").replace("stride=4", "stride=8"), encoding="utf-8")
    assert study.run() == 2, study.log()
    assert "Traceback" not in study.log()
    assert "belongs to a study of another configuration" in study.log()
    assert "sha256" in study.log()


def test_a_real_study_trains_on_two_workers_survives_its_driver_and_embeds_images(plugin: Path, tmp_path: Path) -> None:
    study = study_of(
        plugin,
        name="trained",
        encoder={"name": ENCODER},
        workers=2,
        image_size=16,
        max_train=200,
        budget_steps=6,
        report_every=3,
        search={**SEARCH, "num_samples": 1},
        ablate={"designs": []},
        evaluate={"segmentation": False},  # `patches` has no stages
    )
    run_and_kill_and_run(study, trials=2)  # the baselines, before or amid the search
    runs = load(study.folder).runs
    trained = runs[(runs["task"] == "upside_down") & (runs["init_from"] == "")]
    assert set(trained["workers"]) == {2}
    assert set(trained["encoder"]) == {ENCODER}
    assert (trained["augmentation/invert"] > 0).all()
    assert {"upside_down"} <= {run.data.params.get("task") for run in all_runs(study.tracking_uri, "trained")}

    (tmp_path / "photos").mkdir()
    for index in range(3):
        picture = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "photos" / f"{index}.png")
    plugin.unlink()  # the study's folder has what it needs
    words = ["-m", "study", "embed", str(study.folder), "photos", "--task", "upside_down", "--output", "features.csv"]
    run(tmp_path, *words)
    features = pd.read_csv(tmp_path / "features.csv").drop(columns="path")
    assert len(features) == 3
    assert np.isfinite(features.to_numpy()).all()


def test_the_conformance_suite_of_the_page_passes(tmp_path: Path) -> None:
    plugin_of_the_page(tmp_path)
    (tests,) = (each for each in all_blocks(REPOSITORY / "docs" / "extending.md") if each.title == "test_my_task.py")
    (tmp_path / "test_my_task.py").write_text(tests.text, encoding="utf-8")
    run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_task.py")


def run(folder: Path, *arguments: str) -> None:
    """Run Python in a folder."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
