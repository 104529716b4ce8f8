"""A disk of a few kibibytes that can be filled and enlarged."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallDisk:
    """A tmpfs of its own."""

    path: Path

    def leave(self, kib: int) -> None:
        """Make it as large as what lies on it and `kib` KiB more."""
        used = shutil.disk_usage(self.path).used // 1024
        _mount("-o", f"remount,size={used + kib}k", str(self.path))


@contextmanager
def small_disk(path: Path, kib: int) -> Iterator[SmallDisk]:
    """Mount a disk of `kib` KiB at `path` for as long as the block runs; skip the test where that is not permitted."""
    path.mkdir(parents=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    try:
        _mount("-t", "tmpfs", "-o", f"size={kib}k,mode=0755", "small-disk", str(path))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"a small disk cannot be mounted here: {error.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True, text=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
