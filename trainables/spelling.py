"""Names whose spelling changed in version 0.2: `grey` is `gray` now.

Configurations, journals and frames may still contain the former name. They are read with `current`, and identities
(trial ids and configuration hashes) are computed on `former`, so that existing studies keep theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Data = TypeVar("Data")

RENAMED = {"grey": "gray"}
_FORMER = re.compile(rf"\b({'|'.join(RENAMED)})\b")
_CURRENT = re.compile(rf"\b({'|'.join(RENAMED.values())})\b")
_BACK = {new: old for old, new in RENAMED.items()}


def current(data: Data) -> Data:
    """Return plain data with every former name in its keys and strings replaced by the current one."""
    return _replaced(data, lambda text: _FORMER.sub(lambda found: RENAMED[found[1]], text))


def former(data: Data) -> Data:
    """Return plain data with every current name in its keys and strings replaced by the former one."""
    return _replaced(data, lambda text: _CURRENT.sub(lambda found: _BACK[found[1]], text))


def _replaced(data: Any, change: Callable[[str], str]) -> Any:
    if isinstance(data, str):
        return change(data)
    if isinstance(data, Mapping):
        return {_replaced(key, change): _replaced(value, change) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(_replaced(item, change) for item in data)
    return data
