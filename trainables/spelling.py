"""Names whose spelling changed in version 0.2: `grey` is `gray` now.

Configurations, journals and frames may still contain the former name. They are read with `current` or, where only some
keys name ops and options, `with_current_names`. Identities (trial ids and configuration hashes) are computed on
`with_former_names`, so that existing studies keep theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Data = TypeVar("Data")

RENAMED = {"grey": "gray"}
# Keys of configurations, trials and outcomes below which ops, options and cells are named.
NAMED_BELOW = ("augmentation", "options", "cell", "baseline", "defaults", "task_options", "ablate", "space")

_FORMER = re.compile(rf"\b({'|'.join(RENAMED)})\b")
_CURRENT = re.compile(rf"\b({'|'.join(RENAMED.values())})\b")
_BACK = {new: old for old, new in RENAMED.items()}


def current(data: Data) -> Data:
    """Return plain data with every former name in its keys and strings replaced by the current one."""
    return _replaced(data, lambda text: _FORMER.sub(lambda found: RENAMED[found[1]], text))


def former(data: Data) -> Data:
    """Return plain data with every current name in its keys and strings replaced by the former one."""
    return _replaced(data, lambda text: _CURRENT.sub(lambda found: _BACK[found[1]], text))


def with_current_names(data: Any) -> Any:
    """Return a configuration, a trial or a phase's outcome with current names of ops, options and cells.

    Other strings, such as the name of a study or a path, stay as they are.
    """
    return _below(data, current)


def with_former_names(data: Any) -> Any:
    """Return the inverse of `with_current_names`."""
    return _below(data, former)


def _below(data: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(data, Mapping):
        return {key: change(value) if key in NAMED_BELOW else _below(value, change) for key, value in data.items()}
    return [_below(item, change) for item in data] if isinstance(data, list) else data


def _replaced(data: Any, change: Callable[[str], str]) -> Any:
    if isinstance(data, str):
        return change(data)
    if isinstance(data, Mapping):
        return {_replaced(key, change): _replaced(value, change) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(_replaced(item, change) for item in data)
    return data
