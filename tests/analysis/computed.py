"""Findings of the studies that tests share."""

from __future__ import annotations

import functools
from pathlib import Path

import analysis
from analysis.findings import Findings, compute_findings


@functools.lru_cache(maxsize=4)
def findings_of(folder: Path) -> Findings:
    """Return the findings of a study that does not change, computed once."""
    return compute_findings(analysis.load(folder))
