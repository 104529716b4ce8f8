"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with the real sample images, named by PRETEXT_DATA_ROOT or lying beside the repository."""
    root = Path(os.environ.get("PRETEXT_DATA_ROOT", REPOSITORY.parent / "shared" / "data"))
    if not (root / "cifar10").is_dir():
        pytest.skip(f"real sample images are not in {root}; set PRETEXT_DATA_ROOT to use them")
    return root
