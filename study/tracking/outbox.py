"""Batches of data for MLflow runs, within MLflow's limits, and calls that MLflow may refuse."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from analysis.data.mlflow_names import in_mlflow, whole_names
from study.tracking.store import UNREACHABLE, artifact_errors, is_refusal
from trainables.errors import without_secrets

logger = logging.getLogger(__name__)

MOST_METRICS, MOST_PARAMS = 1000, 100  # MLflow's limits per batch


@dataclass
class _Pending:
    """Data still to be sent to one run."""

    metrics: list[Metric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class Outbox:
    """Data that is kept per run until it is sent in batches.

    Args:
        client: Client of the store.

    Attributes:
        points: Number of metric values sent.
        refused: Number of calls that MLflow refused permanently, each logged as a warning.
    """

    def __init__(self, client: MlflowClient) -> None:
        self.points = 0
        self.refused = 0
        self._client = client
        self._pending: dict[str, _Pending] = {}

    def add_metrics(self, run_id: str, metrics: Iterable[Metric]) -> None:
        """Keep metrics of a run for the next batch, which has them under their names in MLflow."""
        for metric in metrics:
            named = Metric(in_mlflow(metric.key), metric.value, metric.timestamp, metric.step)
            self._of(run_id).metrics.append(named)
            self.add_tags(run_id, whole_names([metric.key]))

    def add_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Keep params of a run for the next batch."""
        self.add_tags(run_id, whole_names(params))
        self._of(run_id).params.update(params)

    def add_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Keep tags of a run for the next batch."""
        self._of(run_id).tags.update(tags)

    def flush(self) -> None:
        """Send everything."""
        for run_id in list(self._pending):
            self.send(run_id)

    def send(self, run_id: str) -> None:
        """Send everything kept for one run, metrics apart from params, so that a refused param loses no curve."""
        pending = self._pending.pop(run_id, _Pending())
        params = [Param(in_mlflow(name), value) for name, value in pending.params.items()]
        tags = [RunTag(name, value) for name, value in pending.tags.items()]
        for start in range(0, max(len(params), len(tags)), MOST_PARAMS):
            chunk = slice(start, start + MOST_PARAMS)
            self.call(self._client.log_batch, run_id, params=params[chunk], tags=tags[chunk])
        for start in range(0, len(pending.metrics), MOST_METRICS):
            metrics = pending.metrics[start : start + MOST_METRICS]
            if self.call(self._client.log_batch, run_id, metrics=metrics):
                self.points += len(metrics)

    def call(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Make a call; return False if MLflow refuses it permanently, so that the calls after it are still made."""
        try:
            call(*args, **kwargs)
        except UNREACHABLE as error:
            if not is_refusal(error):
                raise
            self.refused += 1
            name = getattr(call, "__name__", "call")
            logger.warning(
                "MLflow refused %s for run %s, which is skipped: %s", name, args[0], without_secrets(str(error))
            )
            return False
        return True

    def store(self, call: Callable[..., Any], *args: Any) -> bool:
        """Make a call that stores an artifact, as `call` does; whatever its library raises is an OSError."""

        @functools.wraps(call)
        def wrapped(*given: Any) -> None:
            with artifact_errors():
                call(*given)

        return self.call(wrapped, *args)

    def _of(self, run_id: str) -> _Pending:
        return self._pending.setdefault(run_id, _Pending())
