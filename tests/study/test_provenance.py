"""Provenance: the commit of the checkout that the code runs from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from study import provenance


def test_a_copy_that_another_repository_ignores_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        person = ["-c", "user.name=A", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *person, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    (tmp_path / ".gitignore").write_text("/.venv\n")
    for file in (tmp_path / "provenance.py", tmp_path / ".venv" / "study" / "provenance.py"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    git("add", ".")
    git("commit", "-m", "First")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "provenance.py"))
    assert provenance.git_commit() == git("rev-parse", "HEAD")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / ".venv" / "study" / "provenance.py"))
    assert provenance.git_commit() is None
