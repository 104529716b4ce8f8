"""Errors whose message is written for the person who runs a study."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend: the message says what was wrong, where, and what to do."""


class ConfigError(UserError):
    """A configuration value that cannot be used."""


class DataError(UserError):
    """A data set that is missing, broken or unfit for the task."""


class CheckpointError(UserError):
    """A checkpoint that is missing, broken or belongs to another trial."""
