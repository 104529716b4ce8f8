"""Whatever a configuration holds, it is a study's or is refused in one line: no traceback, no wait without end."""

from __future__ import annotations

import copy
import os
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, get_args, get_origin

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue

from study.config.loading import load_config, preset_names
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.driver import load_datasets
from study.plan.feasibility import check_plan
from study.plan.phases import Plan
from tests.study.studies import TINY
from trainables.errors import ConfigError, UserError

fuzzed = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


def is_one_line(message: str) -> bool:
    """Whether a terminal shows a message in one line, and a file in UTF-8 can hold it."""
    return not {unicodedata.category(character) for character in message} & {"Cc", "Cs", "Zl", "Zp"}


def judged(read: Callable[[], StudyConfig]) -> str | None:
    """Return the one printable line that refuses what is read; None where it is a study that YAML gives back."""
    try:
        config = read()
    except ConfigError as error:
        message = str(error)
        assert is_one_line(message)
        assert 5 < len(message) <= 1100
        return message
    written = config.to_yaml()
    again = check_config(yaml.safe_load(written))
    assert again == config
    assert again.config_hash == config.config_hash
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yaml")


def judged_file(folder: Path, content: bytes) -> str | None:
    path = folder / "study.yaml"
    path.write_bytes(content)
    return judged(lambda: load_config(str(path)))


# --- what the model itself says is right or wrong ------------------------------------------------------------------

plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
hostile = st.one_of(
    plain,
    st.sampled_from(
        [10**400, -(2**63), 2**31, 1e308, -0.0, float("nan"), float("inf"), "1e999", "../..", "\0", "💥" * 99]
    ),
    st.sampled_from([b"\xff", {1: 2}, {None: {}}, [[[[[]]]]], {"a": {"b": {"c": {"d": {}}}}}, (1, 2), {3, 4}]),
    st.dates(),
)


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    """Return a strategy of what a field's type allows, whatever its bounds."""
    kind, inner = get_origin(annotation), get_args(annotation)
    if annotation is JsonValue:
        return plain
    if kind is Annotated:
        return values_of(inner[0])
    if kind is dict:
        return st.dictionaries(*map(values_of, inner), max_size=3)
    if kind is list:
        return st.lists(values_of(inner[0]), max_size=3)
    if kind is UnionType:
        return st.one_of(*map(values_of, inner))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return st.fixed_dictionaries({}, optional=fields_of(annotation))
    return st.from_type(annotation)


def fields_of(model: type[BaseModel]) -> dict[str, st.SearchStrategy[Any]]:
    """Return, for each field of a model, mostly what its type allows and sometimes anything."""
    return {
        name: st.one_of(values_of(field.annotation), values_of(field.annotation), hostile)
        for name, field in model.model_fields.items()
    }


@fuzzed
@given(st.fixed_dictionaries({}, optional=fields_of(StudyConfig)))
def test_any_values_of_all_fields_are_a_study_or_refused_in_one_line(content: dict[str, Any]):
    judged(lambda: check_config({"name": "demo", **content}))


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the place of every value inside a nested one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in inner for place in paths_in(item, (*path, key))]


PRESETS = {name: load_config(name).model_dump(mode="json") for name in preset_names()}


@st.composite
def spoilt_presets(draw: st.DrawFn) -> dict[str, Any]:
    """A preset of which up to three values, at any depth, are replaced, or their keys misspelt, or taken out."""
    content = yaml.safe_load(yaml.safe_dump(PRESETS[draw(st.sampled_from(preset_names()))]))
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(paths_in(content)))
        place: Any = content
        for part in parents:
            place = place[part]
        how = draw(st.sampled_from(["replace", "replace", "misspell", "remove"]))
        value = place.pop(last) if isinstance(place, dict) else place[last]
        if how == "replace" or not isinstance(place, dict):
            place[last] = copy.deepcopy(draw(hostile))  # a later change must not put a value into itself
        elif how == "misspell":
            place[draw(st.sampled_from([f"{last}s", last[1:], last.upper(), f" {last}", 7]))] = value
    return content


@fuzzed
@given(spoilt_presets())
def test_a_preset_with_anything_changed_is_a_study_or_refused_in_one_line(content: dict[str, Any]):
    judged(lambda: check_config(content))


def models_in(model: type[BaseModel], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str]]:
    """Return (path of its model, name) of every setting."""
    found = [(path, name) for name in model.model_fields]
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += models_in(field.annotation, (*path, name))
    return found


@pytest.mark.parametrize(("path", "name"), models_in(StudyConfig), ids=lambda part: str(part))
def test_every_setting_is_suggested_where_it_is_misspelt(path: tuple[str, ...], name: str):
    content: dict[str, Any] = {f"{name}_": 1}
    for part in reversed(path):
        content = {part: content}
    message = judged(lambda: check_config({"name": "demo", **content}))
    assert message is not None
    assert message.startswith(".".join((*path, f"{name}_: unknown key; did you mean {name!r}?")))


# --- files ---------------------------------------------------------------------------------------------------------

QUICK = yaml.safe_dump(PRESETS["quick"], sort_keys=False).encode()
SNIPPETS = [
    b"&a",
    b"*a",
    b"<<: *a",
    b"!!binary",
    b"!!set {a}",
    b"!!python/object:os.system",
    b"? [a]\n: b",
    b"---",
    b"...",
]
SNIPPETS += [b"\t", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b": ", b"- ", b"{", b"]", b"'", b'"\\ud800"', b'"\\e[2J"']
SNIPPETS += [
    b"0x" + b"f" * 5000,
    b"1:" * 300 + b"1.5",
    b".nan",
    b"2020-13-40",
    b"%YAML 9.9",
    b"[" * 900,
    b"=",
    b"|2",
    b"!",
]


@fuzzed
@given(edits=st.lists(st.tuples(st.integers(0, len(QUICK)), st.integers(0, 40), st.sampled_from(SNIPPETS)), max_size=4))
def test_a_file_with_anything_cut_out_or_put_in_is_a_study_or_refused_in_one_line(
    folder: Path, edits: list[tuple[int, int, bytes]]
):
    content = QUICK
    for at, length, snippet in edits:
        content = content[:at] + snippet + content[at + length :]
    judged_file(folder, content)


@fuzzed
@given(st.binary(max_size=200))
def test_any_bytes_are_a_study_or_refused_in_one_line(folder: Path, content: bytes):
    judged_file(folder, content)


@fuzzed
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=3))
def test_any_set_options_are_a_study_or_refused_in_one_line(changes: list[tuple[str, str]]):
    judged(lambda: load_config("quick", [f"{key}={value}" for key, value in changes]))


@fuzzed
@given(st.sampled_from([".".join((*path, name)) for path, name in models_in(StudyConfig)]), st.sampled_from(SNIPPETS))
def test_any_set_option_of_a_known_key_is_a_study_or_refused_in_one_line(key: str, value: bytes):
    judged(lambda: load_config("quick", [f"{key}={value.decode(errors='surrogateescape')}"]))


def laughs(levels: int) -> bytes:
    """A billion values in a dozen lines."""
    lines = ["name: a", "defaults: {rotation: &l0 {lr: [1, 1, 1, 1, 1, 1, 1, 1, 1]}}", "ablate:", "  base:"]
    for level in range(1, levels):
        lines.append(f"    k{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]")
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (laughs(9), "more than 100,000 values with aliases expanded"),
        (b"name: a\nsearch: {space: &s {lr: *s}}", "a value contains itself"),
        (b"name: a\nseed: 0x" + b"f" * 9000, "an integer must be below 2**63"),
        (b"name: a\nablate: {cures: {lr: [0b" + b"1" * 90 + b"]}}", "an integer must be below 2**63"),
        (b"name: a\nseed: " + b"1:" * 300 + b"1.5", "not valid YAML"),
        (b'name: a\ndataset: "folder:\\0"', "contains a code point that is not a character"),
        (b'name: a\nstorage: "\\ud800"', "contains a code point that is not a character"),
        (b'name: a\n"\\e[31mred": 1', r"\x1b[31mred: unknown key"),
        (
            b"name: a\nablate: {base: {lr: !!binary /w==}}",
            "ablate.base.lr = b'\\xff': input was not a valid JSON value",
        ),
        (b"name: a\nablate: {factors: {lr: [2020-01-01]}}", "ablate.factors.lr.0 = datetime.date(2020, 1, 1)"),
        (b"name: a\nablate: {base: {lr: .nan}}", "ablate.base.lr = nan: input should be a finite number"),
        (b"name: a\nablate: {base: {lr: {1: 2}}}", "ablate.base.lr.1 = 1: input should be a valid string"),
        (b"name: a\nconfirm: {seeds: 1000000000}", "confirm.seeds = 1000000000: input should be less than or equal to"),
        (b"name: a\ndataset: " + b"x" * 100_000 + b"\nseed: -1", "seed = -1"),
        (
            b"name: a\nencoder: {name: " + b"x" * 100_000 + b"}",
            "input should be 'conv4', 'resnet18', 'resnet50', timm/NAME or",
        ),
    ],
)
def test_a_trap_in_a_file_is_named(folder: Path, content: bytes, complaint: str):
    message = judged_file(folder, content)
    assert message is not None
    assert complaint in message


def test_a_mapping_of_ten_thousand_keys_takes_a_moment(folder: Path):
    started = time.process_time()
    content = b"".join(b"k%d: 1\n" % index for index in range(10_000))
    assert "unknown key" in (judged_file(folder, b"name: a\n" + content) or "")
    assert time.process_time() - started < 20  # in quadratic time it would be minutes


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfname: a\r\nseed: 3\r\n", b"name: a\nencoder: &e {width: 8}\nconfirm: {seeds: 2}\n"],
    ids=["BOM and CRLF", "anchor"],
)
def test_what_editors_write_is_read(folder: Path, content: bytes):
    assert judged_file(folder, content) is None


@pytest.mark.timeout(60)  # a pipe that nobody writes to would be waited for without end
@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str):
    path = tmp_path / "study.yaml"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else "/dev/zero")
    message = judged(lambda: load_config(str(path)))
    assert message is not None
    assert message.startswith((f"{path}: not a file", f"{path}: cannot be read"))


# --- what validates, but cannot run --------------------------------------------------------------------------------

runnable = st.fixed_dictionaries(
    {},
    optional={
        "n_images": st.integers(1, 10**6),
        "image_size": st.integers(8, 64),
        "workers": st.integers(1, 5),
        "search": st.fixed_dictionaries(
            {},
            optional={
                "metric": st.sampled_from(["auto", "val/loss", "val/acc", "probe/knn", "", "loss"]),
                "space": st.dictionaries(
                    st.sampled_from(["lr", "batch_size", "option/temperature", "option/x"]),
                    st.lists(st.integers(-1, 10**6), max_size=3),
                    max_size=2,
                ),
            },
        ),
        "ablate": st.fixed_dictionaries(
            {"designs": st.just(["size_by_strength"])}, optional={"sizes": st.lists(st.integers(1, 9999), max_size=2)}
        ),
        "evaluate": st.just({"datasets": ["shapes"]}),
        "defaults": st.fixed_dictionaries({"rotation": st.fixed_dictionaries({"batch_size": st.integers(0, 9999)})}),
    },
)


@pytest.mark.core
@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(runnable)
def test_what_validates_but_cannot_run_is_refused_in_one_line_before_anything_starts(content: dict[str, Any]):
    try:
        config = check_config({**TINY, "max_train": 40, **content})
        check_plan(Plan(config, load_datasets(config)))
    except UserError as refused:
        message = str(refused)
    else:
        return
    assert is_one_line(message)


# --- passwords -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tracking_uri", "https://me:hunter2@mlflow.example.org/x"),
        ("tracking_uri", "https://hunter2@mlflow.example.org"),
        ("tracking_uri", "postgresql://me:hunter2/@db.example.org/mlflow"),
        ("tracking_uri", "postgresql://db.example.org/mlflow?user=me&password=hunter2"),
        ("storage", "s3://KEY:hunter2@bucket/studies"),
    ],
)
def test_a_password_in_the_configuration_is_refused_without_being_repeated(key: str, value: str):
    message = judged(lambda: load_config("quick", [f"{key}={value}"]))
    assert message is not None
    assert message.startswith(f"{key} = ")
    assert "environment" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tracking_uri", "http://127.0.0.1:5000"),
        ("tracking_uri", "postgresql://me@db.example.org/mlflow"),
        ("tracking_uri", "sqlite:////home/me@work/mlflow.db"),
        ("storage", "abfss://container@account.dfs.core.windows.net/studies"),
        ("storage", "s3://bucket/a:b/studies?region=eu-central-1"),
    ],
)
def test_an_address_without_a_password_is_accepted(key: str, value: str):
    assert judged(lambda: load_config("quick", [f"{key}={value}"])) is None
