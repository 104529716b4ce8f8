"""Metadata of MLflow runs from journal events: names, tags, params, notes and data sets."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from analysis.data.study import SIMULATED
from analysis.records import Facts, StudyStarted
from trainables.trial import BASELINES, TrialConfig

NOTE = "mlflow.note.content"
REASON_LENGTH = 250  # characters of a reason in a tag; the whole text is an artifact


def common_tags(study: StudyStarted, journal: int) -> dict[str, str]:
    """Return the tags that all runs of a study share; runs are looked up by `pretext.journal`."""
    tags = {
        "pretext.study": study.study,
        "pretext.journal": str(journal),
        "pretext.config_hash": study.config_hash,
        "mlflow.source.name": "study/run.py",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": study.git_commit,
    }
    return {name: str(value) for name, value in tags.items() if value}


def trial_tags(trial_id: str, trial: TrialConfig) -> dict[str, str]:
    """Return the tags by which the run table is filtered and grouped."""
    tags = {"phase": trial.phase, "task": trial.task, "cell": trial.cell, "seed": trial.seed, "trial_id": trial_id}
    return {f"pretext.{name}": str(value) for name, value in tags.items()}


def trial_name(trial: TrialConfig) -> str:
    """Return a name that distinguishes the trials of a phase: `rotation lr=0.003 aug=0.50 bs=128 seed=0`."""
    words = [trial.task, *([trial.cell] if trial.cell else [])]
    if trial.task in BASELINES:
        words.append(trial.encoder)
    else:
        words += [f"lr={trial.lr:.3g}", f"aug={trial.augmentation_strength:.2f}", f"bs={trial.batch_size}"]
    return " ".join([*words, f"seed={trial.seed}"])


def simulated_tags(study: StudyStarted, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a run; if the study is simulated, with `pretext.simulated` and a warning above the note."""
    if not study.config.get("simulate"):
        return dict(tags)
    marked = dict(tags) | {"pretext.simulated": "true"}
    if NOTE in tags:
        marked[NOTE] = f"🟥 **{SIMULATED}**\n\n{tags[NOTE]}"
    return marked


def short_reason(reason: str) -> str:
    """Return the last non-blank line, which in a traceback is the error itself."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    return lines[-1][:REASON_LENGTH] if lines else ""


def study_note(study: StudyStarted) -> str:
    """Return the study run's description, in markdown."""
    tasks = ", ".join(study.config.get("tasks") or []) or "pretext tasks"
    lines = [f"Study **{study.study}**: {tasks}, {study.config.get('budget_steps', '?')} optimizer steps per trial."]
    for name, dataset in study.datasets.items():
        lines.append(f"- data set {escaped(name)}, fingerprint `{dataset.get('fingerprint')}`: {_counts(dataset)}")
    versions = ", ".join(f"{name} {version}" for name, version in study.versions.items())
    return "\n".join([*lines, f"- {escaped(versions)}" if versions else ""]).strip()


def phase_note(study: StudyStarted, phase: str, outcome: Any = None) -> str:
    """Return a phase run's description, with the outcome once the phase has ended."""
    note = f"Phase **{phase}** of study **{study.study}**."
    if outcome:
        content = json.dumps(outcome, indent=1, default=str)[:4000]
        # JSON escapes, so that the text contains no HTML tag and does not end the code block.
        content = content.replace("<", "\\u003c").replace("`", "\\u0060")
        note += f"\n\nOutcome:\n```json\n{content}\n```"
    return note


def trial_note(trial: TrialConfig) -> str:
    """Return a trial run's description."""
    images = "all images" if trial.n_images is None else f"{trial.n_images} images"
    cell = f", cell **{escaped(trial.cell)}**" if trial.cell else ""
    if trial.task in BASELINES or trial.init_from:
        what = f"**{trial.task}** {trial.encoder}, probed without further training"
    else:
        what = f"**{trial.task}** with {trial.encoder}, {trial.budget_steps} steps of {trial.batch_size} images"
    return f"{what}, on {escaped(trial.dataset)} ({images}); phase {trial.phase}{cell}, seed {trial.seed}."


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
    source = {"tags": {"mlflow.source.name": f"data set {trial.dataset}"}}
    return [
        DatasetInput(
            Dataset(
                name=f"{trial.dataset} {context}",
                digest=str(dataset.get("fingerprint"))[:36],
                source_type="code",
                source=json.dumps(source),
                profile=json.dumps(profile),
            ),
            tags=[InputTag(MLFLOW_DATASET_CONTEXT, context)],
        )
        for context in ("train", "validation")
    ]


def valid_name(name: str) -> str:
    """Return `name` with characters that MLflow refuses in names of metrics and params replaced by `_`."""
    return posixpath.normpath(re.sub(r"[^/\w.\- :]", "_", name).lstrip("/"))[:250]


def escaped(text: str) -> str:
    """Return a text with all possible markdown and HTML markup escaped as character references."""
    return re.sub(r"[^\w .,:/=+@-]", lambda found: f"&#{ord(found[0])};", text)


def _counts(dataset: Mapping[str, Any]) -> str:
    counts = dataset.get("counts")
    return ", ".join(f"{n} {split}" for split, n in counts.items()) if isinstance(counts, Mapping) else str(counts)
