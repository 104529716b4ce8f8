"""Studies of the examples: beside the tasks of this package on photographs, and as installed packages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis import load
from analysis.figures.task_views import look
from tests.examples.packages import EXAMPLES, run
from trainables.encoders import build_encoder
from trainables.tasks import TASKS, build_options

SMALL = ("search.num_samples=1", "search.scheduler=none", "confirm.seeds=2", "ablate.designs=[]")


def settings(*values: str) -> list[str]:
    """Return the arguments that set values of a configuration."""
    return [word for value in values for word in ("--set", value)]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the three packages are installed in, as pip does it; the repository is left as it is."""
    target, copies = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("examples")
    for name, path in EXAMPLES.items():
        (copies / name).mkdir()
        for file in path.parent.glob("*.*"):
            (copies / name / file.name).write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    words = ["--disable-pip-version-check", "--target", str(target), *(str(copies / name) for name in EXAMPLES)]
    done = subprocess.run([*pip, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


FOUND = """
import json
import sys
from study.config.loading import load_config
from trainables import registry
config = load_config("quick", changes={"tasks": ["byol", "rotation"]})
names = [name for name in registry.ALL["task"] if name in ("jigsaw", "vicreg", "byol")]
modules = [name for name in ("jigsaw_task", "vicreg_task", "byol_task") if name in sys.modules]
print(json.dumps([names, modules, [each.name for each in config.plugins], sys.modules["byol_task"].__file__]))
"""


@pytest.mark.slow
def test_an_installed_package_is_found_by_the_name_of_its_task_and_no_other_is_imported(
    installed: Path, tmp_path: Path
) -> None:
    names, modules, recorded, file = json.loads(run(tmp_path, "-c", FOUND, path=(installed,)))
    assert names == ["byol"]
    assert modules == ["byol_task"]
    assert recorded == ["byol_task"]
    assert Path(file).parent == installed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_examples_are_tasks_of_one_study_beside_those_of_this_package(
    installed: Path, data_root: Path, tmp_path: Path
) -> None:
    tasks = [*TASKS.built_in, *EXAMPLES]
    real = [f"data_root={data_root}", "dataset=cifar10", "image_size=null", "max_train=400"]
    budget = ["budget_steps=10", "report_every=10", "encoder.width=8", "defaults={}", "search.space={}"]
    arguments = ["quick", "--tasks", ",".join(tasks), *settings(*SMALL, *real, *budget)]
    run(tmp_path, "study/run.py", *arguments, path=(installed,))
    study = tmp_path / "studies" / "quick"
    result = load(study)
    trained = result.runs[result.runs["task"].isin(tasks)]
    assert set(trained["task"]) == set(tasks)
    assert (trained["status"] == "finished").all()
    page = (study / "report.html").read_text(encoding="utf-8")
    assert all(task in page for task in tasks)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_study_of_a_file_runs_from_the_command_line_and_its_encoder_embeds_images(tmp_path: Path) -> None:
    path = EXAMPLES["byol"]
    small = settings("budget_steps=4", "report_every=2", "max_train=200", *SMALL)
    run(tmp_path, "study/run.py", "quick", "--plugin", str(path), "--tasks", "byol", *small)
    study = tmp_path / "studies" / "quick"
    assert (study / "plugins" / path.name).read_bytes() == path.read_bytes()
    assert "byol" in (study / "report.html").read_text(encoding="utf-8")
    (tmp_path / "photos").mkdir()
    for index in range(3):
        picture = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "photos" / f"{index}.png")
    run(tmp_path, "-m", "study", "embed", str(study), "photos", "--task", "byol", "--output", "features.csv")
    features = pd.read_csv(tmp_path / "features.csv").drop(columns="path")
    assert len(features) == 3
    assert np.isfinite(features.to_numpy()).all()


@pytest.mark.parametrize(("name", "columns"), [("jigsaw", 1 + 4), ("vicreg", 1 + 2), ("byol", 1 + 2)])
def test_what_an_example_sees_is_drawn_image_by_image(name: str, columns: int) -> None:
    levels = np.repeat(np.array([40, 210], np.uint8), 3 * 20 * 20).reshape(
        2, 3, 20, 20
    )  # a dark image and a bright one
    task = TASKS[name](build_encoder("conv4", image_size=20), build_options(TASKS[name], {}), 20)
    if name == "jigsaw":
        task.options = build_options(TASKS[name], {"normalize": False})
    headings, rows = look(task, levels, 2, {}, seed=0)
    assert len(headings) == columns
    for row, level in zip(rows, (40, 210), strict=True):
        assert [round(255 * float(tile.image.mean())) for tile in row.tiles] == [level] * columns
