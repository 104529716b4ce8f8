"""recommended.yaml: the configurations that a study chose, as the configuration of a new study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.records.layout import RECOMMENDED_FILE
from study.config.names import TUNABLE
from study.config.schema import StudyConfig
from study.config.seeds import unused_seeds
from study.config.validation import check_config
from trainables import files
from trainables.trial import TrialConfig


def write_recommended(folder: Path, config: StudyConfig, chosen: Mapping[str, Mapping[str, Any]]) -> Path | None:
    """Write `recommended.yaml` to a study's folder.

    Args:
        folder: Folder of the study.
        config: Configuration of the study.
        chosen: Chosen candidate of each task, from `Plan.chosen`.

    Returns:
        Path of the file; None if nothing was chosen.
    """
    if not chosen:
        return None
    path = folder / RECOMMENDED_FILE
    files.write(path, recommended(config, chosen).to_yaml().encode())
    return path


def recommended(config: StudyConfig, chosen: Mapping[str, Mapping[str, Any]]) -> StudyConfig:
    """Return the study that trains each task's chosen configuration on seeds that this study has not used.

    On the seeds by which a configuration was chosen, its result is optimistic. The study does not search: the space of
    each task is the chosen learning rate, and its defaults are the other values.
    """
    trials = {task: TrialConfig.from_dict(choice["config"]) for task, choice in chosen.items()}
    content = config.model_dump(mode="json")
    content |= {
        "name": f"{config.name[:50]}-recommended",
        "tasks": list(trials),
        "defaults": {task: _settings(trial) for task, trial in trials.items()},
        "task_options": {task: dict(trial.options) for task, trial in trials.items()},
        "confirm": {"top_k": 1, "seeds": unused_seeds(config)},
        "ablate": {},
        "budget_hours": None,
    }
    content["search"] |= {
        "num_samples": 1,
        "algorithm": "grid",
        "scheduler": "none",
        "space": {task: {"lr": [trial.lr]} for task, trial in trials.items()},
    }
    return check_config(content)


def _settings(trial: TrialConfig) -> dict[str, Any]:
    return {name: getattr(trial, name) for name in TUNABLE} | {"augmentation": dict(trial.augmentation)}
