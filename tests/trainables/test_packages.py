"""Versions of packages, also of one that is not installed."""

from __future__ import annotations

from importlib.metadata import version

from trainables.packages import version_of


def test_a_package_without_metadata_has_an_empty_version() -> None:
    assert version_of("torch") == version("torch")
    assert version_of("no-such-package") == ""
