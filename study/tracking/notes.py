"""Descriptions of MLflow runs, in markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from analysis.records import StudyStarted
from analysis.records.phases import ABLATE, CONFIRM, EVALUATE, SEARCH, short_seed
from analysis.records.phases import BASELINES as BASELINE_PHASE
from trainables.trial import TrialConfig

NOTE = "mlflow.note.content"
PURPOSES = {
    BASELINE_PHASE: "untrained encoders and raw pixels, which a pretext task has to beat.",
    SEARCH: "many configurations of each task, with one seed each.",
    CONFIRM: "the best configurations again, with fresh seeds.",
    ABLATE: "one setting at a time changed, with the same seeds in every cell.",
    EVALUATE: "the chosen encoders and the baselines on the test split.",
}


def study_note(study: StudyStarted) -> str:
    """Return the study run's description, in markdown."""
    tasks = ", ".join(study.config.get("tasks") or []) or "pretext tasks"
    lines = [f"Study **{study.study}**: {tasks}, {study.config.get('budget_steps', '?')} optimizer steps per trial."]
    for name, dataset in study.datasets.items():
        lines.append(f"- data set {escaped(name)}, fingerprint `{dataset.get('fingerprint')}`: {_counts(dataset)}")
        found = dataset.get("inventory") or {}
        lines += [f"  - {escaped(text)}" for text in (found.get("line"), *found.get("remarks", ())) if text]
    versions = ", ".join(f"{name} {version}" for name, version in study.versions.items())
    return "\n".join([*lines, f"- {escaped(versions)}" if versions else ""]).strip()


def phase_note(study: StudyStarted, phase: str) -> str:
    """Return a phase run's description until the phase has ended."""
    return f"Phase **{phase}** of study **{study.study}**: {PURPOSES.get(phase, '')}".rstrip(": ")


def trial_note(trial: TrialConfig) -> str:
    """Return a trial run's description."""
    images = "all images" if trial.n_images is None else f"{trial.n_images} images"
    cell = f", cell **{escaped(trial.cell)}**" if trial.cell else ""
    if trial.trains:
        what = f"**{trial.task}** with {trial.encoder}, {trial.budget_steps} steps of {trial.batch_size} images"
    else:
        what = f"**{trial.task}** {trial.encoder}, probed without further training"
    return f"{what}, on {escaped(trial.dataset)} ({images}); phase {trial.phase}{cell}, seed {short_seed(trial.seed)}."


def escaped(text: str) -> str:
    """Return a text with all possible markdown and HTML markup escaped as character references."""
    return re.sub(r"[^\w .,:/=+@-]", lambda found: f"&#{ord(found[0])};", text)


def _counts(dataset: Mapping[str, Any]) -> str:
    counts = dataset.get("counts")
    return ", ".join(f"{n} {split}" for split, n in counts.items()) if isinstance(counts, Mapping) else str(counts)
