"""Atomic writing: all or nothing on disk, and errors that name the path."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from trainables import files
from trainables.errors import ConfigError, StorageError


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_write_that_is_cut_off_leaves_the_file_before(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "state.pt"
    files.write(path, b"before")

    def killed(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, moment, killed)
    with pytest.raises(KeyboardInterrupt):
        files.write(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]  # and nothing is left lying about
    monkeypatch.undo()
    files.write(path, b"after")
    assert path.read_bytes() == b"after"


def test_a_file_is_created_once_also_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    for name in ("linked", "moved"):
        files.create(tmp_path / name, b"first")
        files.create(tmp_path / name, b"second")
        assert (tmp_path / name).read_bytes() == b"first"
        monkeypatch.setattr(os, "link", refused)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_is_never_seen_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.pt"
    files.write(path, b"before")
    seen: list[bytes] = []
    original = os.fsync

    def look(descriptor: int) -> None:
        seen.append(path.read_bytes())
        original(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    files.write(path, b"after")
    assert seen == [b"before"]


def test_a_place_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file: File exists; fix this, then run the same command again"):
        files.write(tmp_path / "file" / "state.pt", b"after")
    with (
        pytest.raises(StorageError, match=r"^/dev/full: No space left on device; make room there"),
        files.storing("/dev/full"),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"content")


def test_a_home_folder_that_does_not_exist_is_an_error_that_names_it() -> None:
    assert files.expanded("~/images") == Path.home() / "images"
    said = "~nobody_here/images: ~nobody_here is not a home folder here; give the full path"
    with pytest.raises(ConfigError, match=said):
        files.expanded("~nobody_here/images")
