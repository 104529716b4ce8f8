"""Anything is a valid configuration or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces.cell_names import VARIABLE
from study.config import strict_yaml
from study.config.schema import StudyConfig
from study.config.validation import check_config
from tests.study.config.configurations import overridden
from trainables.errors import ConfigError
from trainables.tasks import TASKS

DESIGN_OF = {"base": "cures", "cures": "cures", "factors": "factorial"}  # which reads the key of `ablate`
PLACES = [
    *((), ("search",), ("search", "space"), ("search", "space", "rotation"), ("search", "space", "lr"), ("defaults",)),
    *(("defaults", "rotation"), ("defaults", "rotation", "augmentation"), ("task_options", "simclr"), ("evaluate",)),
    *(("ablate", name) for name in DESIGN_OF),
]
known = [
    *StudyConfig.model_fields,
    "space",
    "metric",
    "lr",
    "augmentation",
    "choice",
    "uniform",
    "temperature",
    *VARIABLE,
    *TASKS,
]
keys = st.one_of(st.sampled_from(known), st.none(), st.booleans(), st.integers(), st.text(max_size=5))
scalars = st.one_of(keys, st.floats(), st.dates(), st.binary())
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=6,
)
factors = st.one_of(st.sampled_from(VARIABLE), keys)
levels = st.one_of(st.lists(scalars, min_size=2, max_size=2), anything)


@st.composite
def nearly_right(draw: st.DrawFn) -> dict[Any, Any]:
    """A valid configuration with a few values, at any depth, replaced by anything."""
    content: dict[Any, Any] = {"name": "demo", "tasks": ["rotation", "simclr"]}
    for _ in range(draw(st.integers(1, 3))):
        place: Any = content
        path = draw(st.sampled_from(PLACES))
        ablates = path[:1] == ("ablate",)
        if ablates:
            content["ablate"] = {"designs": [DESIGN_OF[path[1]]]}
        for part in path:
            place = place.setdefault(part, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            place[draw(factors if ablates else keys)] = draw(levels if ablates else anything)
    return content


def refusal(content: Callable[[], StudyConfig]) -> str | None:
    """Return the message that refuses a configuration, None for one that is accepted."""
    try:
        content()
    except ConfigError as error:
        return str(error)
    return None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(nearly_right(), st.dictionaries(keys, anything, max_size=4)))
def test_any_mapping_is_a_configuration_or_is_refused_in_one_line(content: dict[Any, Any]):
    message = refusal(lambda: check_config(content))
    if message is not None:
        assert len(message.splitlines()) == 1
        return
    config = check_config(content)
    assert check_config(strict_yaml.load(config.to_yaml())) == config
    for task in config.tasks:
        config.base_trial(task, "search").to_json()


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}!&*|>'\"#%@`,.\n\t 01e_~?=<"), max_size=30))
def test_any_text_for_a_value_is_accepted_or_refused_in_one_line(text: str):
    message = refusal(lambda: overridden(f"n_images={text}"))
    assert message is None or len(message.splitlines()) == 1
