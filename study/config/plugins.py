"""The plug-ins of a configuration: found, loaded, and recorded by name and content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from study.config.weights import baseline_entries
from trainables import files, plugins, registry
from trainables.encoders.names import REFERENCE
from trainables.errors import ConfigError

_NAMED_AS_PLUGINS = ("verdict", "section")  # kinds that no other key names


class PluginConfig(BaseModel):
    """A plug-in as a study records it; YAML names it by its module or its path alone.

    Attributes:
        name: `package.module`, or the last name of a file.
        sha256: Hash of its content, 16 hex digits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    sha256: str


def with_plugins(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data whose `plugins` are loaded and recorded as `{name, sha256}`.

    A name that is not registered is looked up among the entry points of installed packages, and so is the name of a
    verdict or section in `plugins`; the module of the one that has it becomes one of `plugins`. Nothing else is
    imported.

    Raises:
        ConfigError: A plug-in cannot be loaded or registers nothing, or a name is registered by a module that is not
            among `plugins`.
    """
    listed = content.get("plugins") or []
    if not isinstance(listed, list) or not all(isinstance(entry, str) or _is_record(entry) for entry in listed):
        raise ConfigError(f"plugins = {listed!r}: must be a list of modules and files, for example [./my_task.py]")
    obtained = [plugin for entry in listed for plugin in _obtained(entry)]
    found = {plugin.name: plugin for plugin in obtained}
    if any(found[plugin.name] != plugin for plugin in obtained):
        raise ConfigError(f"plugins = {listed!r}: two of them have one name; leave one out, or rename its file")
    named = list(_named(content))
    for kind, name in named:
        if (module := _module_of(kind, name)) and module not in found:
            found[module] = plugins.obtain(module)
    _check_owners(named, found)
    for plugin in found.values():
        if not plugins.names_of(plugin) and not any(name.startswith(f"{plugin.name}{REFERENCE}") for _, name in named):
            raise ConfigError(
                f"plugins: {plugin.name}: registers nothing; decorate what it has with register_task, "
                "register_encoder, register_dataset, register_op, register_design, register_verdict or register_section"
            )
    if not found:
        return dict(content)
    return {**content, "plugins": [{"name": each.name, "sha256": each.sha256} for each in found.values()]}


def with_plugin_paths(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return plain data of a YAML file with the paths of plug-ins below its folder, or below `plugins/` there."""
    listed = content.get("plugins")
    return (
        {**content, "plugins": [_with_path(each, folder) for each in listed]} if isinstance(listed, list) else content
    )


def _with_path(entry: Any, folder: Path) -> Any:
    if _is_record(entry) and entry["name"].endswith(".py"):
        places = [folder / plugins.FOLDER / entry["name"], folder / entry["name"]]
        return {**entry, "name": str(next((path for path in places if path.is_file()), places[0]))}
    if isinstance(entry, str) and entry.endswith(".py"):
        return str(folder / files.expanded(entry))
    return entry


def _is_record(entry: Any) -> bool:
    """Return whether an entry is one that a study has recorded."""
    return (
        isinstance(entry, Mapping)
        and entry.keys() == {"name", "sha256"}
        and all(isinstance(value, str) for value in entry.values())
    )


def _obtained(entry: str | Mapping[str, str]) -> list[plugins.Plugin]:
    """Load what an entry of `plugins` names: a module, a file, or a verdict or section of installed packages."""
    if not isinstance(entry, str) or plugins.is_file(entry):
        return [plugins.obtain(entry)]
    modules = {kind: plugins.entry_point(kind, entry) for kind in _NAMED_AS_PLUGINS}
    own = {kind: plugins.obtain(module) for kind, module in modules.items() if module}
    for kind, plugin in own.items():
        if (kind, entry) not in plugins.names_of(plugin):
            raise ConfigError(f"plugins: {entry}: {plugin.name} declares this {kind}, but does not register it")
    return list(own.values()) or [plugins.obtain(entry)]


def _module_of(kind: str, name: str) -> str | None:
    """Return the installed module that a name must be loaded from; None if it is registered or nobody has it."""
    if kind == "encoder" and REFERENCE in name:
        return name.partition(REFERENCE)[0]
    return None if name in registry.ALL[kind] else plugins.entry_point(kind, name)


def _check_owners(named: list[tuple[str, str]], found: Mapping[str, plugins.Plugin]) -> None:
    """Raise ConfigError for a name that a worker would not know, since its module is not among the plug-ins."""
    known = {each for plugin in found.values() for each in plugins.names_of(plugin)}
    for kind, name in named:
        if name in registry.ALL[kind].owners and (kind, name) not in known:
            raise ConfigError(
                f"{kind} {name!r} is registered by {registry.ALL[kind].owners[name]}, which is not among the plug-ins "
                "of this study; write it to a file and name the file: plugins: [./my_plugin.py]"
            )


def _named(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield kind and name of every task, encoder, data set and op that plain data name; it may be invalid."""
    parts = {key: value for key, value in content.items() if isinstance(value, Mapping)}
    evaluate, ablate = parts.get("evaluate", {}), parts.get("ablate", {})
    candidates: list[tuple[str, Any]] = [("task", name) for name in _items(content.get("tasks"))]
    candidates += [("encoder", parts.get("encoder", {}).get("name")), ("dataset", content.get("dataset"))]
    candidates += [("encoder", each.get("encoder")) for each in baseline_entries(content)]
    candidates += [("dataset", name) for name in _items(evaluate.get("datasets"))]
    candidates += [("design", name) for name in _items(ablate.get("designs"))]
    candidates += [("op", name) for name in _items(ablate.get("ops"))]
    candidates += [("op", name) for name in _ops(content)]
    yield from dict.fromkeys((kind, name) for kind, name in candidates if isinstance(name, str))


def _ops(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the keys of every `augmentation`, and OP of every `augmentation/OP`."""
    for key, value in content.items():
        if isinstance(key, str) and key.startswith("augmentation/"):
            yield key.removeprefix("augmentation/")
        if isinstance(value, Mapping):
            yield from (str(op) for op in value) if key == "augmentation" else _ops(value)


def _items(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
