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
from analysis.records import FINISHED, STOPPED
from tests.documents import plugin_of_the_page
from tests.examples.packages import EXAMPLES, run
from trainables.encoders import build_encoder
from trainables.tasks import TASKS, build_options

SMALL = ("search.num_samples=1", "search.scheduler=none", "confirm.seeds=2", "ablate.designs=[]")


def settings(*values: str) -> list[str]:
    """Return the arguments that set values of a configuration."""
    return [word for value in values for word in ("--set", value)]


OF_EVERY_KIND = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "of-every-kind"
version = "1"

[project.entry-points]
"pretext_study.tasks" = {upside_down = "my_task"}
"pretext_study.encoders" = {patches = "my_task"}
"pretext_study.ops" = {invert = "my_task"}
"pretext_study.datasets" = {noise = "noise_images"}

[tool.setuptools]
py-modules = ["my_task", "noise_images"]
"""
NOISE = """
from trainables.data import register_dataset


@register_dataset("noise")
def noise(request):
    raise AssertionError("not loaded")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the examples and a package of every kind are installed in by pip; the repository stays as it is."""
    target, copies = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("packages")
    for name, path in EXAMPLES.items():
        (copies / name).mkdir()
        for file in path.parent.glob("*.*"):
            (copies / name / file.name).write_bytes(file.read_bytes())
    (copies / "every").mkdir()
    plugin_of_the_page(copies / "every")
    (copies / "every" / "noise_images.py").write_text(NOISE, encoding="utf-8")
    (copies / "every" / "pyproject.toml").write_text(OF_EVERY_KIND, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    words = ["--disable-pip-version-check", "--target", str(target), *map(str, sorted(copies.iterdir()))]
    done = subprocess.run([*pip, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


MODULES = ("jigsaw_task", "vicreg_task", "byol_task", "my_task", "noise_images")
FOUND = f"""
import json
import sys
from study.config.loading import load_config
config = load_config("quick", ["search.space={{}}", *sys.argv[2:]], {{"tasks": sys.argv[1].split(",")}})
imported = [name for name in {MODULES} if name in sys.modules]
print(json.dumps([imported, [sys.modules[name].__file__ for name in imported], [each.name for each in config.plugins]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["byol,rotation"], "byol_task"),
        (["rotation", "encoder.name=patches", "evaluate.segmentation=false"], "my_task"),
        (["rotation", "dataset=noise"], "noise_images"),
        (["rotation", "defaults.rotation.augmentation.invert=0.5"], "my_task"),
        (["rotation"], None),
    ],
)
def test_an_installed_package_is_found_by_a_name_of_its_own_and_no_other_is_imported(
    installed: Path, tmp_path: Path, arguments: list[str], module: str | None
) -> None:
    imported, places, recorded = json.loads(run(tmp_path, "-c", FOUND, *arguments, path=(installed,)))
    assert imported == recorded == ([module] if module else [])
    assert all(Path(place).parent == installed for place in places)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_examples_are_tasks_of_one_study_beside_those_of_this_package(
    installed: Path, data_root: Path, tmp_path: Path
) -> None:
    tasks = [*TASKS.built_in, *EXAMPLES]
    real = [f"data_root={data_root}", "dataset=cifar10", "image_size=16", "max_train=200"]
    budget = ["budget_steps=4", "report_every=2", "encoder.width=8", "defaults={}", "search.space={}"]
    arguments = ["quick", "--tasks", ",".join(tasks), *settings(*SMALL, *real, *budget)]
    run(tmp_path, "study/run.py", *arguments, path=(installed,))
    study = tmp_path / "studies" / "quick"
    result = load(study)
    trained = result.runs[result.runs["task"].isin(tasks)]
    assert set(trained["task"]) == set(tasks)
    assert set(trained["status"]) <= {FINISHED, STOPPED}
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
