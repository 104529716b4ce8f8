"""A rotation task that fails as its trial's options say; installed in Ray's workers by their set-up hook.

`RAY_JOB_CONFIG_JSON_ENV_VAR={"runtime_env": {"worker_process_setup_hook": HOOK}}` in a driver's environment does that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from trainables.tasks import TASKS
from trainables.tasks.rotation import Rotation

HOOK = f"{__name__}.install"
FAILING_STEP = 4  # of those that a process takes
BUG = 3
FAULTS: dict[int, Callable[[], Exception]] = {  # by the units of the head's hidden layer, which a search can vary
    1: lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    2: lambda: MemoryError("Unable to allocate 20.0 GiB for an array"),
    BUG: lambda: RuntimeError("a bug in the task"),
}


class FaultyRotation(Rotation):
    """Rotation that raises the fault of `head_hidden` in the fourth optimizer step that a process takes."""

    def forward(self, batch: Any) -> Any:
        """Return what rotation returns, or raise."""
        self.steps = getattr(self, "steps", 0) + self.training
        fault = FAULTS.get(self.options.head_hidden)
        if fault and self.training and self.steps >= FAILING_STEP:
            raise fault()
        return super().forward(batch)


def install() -> None:
    """Put the faulty task in the place of the real one."""
    TASKS["rotation"] = FaultyRotation
