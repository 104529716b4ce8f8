"""Packages that can be called: `study.config` and `study.plan` are folders of modules, and functions of the API."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that, when called, calls the function of its name in a module of `study.api`.

    Attributes:
        home: Name of that module, which is imported at the first call.
    """

    home: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """Signature of the function, for help and completion."""
        return inspect.signature(self._function)

    @property
    def _function(self) -> Callable[..., Any]:
        return getattr(importlib.import_module(self.home), self.__name__.rpartition(".")[2])


def make_callable(package: str, home: str) -> None:
    """Make an imported package callable.

    Args:
        package: Name of the package.
        home: Module with the function of the same last name.
    """
    module = sys.modules[package]
    module.__class__ = CallablePackage
    module.home = home  # type: ignore[attr-defined]
