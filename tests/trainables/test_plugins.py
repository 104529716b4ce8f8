"""Plug-ins: found and loaded once, refused in one line, and forgotten without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables import plugins
from trainables.augmentation import REGISTRY
from trainables.data import load_splits
from trainables.errors import ConfigError
from trainables.training.loop import build_task
from trainables.trial import TrialConfig

OP = "from trainables.augmentation import register_op\n\n@register_op({name!r})\ndef op(images, magnitude, draws):\n"


def written(folder: Path, text: str) -> plugins.Plugin:
    path = folder / "my_op.py"
    path.write_text(text, encoding="utf-8")
    return plugins.find(str(path))


def test_what_a_file_registers_is_known_until_it_is_unloaded(tmp_path: Path) -> None:
    plugin = written(tmp_path, OP.format(name="mine") + "    return images\n")
    assert "mine" not in REGISTRY
    plugins.load(plugin)
    assert plugins.names_of(plugin) == {("op", "mine")}
    plugins.unload(plugin)
    assert tuple(REGISTRY) == REGISTRY.built_in


def test_another_version_of_a_file_replaces_the_first(tmp_path: Path) -> None:
    for name in ("first", "second"):
        plugin = written(tmp_path, OP.format(name=name) + "    return images\n")
        plugins.load(plugin)
    assert tuple(REGISTRY) == (*REGISTRY.built_in, "second")
    plugins.unload(plugin)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OP.format(name="mine") + "    return images\n\n1 / 0\n", r"ZeroDivisionError: division by zero \(line 7\)"),
        ("import no_such_module\n", r"No module named 'no_such_module' \(line 1\)"),
        ("def broken(:\n", r"SyntaxError: .*line 1"),
        (OP.format(name="flip") + "    return images\n", "op 'flip': this package has one of this name"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_one_line_and_leaves_nothing(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"plugins: my_op\.py: cannot be loaded: .*{message}") as error:
        plugins.load(written(tmp_path, text))
    assert "\n" not in str(error.value)
    assert tuple(REGISTRY) == REGISTRY.built_in


def test_a_file_with_other_content_than_a_study_recorded_is_refused(tmp_path: Path) -> None:
    recorded = written(tmp_path, OP.format(name="mine") + "    return images\n")
    written(tmp_path, OP.format(name="mine") + "    return 1 - images\n")
    with pytest.raises(ConfigError, match="differs from what the study recorded"):
        plugins.obtain({"name": recorded.path, "sha256": recorded.sha256})
    assert tuple(REGISTRY) == REGISTRY.built_in


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("no_such.py", "no such file"),
        ("no_such_module", "no such module"),
        ("zipimport", "no such module"),  # part of the interpreter, without a file
        ("sys", "no such module"),
    ],
)
def test_what_does_not_exist_is_told_with_what_to_do(name: str, what: str) -> None:
    with pytest.raises(ConfigError, match=f"plugins: {name}: {what}; "):
        plugins.find(name)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise ValueError('no license\\nfound')", "ValueError: no license"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_package_that_cannot_be_imported_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, message: str
) -> None:
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "__init__.py").write_text(code)
    (tmp_path / "own_package" / "module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    expected = f"plugins: own_package.module: its package own_package cannot be imported: {message}"
    with pytest.raises(ConfigError) as error:
        plugins.find("own_package.module")
    assert str(error.value) == expected


@pytest.mark.parametrize("name", ["no_such_package.module", "trainables.no_such.module", "trainables.no_such", "sys.x"])
def test_a_module_that_its_package_lacks_does_not_exist(name: str) -> None:
    with pytest.raises(ConfigError, match=f"plugins: {name}: no such module; "):
        plugins.find(name)


TASK = """
import dataclasses

from trainables.data import register_dataset
from search_spaces import register_task
from trainables.tasks import PretextTask

@register_dataset("broken")
def load(request):
    return {}["images"]

@register_task()
class Broken(PretextTask):
    name = "broken"
    @dataclasses.dataclass(frozen=True)
    class Options:
        pass
"""


def test_what_the_code_of_a_task_or_a_data_set_raises_is_one_line(tmp_path: Path) -> None:
    plugin = written(tmp_path, TASK)
    plugins.load(plugin)
    try:
        with pytest.raises(ConfigError, match=r"dataset 'broken': the code of .* failed: KeyError: 'images'"):
            load_splits("broken", root=None)
        with pytest.raises(ConfigError, match=r"task 'broken': the code of .* failed: TypeError: Can't instantiate"):
            build_task(TrialConfig("search", "broken"), 32)
    finally:
        plugins.unload(plugin)
