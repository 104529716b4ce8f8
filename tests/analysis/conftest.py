"""Fixtures of tests on the study of a module or of a folder of tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.findings import Findings
from tests.analysis.computed import findings_of


@pytest.fixture
def findings(folder: Path) -> Findings:
    """Findings of the study in the fixture `folder`. Not to be changed."""
    return findings_of(folder)
