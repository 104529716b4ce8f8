"""Metadata of MLflow runs from journal events: names, tags, params, metrics and data sets."""

from __future__ import annotations

import contextlib
import getpass
import json
import math
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_USER

from analysis.data.mlflow_names import CHANCE_ENDING, LONGEST_DATASET, shortened
from analysis.data.study import SIMULATED
from analysis.records import Facts, StudyStarted
from analysis.records.phases import SEARCH, short_seed
from study.tracking.notes import NOTE
from trainables.errors import last_line
from trainables.trial import TrialConfig

REASON_LENGTH = 250  # characters of a reason in a tag; the whole text is an artifact


def common_tags(study: StudyStarted, journal: int) -> dict[str, str]:
    """Return the tags that all runs of a study share; runs are looked up by `pretext.journal`."""
    tags = {
        "pretext.study": study.study,
        "pretext.journal": str(journal),
        "pretext.config_hash": study.config_hash,
        **source_tags(),
        "mlflow.source.git.commit": study.git_commit,
    }
    return {name: str(value) for name, value in tags.items() if value}


def source_tags() -> dict[str, str]:
    """Return the tags that MLflow shows as "Created by" and "Source"."""
    tags = {"mlflow.source.name": "study/run.py", "mlflow.source.type": "LOCAL"}
    with contextlib.suppress(KeyError, OSError, ImportError):  # a container's user may have no name
        tags[MLFLOW_USER] = getpass.getuser()
    return tags


def trial_tags(trial_id: str, trial: TrialConfig) -> dict[str, str]:
    """Return the tags by which the table of runs is filtered and grouped; runs of one `group` differ in their seed."""
    shown = {"task": trial.task, "phase": trial.phase, "cell": trial.cell, "group": trial_group(trial)}
    return {"pretext.trial_id": trial_id, **shown}


def trial_name(trial: TrialConfig) -> str:
    """Return a name that begins with what distinguishes the trial from its neighbors.

    Examples: `lr=0.003 aug=0.50 bs=128 rotation s0` in the search, `n_images=1000 rotation s2` in an ablation.
    """
    return " ".join([*_differs(trial), trial.task, f"s{short_seed(trial.seed)}"])


def trial_group(trial: TrialConfig) -> str:
    """Return a name that a trial shares with its other seeds; sorted by it, the cells of a task come together."""
    return " ".join([trial.task, *_differs(trial)])


def _differs(trial: TrialConfig) -> list[str]:
    if trial.cell:
        return [trial.cell]
    if trial.phase == SEARCH:
        return [f"lr={trial.lr:.3g}", f"aug={trial.augmentation_strength:.2f}", f"bs={trial.batch_size}"]
    return []


def simulated_tags(study: StudyStarted, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a run; if the study is simulated, with `pretext.simulated` and a warning above the note."""
    if not study.config.get("simulate"):
        return dict(tags)
    marked = dict(tags) | {"pretext.simulated": "true"}
    if NOTE in tags:
        marked[NOTE] = f"🟥 **{SIMULATED}**\n\n{tags[NOTE]}"
    return marked


def short_reason(reason: str) -> str:
    """Return the last line of a reason that is not blank, as much of it as a tag holds."""
    return last_line(reason)[:REASON_LENGTH]


def study_params(config: Any, prefix: str = "") -> dict[str, str]:
    """Return a nested configuration as flat params: `search.num_samples`."""
    if not isinstance(config, Mapping) or not config:
        return {prefix: str(config)} if prefix else {}
    flat: dict[str, str] = {}
    for name, value in config.items():
        flat |= study_params(value, f"{prefix}.{name}" if prefix else str(name))
    return flat


def facts_params(facts: Facts) -> dict[str, str]:
    """Return the facts known before a trial's first step; `chance` is the chance level of its primary metric."""
    counts = ("n_train", "n_validation", "n_validation_images", "n_queries", "largest_class", "parameters")
    names = ("primary_metric", "primary_mode", *counts)
    values = {name: getattr(facts, name) for name in names} | {"chance": facts.chance.get(facts.primary_metric)}
    params = {name: str(value) for name, value in values.items() if value is not None}
    return params | {f"chance/{name}": str(value) for name, value in facts.chance.items()}


def chance_metrics(chance: Mapping[str, float]) -> dict[str, float]:
    """Return chance levels as metrics beside those that they belong to: `val/accuracy_chance`.

    Args:
        chance: Level by metric.
    """
    return numbers({f"{name}{CHANCE_ENDING}": level for name, level in chance.items()}, only_finite=True)


def numbers(values: Mapping[str, Any], *, only_finite: bool = False) -> dict[str, float]:
    """Return the numeric entries. Infinities become NaN: MLflow would store 1.8e308, which breaks every chart."""
    found = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
    if only_finite:
        return {name: value for name, value in found.items() if math.isfinite(value)}
    return {name: value if math.isfinite(value) else math.nan for name, value in found.items()}


def dataset_inputs(study: StudyStarted, trial: TrialConfig) -> list[DatasetInput]:
    """Return the pretext training and validation splits of a trial's data set; empty if the study does not describe it.

    MLflow identifies a data set by name and digest, so each split has its own name.
    """
    dataset = study.datasets.get(trial.dataset)
    if not dataset:
        return []
    profile = {"n_images": trial.n_images, "counts": dataset.get("counts"), "classes": dataset.get("class_names")}
    if "leaks" in dataset:
        profile["leaks"] = dataset["leaks"]
    source = {"tags": {"mlflow.source.name": f"data set {trial.dataset}"}}
    return [
        DatasetInput(
            Dataset(
                name=shortened(f"{trial.dataset} {context}", LONGEST_DATASET),
                digest=str(dataset.get("fingerprint"))[:36],
                source_type="code",
                source=json.dumps(source),
                profile=json.dumps(profile),
            ),
            tags=[InputTag(MLFLOW_DATASET_CONTEXT, context)],
        )
        for context in ("train", "validation")
    ]
