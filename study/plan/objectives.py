"""The metric by which a study chooses a task's configurations, unless its configuration names one."""

from __future__ import annotations

from analysis.data.classes import BALANCED
from study.config.names import TaskName
from trainables.data import Splits
from trainables.objective import is_imbalanced
from trainables.probes.accuracy import largest_class
from trainables.tasks import TASKS
from trainables.training.monitor import PROBE_QUERIES
from trainables.trial import ONLINE_PROBES


def default_objective(splits: Splits, task: TaskName) -> tuple[str, str]:
    """Return the metric that suits the data, and its direction, `max` or `min`.

    With labels it is the accuracy of the online linear probe, or its balanced accuracy if the images that it is scored
    on are imbalanced. Without labels it is the task's own validation metric.
    """
    if not splits.labeled:
        return TASKS[task].primary_metric, TASKS[task].primary_mode
    table = splits.probe_validation
    assert table is not None
    assert table.labels is not None
    share = largest_class(table.labels[:PROBE_QUERIES])
    return (f"probe/{BALANCED}" if is_imbalanced(share, table.n_classes) else ONLINE_PROBES[0]), "max"
