"""Registries: the tasks, encoders, data sets and augmentation ops that a study can name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

from trainables.errors import ConfigError, UserError, first_line

T = TypeVar("T")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

ALL: dict[str, Registry[Any]] = {}  # by kind


class Registry(dict[str, T]):
    """Values by name: those of this package in their own order, then those of plug-ins by name.

    The order does not depend on the order in which plug-ins are loaded, since ops are applied in it.

    Args:
        kind: What the registry contains, for messages and for the group of entry points `pretext_study.KINDs`.
        built_in: Values of this package.

    Attributes:
        kind: As above.
        built_in: Names in this package, which no plug-in may take.
        owners: By name, the module that registered it; only for plug-ins.
    """

    def __init__(self, kind: str, built_in: Mapping[str, T]) -> None:
        super().__init__(built_in)
        self.kind = kind
        self.built_in = tuple(built_in)
        self.owners: dict[str, str] = {}
        ALL[kind] = self

    def decorator(
        self, name: str, value_of: Callable[[Decorated], T] | None = None
    ) -> Callable[[Decorated], Decorated]:
        """Return a decorator that registers a function or class of a plug-in, and returns it unchanged.

        Args:
            name: Name of the value.
            value_of: Returns the value to register for the function or class; by default it is the value.

        Raises:
            ConfigError: On decoration, as `add` does.
        """

        def register(decorated: Decorated) -> Decorated:
            value = cast(T, decorated) if value_of is None else value_of(decorated)
            self.add(name, value, decorated.__module__)
            return decorated

        return register

    def add(self, name: str, value: T, owner: str) -> None:
        """Register a value of a plug-in. The module that registered a name may register it again, as notebooks do.

        Args:
            name: Name in YAML, command lines and results.
            value: Value.
            owner: Name of the module that registers it.

        Raises:
            ConfigError: The name is taken, or is not one word of letters, digits, `_`, `.` and `-`.
        """
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ConfigError(f"{self.kind} {name!r}: a name has at most 64 letters, digits, `_`, `.` and `-`")
        if name in self and self.owners.get(name) != owner:
            taken_by = self.owners.get(name, "this package")
            raise ConfigError(f"{self.kind} {name!r}: {taken_by} has one of this name; choose another")
        self[name], self.owners[name] = value, owner
        for plugged_in in sorted(self.owners):  # to the end of the dict, in the order of their names
            self[plugged_in] = self.pop(plugged_in)

    @contextlib.contextmanager
    def errors_in_one_line(self, name: str) -> Iterator[None]:
        """Turn what the code of a plug-in raises inside this block into a ConfigError that names the value."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            if name not in self.owners:
                raise
            problem = f"{type(error).__name__}: {first_line(error)}"
            raise ConfigError(f"{self.kind} {name!r}: the code of {self.owners[name]} failed: {problem}") from error

    def remove(self, name: str) -> None:
        """Remove a value of a plug-in."""
        del self[name], self.owners[name]
