"""Plug-ins: modules and files outside this package that register tasks, encoders, data sets and augmentation ops.

A plug-in is an installed module, `package.module`, or a file, `./my_task.py`. Loading it runs its code, which registers
what it has by `register_task`, `register_encoder` and the like. A plug-in is identified by its name and the hash of its
content. A file is known by its last name, and its source travels with the study: to every
worker, and into the study's folder, from which an old study is read.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from trainables import files, registry
from trainables.errors import ConfigError, first_line

FOLDER = "plugins"  # in a study's folder: the sources of plug-ins that are files
ENTRY_POINTS = "pretext_study.{kind}s"


@dataclass(frozen=True)
class Plugin:
    """A plug-in, as found but not necessarily loaded.

    Attributes:
        name: `package.module`, or the last name of a file, which ends with `.py`.
        sha256: First 16 hex digits of the SHA-256 of its content: the file, the module's file, or all Python files of a
            package.
        source: Content of a file; empty for a module.
        path: Path of a file on the machine that found it, for tracebacks.
    """

    name: str
    sha256: str
    source: bytes = field(default=b"", repr=False)
    path: str = field(default="", compare=False)

    @property
    def is_file(self) -> bool:
        """Whether the plug-in is a file rather than an installed module."""
        return is_file(self.name)

    @property
    def module(self) -> str:
        """Name in `sys.modules`; files of one name but different content are different modules."""
        return f"pretext_plugin_{Path(self.name).stem}_{self.sha256}" if self.is_file else self.name


T = TypeVar("T")

_LOADED: dict[str, Plugin] = {}  # by name
_NAMES: dict[str, set[tuple[str, str]]] = {}  # kind and name of everything that a loaded plug-in has registered


def is_file(name: str) -> bool:
    """Return whether a plug-in of this name is a file; otherwise it is an installed module."""
    return name.endswith(".py")


def find(name: str, folders: Iterable[Path] = (Path(),)) -> Plugin:
    """Find a plug-in and read its content, without running it; of a module in a package, the package is imported.

    Args:
        name: `package.module`, or the path of a file that ends with `.py`.
        folders: Where to look for a file with a relative path, in this order.

    Raises:
        ConfigError: The module or file does not exist, the file cannot be read, or the package cannot be imported.
    """
    if not is_file(name):
        return Plugin(name, _digest(path.read_bytes() for path in _files_of_module(name)))
    paths = [folder / files.expanded(name) for folder in folders]
    path = next((each for each in paths if each.is_file()), None)
    if path is None:
        raise ConfigError(f"plugins: {name}: no such file; give its path from the folder of the YAML file, or in full")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"plugins: {name}: cannot be read ({error.strerror})") from error
    return Plugin(path.name, _digest([source]), source, str(path.resolve()))


def load(plugin: Plugin) -> None:
    """Run a plug-in's code, once per process. Another version of the same file is removed first.

    Raises:
        ConfigError: The code raises an error or takes a name that exists, or the installed module differs from the one
            that was found.
    """
    earlier = _LOADED.get(plugin.name)
    if earlier == plugin:
        return
    if not plugin.is_file and (earlier or find(plugin.name) != plugin):
        remedy = "restart Python" if earlier else "install the same version on every machine of the study"
        raise ConfigError(f"plugins: {plugin.name}: the installed module is not the version {plugin.sha256}; {remedy}")
    if earlier:
        unload(earlier)
    before = _registered()
    try:
        _run(plugin)
    except (Exception, SystemExit) as error:
        unload(plugin)
        what = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"plugins: {plugin.name}: cannot be loaded: {what}{_line_of(error, plugin)}") from error
    _LOADED[plugin.name] = plugin
    _NAMES[plugin.name] = (_registered() - before) | _owned(plugin)


def unload(plugin: Plugin) -> None:
    """Remove what a plug-in has registered, and the module of a file, for example after a test of it."""
    for kind, name in _NAMES.pop(plugin.name, _owned(plugin)):
        registry.ALL[kind].remove(name)
    _LOADED.pop(plugin.name, None)
    if plugin.is_file:
        sys.modules.pop(plugin.module, None)


def obtain(entry: str | Mapping[str, str], folders: Iterable[Path] = (Path(),)) -> Plugin:
    """Find and load a plug-in that a configuration names.

    Args:
        entry: Name for `find`, or a mapping of `name` and `sha256` for this content only, as a study records it.
        folders: Where to look for a file with a relative path, in this order.

    Raises:
        ConfigError: It cannot be found or loaded, or its content is not the recorded one.
    """
    name, sha256 = (entry, "") if isinstance(entry, str) else (entry["name"], entry["sha256"])
    known = _LOADED.get(name)
    if known is not None and known.sha256 == sha256:
        return known
    plugin = find(name, folders)
    if sha256 and plugin.sha256 != sha256:
        raise ConfigError(
            f"plugins: {plugin.name}: its content ({plugin.sha256}) differs from what the study recorded ({sha256}); "
            "restore the version with which the study was run, or run a new study with this one: plugins: [PATH]"
        )
    load(plugin)
    return plugin


def load_recorded(entries: Iterable[Mapping[str, str]], folder: Path) -> None:
    """Load the plug-ins of a study, which are `entries` in its configuration; its folder contains those that are files.

    Raises:
        ConfigError: One cannot be found or loaded, or its content differs from what the study recorded.
    """
    for entry in entries:
        path = folder / FOLDER / entry["name"]
        if is_file(entry["name"]) and not path.is_file():
            check_loaded(entry, f"copy it to {path.parent}/")
        else:
            obtain(entry, [path.parent])


def check_loaded(entry: Mapping[str, str], remedy: str = "its file is among the artifacts of the study's run") -> None:
    """Check that this content of a plug-in that is a file has been loaded, by whatever path.

    Args:
        entry: Its `name` and `sha256`, as a study records it.
        remedy: Where to get the file, for the message.

    Raises:
        ConfigError: It has not.
    """
    known = _LOADED.get(entry["name"])
    if known is None or known.sha256 != entry["sha256"]:
        what = f"plugins: {entry['name']} (content {entry['sha256']})"
        raise ConfigError(f"{what}: not on this machine; {remedy}; `trainables.plugins.obtain(PATH)` loads a file")


def store(names: Iterable[str], folder: Path) -> None:
    """Write the sources of those loaded plug-ins that are files to a study's folder, from which it is read again.

    Raises:
        StorageError: A file cannot be written.
    """
    for plugin in map(loaded, names):
        if plugin.is_file:
            files.write(folder / FOLDER / plugin.name, plugin.source)


def loaded(name: str) -> Plugin:
    """Return a loaded plug-in by its name."""
    return _LOADED[name]


def names_of(plugin: Plugin) -> set[tuple[str, str]]:
    """Return kind and name of everything that a loaded plug-in has registered."""
    return _NAMES[plugin.name]


def items_of(values: registry.Registry[T], names: Iterable[str]) -> list[tuple[str, T]]:
    """Return name and value of what some plug-ins have in a registry, in its order.

    Args:
        values: The registry.
        names: Names of plug-ins. Those that are not loaded have nothing.
    """
    own = {each for name in names if name in _LOADED for each in _NAMES[name]}
    return [(name, value) for name, value in values.items() if (values.kind, name) in own]


def entry_point(kind: str, name: str) -> str | None:
    """Return the module of the entry point of this name, in the group of a kind; None if no package has one."""
    found = importlib.metadata.entry_points(group=ENTRY_POINTS.format(kind=kind), name=name)
    return next((each.module for each in found), None)


class _Source(importlib.abc.SourceLoader):
    """Loader of a module whose source may have come from another machine."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin

    def get_filename(self, fullname: str) -> str:
        return self.plugin.path or self.plugin.name

    def get_data(self, path: str | bytes) -> bytes:
        return self.plugin.source


def _run(plugin: Plugin) -> None:
    if not plugin.is_file:
        importlib.import_module(plugin.module)
        return
    spec = importlib.util.spec_from_loader(plugin.module, _Source(plugin))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[plugin.module] = module  # dataclasses and pickle look their module up there
    spec.loader.exec_module(module)


def _files_of_module(name: str) -> list[Path]:
    """Return the file of a module, or the Python files of a package, in a fixed order."""
    spec = _spec_of(name) if all(map(str.isidentifier, name.split("."))) else None
    if spec is None or not (spec.has_location or spec.submodule_search_locations):
        raise ConfigError(f"plugins: {name}: no such module; install its package, or give a file: ./{name}.py")
    if spec.submodule_search_locations:
        return sorted(path for place in spec.submodule_search_locations for path in Path(place).rglob("*.py"))
    return [Path(str(spec.origin))]


def _spec_of(name: str) -> importlib.machinery.ModuleSpec | None:
    """Import the package of a module and return the module's spec; None if the module does not exist."""
    package = name.rpartition(".")[0]
    try:
        if package:
            importlib.import_module(package)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{package}.".startswith(f"{error.name}."):
            return None
        what = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"plugins: {name}: its package {package} cannot be imported: {what}") from error
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _digest(contents: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for content in contents:
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()[:16]


def _registered() -> set[tuple[str, str]]:
    return {(kind, name) for kind, each in registry.ALL.items() for name in each.owners}


def _owned(plugin: Plugin) -> set[tuple[str, str]]:
    """Return kind and name of what a plug-in's module, or a module inside it, has registered."""
    return {
        (kind, name)
        for kind, each in registry.ALL.items()
        for name, owner in each.owners.items()
        if owner == plugin.module or owner.startswith(f"{plugin.module}.")
    }


def _line_of(error: BaseException, plugin: Plugin) -> str:
    """Return the last line of a file's code that an error passed through, in words."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == plugin.module:
            line = trace.tb_lineno
        trace = trace.tb_next
    line = error.lineno if line is None and isinstance(error, SyntaxError) else line
    return "" if line is None else f" (line {line})"
