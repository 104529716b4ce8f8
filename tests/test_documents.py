"""What the Markdown pages show works: studies load, command lines parse, imports resolve, and files exist."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import typer
import yaml

from analysis.__main__ import app as analysis_app
from study.cli.commands import app as study_app
from study.cli.run import run
from study.config.loading import preset_names, series_names
from study.config.validation import check_config
from study.series import load_series
from tests.conftest import REPOSITORY
from tests.documents import LANGUAGES, PAGES, all_blocks, blocks, commands
from trainables.errors import ConfigError

PACKAGES = ("study", "analysis", "trainables", "search_spaces")


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference_tables = _import_file(REPOSITORY / "docs" / "reference_tables.py")
run_app = typer.Typer()
run_app.command()(run)
RUN = typer.main.get_command(run_app)
TOOLS = {"study": typer.main.get_command(study_app), "analysis": typer.main.get_command(analysis_app)}
PATH = r"`((?:study|analysis|trainables|search_spaces|tests|docs|examples|clusters|\.ci)/[\w./*-]*)(?:::(\w+))?`"

on_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())


def test_pages_are_found():
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "architecture.md", "cluster.md"} <= {p.name for p in PAGES}
    assert len(commands(REPOSITORY / "README.md")) > 4
    assert {block.title for page in PAGES for block in all_blocks(page)} >= {"photos.yaml", "my_study.yaml"}


@on_every_page
def test_every_block_says_how_it_is_tested(page: Path):
    found = all_blocks(page)
    assert 2 * len(found) == len(re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE))
    for block in found:
        assert block.language in LANGUAGES, f"{block}: {block.language!r} is not tested"
        assert not block.note or re.fullmatch(r"(parse|add --\S+( \S+)*); \S.{5,}", block.note), (
            f"{block}: {block.note}"
        )
        assert not block.added_options or block.script != block.text, f"{block}: no command takes {block.added_options}"
    comments = re.findall(r"<!-- test: ", page.read_text(encoding="utf-8"))
    assert len(comments) == sum(bool(block.note) for block in found), "a comment that is not above a block"


@on_every_page
def test_every_study_in_yaml_is_valid(page: Path, tmp_path: Path):
    for block in blocks(page, "yaml"):
        content = yaml.safe_load(block)
        if "parts" in content:
            path = tmp_path / "series.yaml"
            path.write_text(block)
            load_series(str(path))
        else:  # perhaps a section of a study alone
            check_config({"name": "documented", **content})


def test_the_generated_tables_are_current():
    for page in reference_tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert reference_tables.with_tables(text) == text, f"run `python docs/reference_tables.py`: {page.name} differs"


def test_every_setting_has_a_row_with_its_default_and_its_meaning():
    page = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    keys = list(reference_tables.setting_keys())
    assert len(keys) > 40
    for key in keys:
        (row,) = re.findall(rf"^\| `{re.escape(key)}` \|(.*)\|$", page, re.MULTILINE)
        values, default, meaning = (cell.strip() for cell in row.split("|"))
        assert values
        assert len(meaning) > 5
        assert default == "required" or check_config({"name": "any", **_nested(key, yaml.safe_load(default[1:-1]))})


def _nested(key: str, value: object) -> dict[str, object]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value  # type: ignore[return-value]


def test_every_message_in_the_table_of_failures_is_one_that_the_code_gives():
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    tables = page.partition("## The result is not")[0]
    messages = [
        message
        for row in re.findall(r"^\| (.*?) \|", tables, re.MULTILINE)
        for message in re.findall(r"`([^`]+)`", row)
    ]
    assert len(messages) > 12
    sources = [path.read_text(encoding="utf-8") for room in PACKAGES for path in (REPOSITORY / room).rglob("*.py")]
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))  # a message may be in several literals
    for message in messages:
        for part in re.split(r"\.\.\.|=\[", message):
            assert part.strip(" ;'\"") in code, f"no message has {part!r}"


def test_the_message_about_an_unknown_key_begins_as_the_page_shows_it():
    (shown,) = re.findall(
        r"^error: (serch: .*), \.\.\.$", (REPOSITORY / "docs" / "studies.md").read_text(), re.MULTILINE
    )
    with pytest.raises(ConfigError) as raised:
        check_config({"name": "any", "serch": {}})
    assert str(raised.value).startswith(shown)


def check_run(arguments: list[str]) -> None:
    context = RUN.make_context("run", list(arguments))
    source, overrides = context.params["study"], context.params["set_"]
    if context.params["plugin"]:  # a file that the page shows; its commands are run by test_documented_commands.py
        return
    if source in [*preset_names(), *series_names()]:
        tasks = context.params["tasks"]
        load_series(source, list(overrides or []), {"tasks": tasks.split(",")} if tasks else {})


def check_command(words: list[str]) -> None:
    """Parse a command line of this project as its program does. Raises click's UsageError, or ConfigError."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    program = words[0].removeprefix(".venv/bin/") if words else ""
    if program == "make":
        assert re.search(rf"^{words[1]}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE), words
    elif program == "python" and words[1] == "-m":
        if words[2] in TOOLS:
            group = TOOLS[words[2]]
            command = group.commands[words[3]]  # type: ignore[attr-defined]
            if words[4:]:  # otherwise its name alone, in a sentence
                command.make_context(words[3], list(words[4:]))
    elif program == "python" and not words[1].startswith("~"):  # a file of this repository
        assert (REPOSITORY / words[1]).is_file(), words
        if words[1] == "study/run.py":
            check_run(words[2:])
    elif program == "ray" and words[1] == "submit" and "study/run.py" in words:
        check_run([word for word in words[words.index("study/run.py") + 1 :] if word != "--"])


@on_every_page
def test_every_block_of_bash_has_valid_syntax(page: Path):
    for block in all_blocks(page):
        if block.language == "bash":
            done = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True)
            assert not done.stderr, f"{block}: {done.stderr}"


@on_every_page
def test_every_command_line_parses(page: Path):
    for line in commands(page):
        if re.match(r"(?:\S+=\S+ )*(?:\.venv/bin/)?(?:make|python|ray) ", line):
            check_command(shlex.split(line, comments=True))


@on_every_page
def test_every_command_in_the_text_parses(page: Path):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in re.findall(r"`((?:\.venv/bin/)?(?:python|make|ray submit) [^`]*)`", text):
        check_command(shlex.split(line))


@on_every_page
def test_every_import_resolves(page: Path):
    own = {block.title for block in all_blocks(page)}  # files that the page shows import each other
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if f"{alias.name}.py" not in own:
                        importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)


@on_every_page
def test_every_file_that_is_named_exists(page: Path):
    text = page.read_text(encoding="utf-8")
    for name, test in re.findall(PATH, text):
        found = list(REPOSITORY.glob(re.sub(r"\b[A-Z]{3,}\b", "*", name.rstrip("/"))))  # TASK stands for any task
        assert found, f"{page.name} names {name}"
        assert not test or f"def {test}(" in found[0].read_text(encoding="utf-8"), f"{name} has no {test}"
    for target in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@on_every_page
def test_every_section_that_is_linked_exists(page: Path):
    for target, section in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", page.read_text(encoding="utf-8")):
        text = (page.parent / target if target else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        sections = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        sections |= set(re.findall(r'<a id="([\w-]+)">', text))
        assert section in sections, f"{page.name} links to {target}#{section}"


def test_every_test_that_the_page_of_faults_names_exists():
    rows = [line for line in (REPOSITORY / "docs" / "faults.md").read_text().splitlines() if line.startswith("| ")]
    named = [re.findall(r"`(tests/[\w/]+\.py|test_\w+)`", row.rpartition(" | ")[2]) for row in rows]
    paths = [
        REPOSITORY / (name if name.startswith("tests/") else f"tests/acceptance/{name}.py")
        for names in named
        for name in names
    ]
    assert len(paths) > 25
    assert [path for path in paths if not path.is_file()] == []
    unnamed = [row for row, names in zip(rows, named, strict=True) if not names]
    assert [row.split(" | ")[0] for row in unnamed] == ["| fault", "| input"], "the headings alone name no test"
