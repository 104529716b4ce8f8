"""What differs between studies: their configurations, chosen configurations, data and software."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis import records
from analysis.data.study import Study
from analysis.records import StudyStarted
from analysis.records.phases import CONFIRM
from trainables.trial import NON_TRAINING_FIELDS

NOT_RECORDED = "not recorded"
DIGITS = 4  # significant digits of a float that is shown


def different_settings(studies: Mapping[str, Study]) -> pd.DataFrame:
    """Return what differs between studies, one row per setting.

    Args:
        studies: Studies by name.

    Returns:
        Columns kind, name, and one per study with the value as JSON, or NOT_RECORDED, as for a setting that an earlier
        version did not have. Floats have DIGITS digits where these tell them apart. The kind is `setting` for the
        configuration, with names and paths, `chosen` for what the confirm phase chose for a task, `data` for a data
        set, and `software` for a version.
    """
    found = {name: dict(_facts(study)) for name, study in studies.items()}
    keys = dict.fromkeys(key for facts in found.values() for key in facts)
    rows = []
    for key in sorted(keys, key=lambda key: ("setting", "chosen", "data", "software").index(key[0])):
        values = [facts.get(key, NOT_RECORDED) for facts in found.values()]
        exact = [_shown(value) for value in values]
        if len(set(exact)) > 1:
            short = [_shown(_rounded(value)) for value in values]
            rows.append([*key, *(short if len(set(short)) == len(set(exact)) else exact)])
    return pd.DataFrame(rows, columns=["kind", "name", *studies], dtype="str")


def _facts(study: Study) -> Iterator[tuple[tuple[str, str], Any]]:
    for name, value in _flat(study.config):
        yield ("setting", name), value
    for task, choice in study.outcomes.get(CONFIRM, {}).get("chosen", {}).items():
        for name, value in _flat(choice["config"], f"{task}."):
            if name.split(".")[1] not in NON_TRAINING_FIELDS:
                yield ("chosen", name), value
    for dataset, info in study.datasets.items():
        yield ("data", f"{dataset}.fingerprint"), info.get("fingerprint")
    if study.folder is not None:
        for event in records.read(study.folder, StudyStarted):  # the last one counts
            for package, version in event.versions.items():
                yield ("software", package), version
            yield ("software", "commit"), event.git_commit


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of every setting; an empty mapping is a value."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
