"""Every command and every line of Python that a page shows runs, in order, as its reader would run it.

All pages share one folder with one small study, `studies/quick`, and a home folder with photographs and data sets.
`tests/documents.py` says which comment leaves a block out; `tests/test_documents.py` at least parses it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPOSITORY
from tests.documents import PAGES, Block, all_blocks
from trainables.data import load_splits

pytestmark = [pytest.mark.slow, pytest.mark.core, pytest.mark.timeout(900)]

EVERY = [block for page in PAGES for block in all_blocks(page) if not block.is_only_parsed]
COMMANDS = [block for block in EVERY if block.language == "bash"]
PYTHON = {block.page: [] for block in EVERY if block.language == "python" and not block.is_file}
for _block in EVERY:
    if _block.language == "python" and not _block.is_file:
        PYTHON[_block.page].append(_block)
LINKED = ("study", "analysis", "trainables", "search_spaces", "tests", "docs", "Makefile", "cluster.yaml", "clusters")
PER_CLASS = 120
TIMEOUT_S = 400
SMALL = (
    *("budget_steps=10", "report_every=5", "max_train=200", "search.num_samples=1"),
    *("confirm.seeds=2", "ablate.designs=[]"),
)


@dataclass(frozen=True)
class Workplace:
    """The folder that commands run in, and their environment."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """Run a command; return its output. Fails with the output if the exit code is not 0."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=TIMEOUT_S)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # with the commands that a shell has started
            raise
        if process.returncode:
            pytest.fail(f"exit code {process.returncode}\n{output[-3000:]}", pytrace=False)
        return output


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    folder, home = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("home")
    for name in LINKED:
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / ".venv").symlink_to(sys.prefix)
    for block in EVERY:
        if block.is_file:
            (folder / block.title).write_text(block.text, encoding="utf-8")
    _write_photos(home / "photos")
    (folder / "photos").symlink_to(home / "photos")
    _write_cifar10(home / "data" / "cifar10")
    left_out = {"RAY_ADDRESS", "MLFLOW_TRACKING_URI", "COLUMNS"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.prefix, "bin")), os.environ["PATH"]]),
        "PYTHONPATH": str(REPOSITORY),
        "MPLBACKEND": "agg",
        "RAY_ADDRESS": "local",
    }
    place = Workplace(folder, environment)
    settings = [word for setting in SMALL for word in ("--set", setting)]
    place.run("python", "study/run.py", "quick", "--tasks", "rotation", *settings)
    for name in ("photos", "first-look"):  # studies of the pages; this one has encoders, a simulated one has none
        (folder / "studies" / name).symlink_to(folder / "studies" / "quick")
    return place


def _write_photos(folder: Path) -> None:
    """Write larger pictures of two built-in shapes, as class folders."""
    images = load_splits("shapes", root=None, max_train=2000).pretext_train
    for label in (0, 1):
        chosen = np.flatnonzero(np.asarray(images.labels) == label)[:PER_CLASS]
        (folder / f"class{label}").mkdir(parents=True)
        for index in chosen:
            picture = Image.fromarray(np.asarray(images.images[index]).transpose(1, 2, 0))
            picture.resize((96, 96)).save(folder / f"class{label}" / f"{index}.jpg")


def _write_cifar10(folder: Path) -> None:
    """Write noise in the layout of CIFAR-10, as many images as the largest batch of the default search spaces needs."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 200), ("test", 20)):
        for label in ("airplane", "automobile"):
            (folder / part / label).mkdir(parents=True)
            for index in range(count):
                picture = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                picture.save(folder / part / label / f"{index:04}.png")


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_the_commands_of_a_page_run(block: Block, workplace: Workplace):
    workplace.run("bash", "-euo", "pipefail", "-c", block.script)


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, workplace: Workplace):
    workplace.run("python", "-c", "\n".join(block.text for block in PYTHON[page]))
