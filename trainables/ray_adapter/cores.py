"""Number of CPU cores, as Ray counts them where none is given."""

from __future__ import annotations


def n_cores() -> int:
    """Return the number of cores that Ray finds on this machine, which a container may limit."""
    from ray._private.utils import get_num_cpus  # Ray takes a second to import

    return max(1, int(get_num_cpus(override_docker_cpu_warning=True)))
