"""The folder of a study: its configuration and the sources of its plug-ins, of one configuration for ever."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.records import CONFIG_FILE, ENCODERS, started
from analysis.records.layout import FIGURES
from study.config import strict_yaml
from study.config.schema import FORMER_RULES, StudyConfig
from study.config.validation import check_config
from study.timing.fit_to_budget import with_sizes_of
from trainables import files, plugins
from trainables.data import Splits
from trainables.errors import ConfigError

logger = logging.getLogger(__name__)


def open_folder(config: StudyConfig, output: Path, *, fresh: bool = False) -> Path:
    """Return the study's folder after writing the configuration to it; see `check_same_study` for one that exists.

    Args:
        config: The study's configuration.
        output: Parent of the study's folder.
        fresh: Whether to move an earlier study of that name aside first.
    """
    folder = output / config.name
    file = folder / CONFIG_FILE
    if fresh and folder.exists():
        aside = folder.with_name(f"{folder.name}.{datetime.now():%Y%m%d-%H%M%S-%f}")
        folder.rename(aside)
        logger.warning("moved the earlier study to %s", aside)
    files.remove_partial(folder, folder / FIGURES, folder / plugins.FOLDER, *folder.glob(f"{ENCODERS}/*"))
    plugins.store([each.name for each in config.plugins], folder)
    files.write(file, config.to_yaml().encode())
    return folder


def check_same_study(config: StudyConfig, folder: Path) -> None:
    """Raise ConfigError if the folder, which need not exist, belongs to a study of another configuration."""
    # Compare with the journal, not with the file: the user may have edited the file and run the study from it.
    began = started(folder)
    if began and (difference := _difference(began.config, config)):
        raise ConfigError(
            f"{folder} belongs to a study of another configuration:\n{difference}\n"
            "Give this one another name (--set name=...), or use --fresh to move the earlier one aside"
        )


def has_begun(folder: Path) -> bool:
    """Return whether a driver has started the study of a folder, which need not exist."""
    return started(folder) is not None


def as_begun(config: StudyConfig, folder: Path) -> StudyConfig:
    """Return a configuration with what the study in a folder fixed when it began: its rules, and its sizes.

    Rules (FORMER_RULES) that the configuration names itself are kept. Sizes are fixed if a time budget has set them.

    Args:
        config: The configuration that the study is to run or resume with.
        folder: The study's folder, which need not exist.
    """
    began = started(folder)
    if began is None:
        return config
    if began.config.get("budget_hours") is not None:
        config = with_sizes_of(config, began.config)
    unnamed = FORMER_RULES.keys() - config.model_fields_set
    return config.model_copy(update={name: began.config.get(name, FORMER_RULES[name]) for name in unnamed})


def _difference(began: Mapping[str, Any], now: StudyConfig) -> str:
    """Return the lines that differ between a recorded configuration and another one; empty if the hashes are equal."""
    recorded, used = began.get("plugins", []), [each.model_dump() for each in now.plugins]
    if recorded != used:  # the recorded version must not be loaded in place of the one in use
        return _different_lines(strict_yaml.dump({"plugins": recorded}), strict_yaml.dump({"plugins": used}))
    earlier = check_config(began)
    same = earlier.config_hash == now.config_hash
    return "" if same else _different_lines(earlier.to_yaml(), now.to_yaml())


def _different_lines(earlier: str, now: str) -> str:
    lines = difflib.unified_diff(earlier.splitlines(), now.splitlines(), "there", "now", n=0)
    return "\n".join(line for line in lines if not line.startswith("@@"))


def warn_of_other_data(folder: Path, datasets: Mapping[str, Splits]) -> None:
    """Warn of a data set whose splits are not those that a study began with: its trials would not be comparable.

    Args:
        folder: The study's folder.
        datasets: Splits by name, as they are now.
    """
    for name, before, fingerprint in changed_data(folder, datasets):
        logger.warning(
            "%s: the images, or their splits, are not those that this study began with (fingerprint %s, now %s), "
            "so that a test image may have been a training image before. Restore the files, set leak=allow for a "
            "study from before near duplicates were moved, or begin again with --fresh",
            *(name, before, fingerprint),
        )


def changed_data(folder: Path, datasets: Mapping[str, Splits]) -> Iterator[tuple[str, str, str]]:
    """Yield name, former and present fingerprint of each data set whose splits are not those that a study began with.

    Args:
        folder: The study's folder.
        datasets: Splits by name, as they are now.
    """
    began = started(folder)
    if began is None:
        return
    for name, splits in datasets.items():
        before = began.datasets.get(name, {}).get("fingerprint", splits.fingerprint)
        if before != splits.fingerprint:
            yield name, before, splits.fingerprint
