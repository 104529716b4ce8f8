"""Entry points: what an installed package declares is imported when a study names it, and not before."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from study.config.loading import build_config, load_config
from tests.conftest import REPOSITORY
from tests.documents import all_blocks
from tests.study.studies import tiny
from trainables import plugins
from trainables.errors import ConfigError

MODULE = "my_questions"  # of docs/extending.md: a design, a verdict and a section
Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """A function that installs the module with the given entry points; it is forgotten after the test."""
    (block,) = (each for each in all_blocks(REPOSITORY / "docs" / "extending.md") if each.title == f"{MODULE}.py")
    (tmp_path / f"{MODULE}.py").write_text(block.text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def installed(entry_points: str) -> None:
        metadata = tmp_path / "questions-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: questions\nVersion: 1\n", encoding="utf-8")
        (metadata / "entry_points.txt").write_text(entry_points, encoding="utf-8")

    yield installed
    if MODULE in sys.modules:
        plugins.unload(plugins.loaded(MODULE))
        del sys.modules[MODULE]


ALL = f"""
[pretext_study.designs]
batch_sizes = {MODULE}
[pretext_study.verdicts]
restless = {MODULE}
[pretext_study.sections]
time = {MODULE}
"""


@pytest.mark.parametrize(
    "content",
    [
        {"ablate": {"designs": ["batch_sizes"]}},
        {"plugins": ["restless"]},
        {"plugins": ["time"]},  # which is also a module of Python
        {"plugins": ["restless", "time"], "ablate": {"designs": ["batch_sizes"]}},
        {"plugins": [MODULE]},
    ],
)
def test_a_study_imports_and_records_the_module_that_has_what_it_names(install: Install, content: dict) -> None:
    install(ALL)
    assert not tiny().plugins
    assert MODULE not in sys.modules
    config = tiny(**content)
    assert [each.name for each in config.plugins] == [MODULE]
    assert config == tiny(**config.model_dump(mode="json"))
    assert plugins.names_of(plugins.loaded(MODULE)) == {
        ("design", "batch_sizes"),
        ("verdict", "restless"),
        ("section", "time"),
    }


def test_the_command_line_names_a_verdict_as_yaml_does(install: Install) -> None:
    install(ALL)
    assert [each.name for each in load_config("quick", changes={"plugins": ["restless"]}).plugins] == [MODULE]
    empty = build_config({"name": "demo", "plugins": None}, changes={"plugins": ["restless"]})
    assert [each.name for each in empty.plugins] == [MODULE]


def test_a_package_that_does_not_register_what_it_declares_is_named(install: Install) -> None:
    install(f"[pretext_study.verdicts]\njumpy = {MODULE}\n")
    with pytest.raises(ConfigError, match=f"plugins: jumpy: {MODULE} declares this verdict, but does not register it"):
        build_config({"name": "demo", "plugins": ["jumpy"]})
