"""Search spaces: every task has one that its trials accept, and their forms in YAML are parsed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from search_spaces import SPECS, Choice, Domain, LogUniform, Uniform, parse_domain, register_task
from trainables.augmentation import validate_policy
from trainables.errors import ConfigError
from trainables.tasks import TASKS, PretextTask, SimCLR, build_options
from trainables.trial import TrialConfig

DOMAINS = [(task, name) for task in SPECS for name in SPECS[task].space]
EVERY_DOMAIN = pytest.mark.parametrize(("task", "name"), DOMAINS, ids=[f"{task}-{name}" for task, name in DOMAINS])


def default_trial(task: str) -> TrialConfig:
    return TrialConfig(phase="search", task=task, **SPECS[task].defaults)


def test_every_task_has_defaults_and_a_space_and_nothing_else_has():
    assert set(SPECS) == set(TASKS)


@pytest.mark.parametrize("task", list(TASKS))
def test_the_defaults_of_a_task_make_a_trial_and_lie_in_its_space(task: str):
    trial = default_trial(task)
    validate_policy(dict(trial.augmentation))
    options = {f"option/{name}": value for name, value in vars(build_options(TASKS[task], {})).items()}
    values = trial.to_columns() | options
    outside = {name: values[name] for name, domain in SPECS[task].space.items() if values[name] not in domain}
    assert outside == {}


@EVERY_DOMAIN
def test_both_ends_of_every_domain_are_values_that_a_trial_and_its_task_accept(task: str, name: str):
    for value in SPECS[task].space[name].grid(2):
        trial = default_trial(task).with_values({name: value})
        build_options(TASKS[task], dict(trial.options))
        assert trial.to_columns()[name] == value


@EVERY_DOMAIN
def test_every_domain_says_where_it_comes_from(task: str, name: str):
    assert len(SPECS[task].space[name].source) > 10


ends = st.floats(1e-6, 1e6)
domains = st.one_of(
    st.tuples(ends, ends).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: Uniform(low=pair[0], high=pair[1])),
    st.tuples(ends, ends)
    .filter(lambda pair: pair[0] < pair[1])
    .map(lambda pair: LogUniform(low=pair[0], high=pair[1])),
    st.lists(st.integers() | st.text(), min_size=1).map(lambda values: Choice(values=tuple(values))),
)


@given(domains, st.integers(0, 2**32))
def test_a_draw_lies_in_its_domain_and_is_the_same_for_the_same_generator(domain: Domain, seed: int):
    first, second = (domain.draw(np.random.default_rng(seed)) for _ in range(2))
    assert first in domain
    assert first == second


@given(domains, st.integers(1, 9))
def test_a_grid_lies_in_its_domain(domain: Domain, points: int):
    assert all(value in domain for value in domain.grid(points))


def test_a_grid_spans_its_domain_evenly_in_values_or_in_their_logarithm():
    assert Uniform(low=0.0, high=1.0).grid(5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert LogUniform(low=1e-4, high=1e-1).grid(4) == [1e-4, 1e-3, 1e-2, 1e-1]
    assert Choice(values=(32, 64, 128)).grid(2) == [32, 64, 128]


def test_log_uniform_draws_as_often_below_the_geometric_mean_as_above():
    domain, rng = LogUniform(low=1e-4, high=1e-2), np.random.default_rng(0)
    below = sum(domain.draw(rng) < 1e-3 for _ in range(2000))
    assert abs(below - 1000) < 4 * math.sqrt(500)


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("{uniform: [0, 1]}", Uniform(low=0.0, high=1.0)),
        ("{uniform: [0.25, 0.5]}", Uniform(low=0.25, high=0.5)),
        ("{loguniform: [0.0001, 0.1]}", LogUniform(low=1e-4, high=1e-1)),
        ("{loguniform: [1e-4, 1e-1]}", LogUniform(low=1e-4, high=1e-1)),  # PyYAML reads these two as strings
        ("{choice: [32, 64]}", Choice(values=(32, 64))),
        ("[adamw, sgd]", Choice(values=("adamw", "sgd"))),
        ("64", Choice(values=(64,))),
        ("sgd", Choice(values=("sgd",))),
    ],
)
def test_yaml_spells_a_domain(text: str, domain: Domain):
    assert parse_domain("lr", yaml.safe_load(text)) == domain


def test_python_may_spell_a_domain_with_tuples():
    assert parse_domain("batch_size", (32, 64)) == Choice(values=(32, 64))
    assert parse_domain("lr", {"uniform": (0.1, 0.2)}) == Uniform(low=0.1, high=0.2)


def test_a_task_without_a_name_is_refused():
    class Nameless(PretextTask):
        Options = SimCLR.Options

    with pytest.raises(ConfigError, match="must be a subclass of PretextTask with `name` and `Options`"):
        register_task()(Nameless)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{normal: [0, 1]}", r"must be \{uniform: \[low, high\]\}"),
        ("{uniform: [0, 1], choice: [1]}", "must be"),
        ("{}", "must be"),
        ("{uniform: 3}", "two numbers"),
        ("{uniform: [1, 2, 3]}", "two numbers"),
        ("{uniform: [a, b]}", "two numbers"),
        ("{uniform: '12'}", "two numbers"),
        ("{uniform: {1: 2, 3: 4}}", "two numbers"),
        ("{uniform: [null, 1]}", "two numbers"),
        (f"{{uniform: [0, {10**400}]}}", "two numbers"),  # more than a float can be
        ("{uniform: [0, .inf]}", "finite"),
        ("{uniform: [.nan, 1]}", "finite"),
        ("{uniform: [1, 1]}", "first must be below the second"),
        ("{loguniform: [0, 1]}", "above 0"),
        ("{loguniform: [1, 0.1]}", "first below the second"),
        ("[]", "at least one value"),
        ("{choice: []}", "at least one value"),
        ("{choice: 5}", "a list of values"),
        ("{choice: sgd}", "a list of values"),
    ],
)
def test_a_wrong_domain_is_refused_in_one_line_that_names_the_hyperparameter(text: str, complaint: str):
    with pytest.raises(ConfigError, match=complaint) as refused:
        parse_domain("option/gap", yaml.safe_load(text))
    assert "search.space.option/gap" in str(refused.value)
    assert "\n" not in str(refused.value)
