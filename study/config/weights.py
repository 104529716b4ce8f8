"""The files of weights that a configuration names: found, hashed, and recorded with the inputs that they expect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables import files
from trainables.encoders.names import TIMM
from trainables.encoders.timm_models import expected_inputs
from trainables.encoders.weights import digest
from trainables.errors import ConfigError

_EXAMPLE = "[{weights: FILE, encoder: timm/NAME, name: NAME}]"


def baseline_entries(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries of `baselines` in plain data that have not been validated.

    Raises:
        ConfigError: They are not a list of mappings.
    """
    entries = content.get("baselines") or []
    if not isinstance(entries, list) or not all(isinstance(each, Mapping) for each in entries):
        raise ConfigError(f"baselines = {entries!r}: must be a list of mappings, for example {_EXAMPLE}")
    return entries


def with_weights(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain data whose files of weights are recorded by path and hash, and baselines with their inputs.

    Raises:
        ConfigError: A file cannot be read or has changed since the study recorded it, timm does not have a model, or an
            entry is not a mapping.
    """
    changed = dict(content)
    if isinstance(initial := content.get("init_weights"), str):
        initial = {"weights": initial}
    if isinstance(initial, Mapping):
        changed["init_weights"] = _recorded(initial, "init_weights")
    if baselines := baseline_entries(content):
        changed["baselines"] = [_baseline(each, f"baselines[{index}]") for index, each in enumerate(baselines)]
        names = [each["name"] for each in changed["baselines"]]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ConfigError(f"baselines: two have the name {min(repeated)!r}; give each a name of its own")
    return changed


def with_weight_paths(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return plain data of a YAML file with the paths of its weights below the file's folder.

    Raises:
        ConfigError: The baselines are not a list of mappings.
    """
    changed = dict(content)
    if isinstance(initial := content.get("init_weights"), str):
        changed["init_weights"] = _below(folder, initial)
    if baselines := baseline_entries(content):
        changed["baselines"] = [
            {**each, "weights": _below(folder, each["weights"])} if isinstance(each.get("weights"), str) else each
            for each in baselines
        ]
    return changed


def _below(folder: Path, path: str) -> str:
    return str(folder / files.expanded(path))


def _recorded(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return an entry with the absolute path of its file, and the hash of the content.

    The hash of a missing file is kept, so that a study can be read without its weights.
    """
    if not isinstance(entry.get("weights"), str):
        raise ConfigError(f"{key}.weights: is missing; name a safetensors file or a state dict of PyTorch")
    path, known = files.expanded(entry["weights"]).absolute(), entry.get("sha256")
    if known and not path.exists():
        return {**entry, "weights": str(path)}
    found = digest(path)
    if known and known != found:
        raise ConfigError(
            f"{key}.weights: the content of {path} ({found}) differs from what the study recorded ({known}); restore "
            "that file, or run a new study with this one"
        )
    return {**entry, "weights": str(path), "sha256": found}


def _baseline(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a baseline as recorded, with a name, and the inputs that timm names for the model."""
    found = _recorded(entry, key)
    encoder = found.get("encoder")
    if not isinstance(encoder, str):
        raise ConfigError(f"{key}.encoder: is missing; name the architecture of the weights, for example timm/resnet18")
    if not found.get("name"):
        found["name"] = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(found["weights"]).stem)[:64].lstrip("_.-")
    if encoder.startswith(TIMM) and "input_size" not in found:
        found["input_size"] = expected_inputs(encoder)["input_size"]
    for name in ("mean", "std"):
        if encoder.startswith(TIMM) and not found.get(name):
            found[name] = list(expected_inputs(encoder)[name])
    return found
