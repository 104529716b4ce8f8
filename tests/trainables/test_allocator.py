"""Freed memory that stays with the process: no new pages in later steps."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from trainables.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "kept" else True
for step in range(40):
    if step == 20:  # by now the heap has grown to what a step needs
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(10_000_000).add(1)  # 40 MB each; the C library may keep what is below 32 MiB
assert kept
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="settings of the GNU C library")
@pytest.mark.slow
@pytest.mark.core
def test_freed_memory_is_reused_without_new_pages() -> None:
    faults = {
        name: int(
            subprocess.run([sys.executable, "-c", FAULTS, name], capture_output=True, text=True, check=True).stdout
        )
        for name in ("kept", "returned")
    }
    assert faults["kept"] < 100 < faults["returned"]
