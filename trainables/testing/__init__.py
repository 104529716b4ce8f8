"""Conformance suites for what plug-ins add, as pytest classes; they need pytest.

A suite is subclassed with the names to check, which are registered when the module that has them is imported:

    import my_task

    @pytest.mark.parametrize("name", ["my_task"])
    class TestMyTask(TaskConformance):
        pass

The built-in tasks, encoders, data sets and ops pass the same suites.
"""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in ("datasets", "encoders", "ops", "tasks")))

from trainables.testing.datasets import DatasetConformance  # noqa: E402 - asserts are rewritten at the import
from trainables.testing.encoders import EncoderConformance  # noqa: E402
from trainables.testing.ops import OpConformance  # noqa: E402
from trainables.testing.tasks import TaskConformance  # noqa: E402

__all__ = ["DatasetConformance", "EncoderConformance", "OpConformance", "TaskConformance"]
