"""A series: several studies from one file, and one page that joins their results."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.config.loading import series_names
from study.series import Series, load_series
from trainables.errors import ConfigError

TWO = """
name: two
parts:
  first: {dataset: shapes, budget_steps: 10}
  second: {dataset: shapes, budget_steps: 20, tasks: [simclr]}
"""


def load(folder: Path, text: str = TWO, *overrides: str, **changes: object) -> Series:
    path = folder / "series.yaml"
    path.write_text(text, encoding="utf-8")
    return load_series(str(path), list(overrides), changes)


@pytest.mark.parametrize("name", series_names())
def test_every_series_is_valid_and_is_named_after_its_file(name: str):
    series = load_series(name)
    assert series.name == name.replace("_", "-")
    assert all(config.name == f"{series.name}-{part}" for part, config in series.parts.items())


def test_a_single_study_is_a_series_of_one_without_a_folder_around_it():
    series = load_series("quick", ["budget_steps=7"])
    assert [config.budget_steps for config in series.parts.values()] == [7]
    assert series.folder(Path("studies")) == Path("studies")
    assert series.write_page(Path("studies")) is None


def test_parts_run_in_their_order_in_a_folder_of_the_series(tmp_path: Path):
    series = load(tmp_path)
    assert list(series.parts) == ["first", "second"]
    assert series.folder(Path("studies")) == Path("studies/two")
    assert series.parts["second"].tasks == ["simclr"]


def test_set_reaches_one_part_by_its_name_and_all_parts_without(tmp_path: Path):
    series = load(tmp_path, TWO, "second.search.num_samples=3", "report_every=5", data_root="/data")
    assert [config.search.num_samples for config in series.parts.values()] == [8, 3]
    assert [config.report_every for config in series.parts.values()] == [5, 5]
    assert [config.data_root for config in series.parts.values()] == ["/data", "/data"]


def test_another_name_renames_the_series_and_its_parts(tmp_path: Path):
    series = load(tmp_path, TWO, "name=again")
    assert series.folder(Path("studies")) == Path("studies/again")
    assert [config.name for config in series.parts.values()] == ["again-first", "again-second"]
    with pytest.raises(ConfigError, match=r"name = '': string should match pattern"):
        load(tmp_path, TWO, "name=")
    with pytest.raises(ConfigError, match=r"parts\.second\.name = 'same': this is also the name of first"):
        load(tmp_path, TWO, "first.name=same", "second.name=same")


def test_a_simulated_series_leaves_the_real_one_alone(tmp_path: Path):
    series = load(tmp_path).simulated()
    assert series.name == "two-simulated"
    assert all(config.simulate for config in series.parts.values())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("parts: {a: {dataset: shapes}}", "name = None: a series of parts needs a name"),
        ("{name: two, parts: {a: {dataset: shapes}}, tasks: [rotation]}", "tasks: unknown key next to parts"),
        ("{name: two, parts: {}}", "parts = {}: must be studies by name"),
        ("{name: two, parts: [1]}", r"parts = \[1\]: must be studies by name"),
        ("{name: two, page: orignal_report, parts: {a: {}}}", "no such page; did you mean 'original_report'?"),
        ("{name: two, parts: {a: {budget: 3}}}", "a: budget: unknown key; did you mean 'budget_steps'"),
        ("{name: two, parts: {search: {}}}", "parts.search: this is the name of a setting"),
        ("{name: ../up, parts: {a: {}}}", r"series\.yaml: name = '\.\./up': string should match pattern"),
        ("{name: ../up, parts: {a: {name: b}}}", r"series\.yaml: name = '\.\./up': string should match pattern"),
        ("{name: two, parts: {a: {name: ../b}}}", r"a: name = '\.\./b': string should match pattern"),
        ("{name: two, page: [report], parts: {a: {}}}", r"page = \['report'\]: no such page"),
        ("{name: two, page: {a: 1}, parts: {a: {}}}", r"page = {'a': 1}: no such page"),
        ("{name: two, parts: {a: {name: b}, c: {name: b}}}", r"parts\.c\.name = 'b': this is also the name of a"),
        ("{name: two, parts: {a: {}, c: {name: two-a}}}", r"parts\.c\.name = 'two-a': this is also the name of a"),
    ],
)
def test_an_invalid_series_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint) as refused:
        load(tmp_path, text)
    assert "\n" not in str(refused.value)


def test_tasks_for_all_parts_are_refused_since_each_part_names_its_own(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--tasks: two has several parts.*first\.tasks="):
        load(tmp_path, TWO, tasks=["rotation"])


def test_the_hours_of_a_series_are_those_of_its_parts(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"--set first\.budget_hours=1$"):
        load(tmp_path, TWO, budget_hours=3.0)
    assert load(tmp_path, TWO, "first.budget_hours=2").parts["first"].budget_hours == 2
