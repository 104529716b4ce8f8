"""Options: dataclass fields that check their values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pytest

from trainables.errors import ConfigError, UserError
from trainables.options import check_fields, in_range, one_of


@dataclass(frozen=True)
class Example:
    share: float = in_range(0.5, 0.0, 1.0)
    rate: float = in_range(0.1, 0.0, 1.0, exclusive_low=True)
    count: int = in_range(3, 1, 8)
    limit: int | None = in_range(None, 1, 8)
    kind: str = one_of("a", "a", "b")
    pairs: int = one_of(1, 1, 8)
    switch: bool = one_of(True, True, False)
    note: str = ""


def problem(**values: Any) -> str | None:
    try:
        check_fields(Example(**values), "owner")
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"share": 0.0},
        {"share": 1},
        {"rate": 1.0},
        {"count": 1},
        {"count": 8},
        {"limit": None},
        {"limit": 8},
        {"kind": "b"},
        {"pairs": 8},
        {"switch": False},
        {"note": "anything"},
    ],
)
def test_what_is_allowed_passes(values: dict) -> None:
    assert problem(**values) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 1.01}, "owner.share = 1.01: must be in [0.0, 1.0]"),
        ({"share": -0.01}, "owner.share = -0.01: must be in [0.0, 1.0]"),
        ({"rate": 0.0}, "owner.rate = 0.0: must be in (0.0, 1.0]"),
        ({"share": math.nan}, "owner.share = nan: must be a finite number"),
        ({"share": math.inf}, "owner.share = inf: must be a finite number"),
        ({"share": True}, "owner.share = True: must be a finite number"),
        ({"share": "0.5"}, "owner.share = '0.5': must be a finite number"),
        ({"share": None}, "owner.share = None: must be a finite number"),
        ({"count": 2.0}, "owner.count = 2.0: must be a whole number"),
        ({"limit": 2.5}, "owner.limit = 2.5: must be a whole number"),
        ({"limit": 9}, "owner.limit = 9: must be in [1, 8]"),
        ({"kind": "c"}, "owner.kind = 'c': must be one of 'a', 'b'"),
        ({"kind": ["a"]}, "owner.kind = ['a']: must be one of 'a', 'b'"),
        ({"pairs": True}, "owner.pairs = True: must be one of 1, 8"),
        ({"pairs": 8.0}, "owner.pairs = 8.0: must be one of 1, 8"),
        ({"switch": 1}, "owner.switch = 1: must be one of True, False"),
        ({"switch": None}, "owner.switch = None: must be one of True, False"),
    ],
)
def test_what_is_not_allowed_is_told_with_its_key_value_and_what_is(values: dict, message: str) -> None:
    assert problem(**values) == message


def test_the_first_problem_is_told() -> None:
    assert problem(kind="c", share=2) == "owner.share = 2: must be in [0.0, 1.0]"


def test_a_config_error_is_one_that_the_user_can_mend() -> None:
    assert issubclass(ConfigError, UserError)


def test_whole_numbers_are_known_by_types_as_by_their_names() -> None:
    fields = [("count", int, in_range(3, 1, 8)), ("limit", int | None, in_range(None, 1, 8))]
    kind = dataclasses.make_dataclass("Options", fields)  # its types are not strings, as in a file without __future__
    for name in ("count", "limit"):
        with pytest.raises(ConfigError, match=rf"owner\.{name} = 2\.5: must be a whole number"):
            check_fields(kind(**{name: 2.5}), "owner")
