"""Checkpoints: the state from which a trial resumes, in a form that loads without executing code."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import torch

from trainables.errors import CheckpointError


def to_bytes(state: dict[str, Any]) -> bytes:
    """Return a state (tensors, numbers, strings, and dicts and lists of them) as the bytes of a checkpoint.

    A view is saved without the rest of its storage, which may belong to other trials.
    """
    buffer = io.BytesIO()
    torch.save(_without_views(state), buffer)
    return buffer.getvalue()


def from_bytes(content: bytes, *, where: str, trial_id: str | None = None) -> dict[str, Any]:
    """Return the state in a checkpoint's bytes, loaded on the CPU with `weights_only=True`.

    Args:
        content: Bytes of the checkpoint.
        where: Name of the checkpoint in messages.
        trial_id: Id of the trial that the checkpoint must belong to; None for any.

    Raises:
        CheckpointError: The bytes are damaged or belong to another trial.
    """
    try:
        _check_sums(content)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise CheckpointError(f"{where}: not a readable checkpoint ({error})") from error
    if not isinstance(state, dict) or "trial_id" not in state:
        raise CheckpointError(f"{where}: not a checkpoint of a trial")
    if trial_id is not None and state["trial_id"] != trial_id:
        raise CheckpointError(f"{where}: belongs to trial {state['trial_id']}, not to {trial_id}")
    return state


def _without_views(state: Any) -> Any:
    """Return a state in which each tensor has a storage of its own size."""
    if isinstance(state, torch.Tensor):
        return state.clone() if state.nbytes < state.untyped_storage().nbytes() else state
    if isinstance(state, dict):
        return {name: _without_views(value) for name, value in state.items()}
    return [_without_views(value) for value in state] if isinstance(state, list) else state


def _check_sums(content: bytes) -> None:
    """Raise BadZipFile if the archive does not match its checksums, which `torch.load` does not verify."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
