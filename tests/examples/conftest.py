"""The examples of plug-ins are tasks during their tests alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.examples.packages import EXAMPLES
from trainables import plugins


@pytest.fixture(scope="module", autouse=True)
def examples() -> Iterator[None]:
    """Load the file of each example, and forget what it registers afterward."""
    loaded = [plugins.obtain(str(path)) for path in EXAMPLES.values()]
    yield
    for plugin in loaded:
        plugins.unload(plugin)
