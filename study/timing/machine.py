"""What a study costs on this machine beside the computation of its trials: starts, gaps between trials, and the end."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainables.data.cache import key_of, remembered
from trainables.packages import version_of
from trainables.ray_adapter.cores import n_cores

_PACKAGES = ("pretext-study", "torch", "ray", "mlflow")


@dataclass(frozen=True)
class Machine:
    """Seconds that a study takes on a machine, whatever its trials compute.

    Attributes:
        start: From the command to the first phase: imports, and the start of Ray.
        phase: Start and end of the processes of a phase.
        warm_up: Extra time of the first training trial of each process.
        trial: Between two trials of a process: Ray Tune, Ray Train, the journal.
        end: From the last phase to the end of the command: the report, and the rest of the delivery to MLflow.
    """

    start: float
    phase: float
    warm_up: float
    trial: float
    end: float


def machine_of(measure: Callable[[], Machine]) -> Machine:
    """Return what is remembered of this machine in the user's cache, or measure and remember it.

    Args:
        measure: Function that measures it, once for each version of the packages that it depends on.
    """
    versions = map(version_of, _PACKAGES)
    key = key_of(platform.node(), platform.python_version(), n_cores(), *versions)
    return Machine(*remembered("machine", key, lambda: np.array(dataclasses.astuple(measure()))).tolist())
