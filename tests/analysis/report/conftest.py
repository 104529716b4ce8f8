"""One study and its page, shared by most tests of the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.report import write_report
from tests.analysis.computed import findings_of
from tests.analysis.journals import write_study
from tests.analysis.report.pages import Page


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with every phase, whose ablation has a cure, a cell that fails and a task that nothing helps."""
    return write_study(tmp_path_factory.mktemp("study"), designs=("size_by_strength", "cures"))


@pytest.fixture(scope="session")
def page(folder: Path) -> Page:
    (folder / "recommended.yaml").write_text("name: again\nbudget_steps: 7  # <steps>\n")
    return Page(write_report(folder, findings_of(folder)))
