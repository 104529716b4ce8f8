"""Plug-ins of a loaded study. A study whose plug-ins are not here loads without them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables import plugins
from trainables.errors import UserError

logger = logging.getLogger(__name__)


def load_plugins(config: Mapping[str, Any], name: str, folder: Path | None) -> tuple[str, ...]:
    """Load those plug-ins of a study that are here, with one warning for each of the others.

    Results need no plug-in. What needs one is to draw what its tasks see, and to know the default of a task's option in
    an ablation of that option.

    Args:
        config: The study's configuration, with `plugins`.
        name: Name of the study, for the warning.
        folder: The study's folder, which contains those that are files. None for a tracking server, whose files are
            not run: anybody who may log to it could have written them.

    Returns:
        Names of the plug-ins that could not be loaded.
    """
    missing = []
    for entry in config.get("plugins") or []:
        try:
            if folder is None and plugins.is_file(entry["name"]):
                plugins.check_loaded(entry)
            else:
                plugins.load_recorded([entry], folder or Path())
        except UserError as error:
            missing.append(entry["name"])
            logger.warning("%s is shown without a plug-in. %s", name, error)
    return tuple(missing)
