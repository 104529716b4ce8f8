"""Small studies for tests: a configuration that runs in seconds, the splits that it needs, and invented histories."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from analysis.records import FINISHED, Report, TrialEnded, TrialStarted
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.driver import load_datasets
from study.plan.history import History
from study.plan.phases import Plan
from study.timing.costs import TrialCosts
from trainables.data import ImageTable, Splits
from trainables.trial import TrialConfig

TINY: dict[str, Any] = {
    "name": "tiny",
    "tasks": ["rotation"],
    "max_train": 150,
    "image_size": 16,
    "encoder": {"width": 4},
    "budget_steps": 6,
    "report_every": 3,
    "search": {"num_samples": 3, "chance_patience": 0, "space": {"lr": {"loguniform": [1e-3, 1e-2]}}},
    "confirm": {"top_k": 1, "seeds": 2},
    "max_failures": 0,
}
SMALL_BATCH = {"batch_size": 8}


def tiny(**changes: Any) -> StudyConfig:
    """Return a tiny study's configuration; a mapping among `changes` is merged into the existing one."""
    content = {**TINY, **changes}
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(TINY.get(key), dict):
            content[key] = {**TINY[key], **value}
    content.setdefault("defaults", dict.fromkeys(content["tasks"], SMALL_BATCH))
    return check_config(content)


def plan_of(config: StudyConfig) -> Plan:
    return Plan(config, {name: splits_of(name, config.max_train) for name in load_names(config)})


def load_names(config: StudyConfig) -> list[str]:
    return list(dict.fromkeys([config.dataset, *(config.evaluate.datasets or [])]))


@functools.cache
def splits_of(name: str, max_train: int | None) -> Splits:
    """Return generated images under any name: without labels for `unlabeled`, of five channels for `five_channels`."""
    shapes = load_datasets(tiny(max_train=max_train))["shapes"]
    tables = {name: table for name, table in vars(shapes).items() if isinstance(table, ImageTable)}
    if name == "five_channels":
        changed = {name: replace(table, images=table.images[:, [0, 1, 2, 0, 1]]) for name, table in tables.items()}
        return replace(shapes, **changed)
    if name == "unlabeled":
        changed = {name: replace(table, labels=None) for name, table in tables.items()}
        return replace(shapes, **changed | {"probe_train": None, "probe_validation": None})
    return shapes


def add(
    history: History,
    trial: TrialConfig,
    *values: float,
    metric: str = "probe/linear",
    status: str | None = FINISHED,
    results: dict[str, float] | None = None,
) -> str:
    """Add a trial to the history that reported `values` of a metric and then ended; return its id."""
    key = trial.trial_id
    history.observe(TrialStarted.of(trial))
    for step, value in enumerate(values):
        history.observe(Report(trial_id=key, step=step, metrics={metric: value}))
    if status is not None:
        history.observe(TrialEnded(trial_id=key, status=status, results=results or {}))
    return key


class KnownCosts(TrialCosts):
    """Costs of trials whose steps take a tenth of a second, in place of timed ones."""

    def __init__(self) -> None: ...

    def include(self, trials: Iterable[TrialConfig]) -> None: ...

    def seconds(self, trial: TrialConfig, share: float = 1.0) -> float:
        return 0.5 + 0.1 * share * trial.budget_steps
