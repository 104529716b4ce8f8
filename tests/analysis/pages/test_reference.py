"""The answers for the reference recipes, and their page."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from analysis.pages.reference import FAIL, NOT_RUN, PASS, answer, write_reference
from trainables.reference.recipes import RECIPES
from trainables.reference.running import Result

ROTATION, LIGHTLY = (next(each for each in RECIPES if each.name == name) for name in ("conv4-rotation", "lightly"))


def result(task: str, seed: int, accuracy: float) -> Result:
    return Result("id", task, seed, accuracy, 60.0)


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.596, 0.595, 0.597], PASS),  # the mean is 0.029 above the published .567
        ([0.599, 0.598, 0.600], FAIL),
        ([0.537], PASS),
        ([0.530], FAIL),
        ([math.nan], FAIL),
        ([], NOT_RUN),
    ],
)
def test_a_recipe_passes_within_its_tolerance_of_the_published_accuracy(accuracies: list[float], expected: str):
    found = answer(ROTATION, [result("rotation", seed, each) for seed, each in enumerate(accuracies)])
    assert found.answer == expected


def test_the_other_library_is_compared_seed_by_seed_where_both_have_a_result():
    own = [result("simclr", seed, 0.4 + 0.1 * seed) for seed in range(3)]
    other = [result("lightly_simclr", seed, 0.409 + 0.101 * seed) for seed in range(1, 3)]
    found = answer(LIGHTLY, own + other)
    assert found.seeds == (1, 2)
    assert found.difference == pytest.approx(-0.0105)
    assert -0.02 < found.low < found.high < 0  # paired: the spread between the seeds does not count
    assert found.reason == "3 seeds not run yet"


def test_a_recipe_that_was_not_run_says_why_and_is_on_the_page(tmp_path: Path):
    verdicts = [answer(ROTATION, [], "needs a GPU"), answer(LIGHTLY, [result("simclr", 0, 0.4)])]
    assert [each.answer for each in verdicts] == [NOT_RUN, NOT_RUN]
    page = re.sub("<.*?>", "", write_reference(tmp_path, verdicts).read_text())
    assert "NOT RUN" in page
    assert "needs a GPU" in page
    assert "seeds not run yet" in page
    assert "PASS 0, FAIL 0, NOT RUN 2" in page
