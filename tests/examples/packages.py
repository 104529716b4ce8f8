"""The packages in `examples/`, and commands that use them as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.studies import crowding
from tests.conftest import REPOSITORY

EXAMPLES = {name: REPOSITORY / "examples" / name / f"{name}_task.py" for name in ("jigsaw", "vicreg", "byol")}


def run(folder: Path, *arguments: str, path: tuple[Path, ...] = ()) -> str:
    """Run Python in a folder and return what it printed; a study is on a local Ray of its own.

    Args:
        folder: Working directory.
        arguments: Arguments of Python; the script `study/run.py` is the repository's.
        path: Further folders to import from.
    """
    left_out = {"MLFLOW_TRACKING_URI", "RAY_ADDRESS"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    words = [str(REPOSITORY / word) if word.startswith("study/") else word for word in arguments]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment | {"PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, *path))), "RAY_ADDRESS": "local"},
        capture_output=True,
        text=True,
        timeout=280 * crowding(),
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout
