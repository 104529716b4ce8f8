"""Number of CPU cores that this process may use."""

from __future__ import annotations

import os


def n_cores() -> int:
    """Return the number of cores that Ray finds, or that a batch system leaves to this process if these are fewer."""
    from ray._private.utils import get_num_cpus  # Ray takes a second to import

    found = max(1, int(get_num_cpus(override_docker_cpu_warning=True)))
    return min(found, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else found
