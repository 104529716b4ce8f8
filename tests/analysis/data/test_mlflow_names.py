"""Names in MLflow: MLflow accepts them, none is that of another, and each leads back to the original."""

from __future__ import annotations

import itertools
import random

import pytest
from mlflow.utils.validation import _validate_logged_model_name, _validate_metric_name

from analysis.data.mlflow_names import LONGEST_NAME, from_mlflow, in_mlflow, model_in_mlflow, shortened, whole_names

PLAIN = ["val/accuracy", "probe/shapes/linear_f1", "option/head_hidden", "probe/folder:/data/my photos/linear", "lr"]
ODD = [
    *("probe/with space (copy) @ a+b/linear", "probe/folder:/été/100%/knn", "probe/a_x0028_b/linear", "a_x_x0028_"),
    *(
        "/absolute",
        "a//b",
        "a/",
        "a/./b",
        "a/../b",
        "..",
        "../up",
        "..a",
        ".",
        "a/.hidden",
        "caf\udce9",
        "line\nbreak",
        "🙂",
    ),
    *("health/(rank)", f"probe/folder:/{'deep/' * 60}x/linear", f"probe/folder:/{'(' * 100}/linear"),
]


@pytest.mark.parametrize("name", PLAIN)
def test_a_name_that_mlflow_accepts_is_left_as_it_is(name: str):
    assert in_mlflow(name) == name


@pytest.mark.parametrize("name", [*PLAIN, *ODD])
def test_every_name_is_accepted_and_leads_back(name: str):
    short = in_mlflow(name)
    _validate_metric_name(short)
    assert len(short) <= LONGEST_NAME
    assert from_mlflow(short, whole_names([name])) == name


def test_health_metrics_come_after_validation_in_mlflow():
    assert in_mlflow("health/rankme") == "val_health/rankme"
    assert from_mlflow("val_health/rankme", {}) == "health/rankme"


def test_random_names_are_accepted_distinct_and_lead_back():
    drawn = random.Random(0)
    names = {"".join(drawn.choices("a_x028/.(:- F", k=drawn.randint(1, 14))) for _ in range(20_000)}
    found = {in_mlflow(name): name for name in names}
    assert len(found) == len(names)
    for short, name in found.items():
        _validate_metric_name(short)
        assert from_mlflow(short, {}) == name


def test_long_names_that_differ_anywhere_stay_different():
    path = "x" * 265
    names = [
        f"probe/{path[:i]}{c}{path[i:]}/{probe}"
        for i, c, probe in itertools.product((0, 130, 265), "ab", ("linear", "knn"))
    ]
    tags = whole_names(names)
    assert len({in_mlflow(name) for name in names}) == len(names)
    assert [from_mlflow(in_mlflow(name), tags) for name in names] == names


def test_a_shortened_text_keeps_both_ends():
    assert shortened("short", 500) == "short"
    cut = shortened("begin" + "x" * 600 + "end train", 500)
    assert len(cut) == 500
    assert cut.startswith("beginxx")
    assert "xend train__" in cut


@pytest.mark.parametrize(
    ("name", "expected"), [("quick-rotation", "quick-rotation"), ("v1.0-simclr", "v1_x002E_0-simclr")]
)
def test_a_logged_models_name_has_no_dots(name: str, expected: str):
    assert model_in_mlflow(name) == expected
    _validate_logged_model_name(model_in_mlflow(name))
