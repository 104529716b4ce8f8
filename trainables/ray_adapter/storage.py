"""Where checkpoints lie: a folder or any URI that pyarrow opens, one sub-folder a trial."""

from __future__ import annotations

import contextlib
import logging
import uuid
from pathlib import Path
from typing import Any

import pyarrow.fs

from trainables import files
from trainables.errors import CheckpointError, StorageError
from trainables.training import checkpoint

KEPT = 2  # a trial's newest checkpoints; the second is there for the case that the newest is broken
TOKEN_FILE = "driver/mark"  # beside the trials' folders: no trial has such an id

logger = logging.getLogger(__name__)


class CheckpointStore:
    """Checkpoints of many trials under one root.

    root: an absolute path or a URI such as `s3://bucket/study`; every node that runs trials must reach it.
    broken: what was wrong with checkpoints that `load` has passed over.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.broken: list[str] = []
        self._files, self._base = pyarrow.fs.FileSystem.from_uri(root if "://" in root else Path(root).as_uri())

    def leave_token(self) -> str:
        """Leave a new token here, by which other nodes find out whether they reach this place, and return it.

        Raises StorageError where it cannot be written.
        """
        token = uuid.uuid4().hex
        with files.storing(self.root):
            self._write(f"{self._base}/{TOKEN_FILE}", token.encode())
        return token

    def check(self, token: str, node: str) -> None:
        """Raise StorageError where `node`, on which this runs, finds another token or none: its place is another one."""
        path, found = f"{self._base}/{TOKEN_FILE}", b""
        with (
            files.storing(f"{self.root} on node {node}"),
            contextlib.suppress(FileNotFoundError),
            self._files.open_input_stream(path) as stream,
        ):
            found = stream.read()
        if found != token.encode():
            raise StorageError(
                f"storage: {self.root} on node {node} is not the folder that the study writes; name one that all nodes "
                "reach, or a URI, for example --set storage=s3://BUCKET/studies, and the same command goes on"
            )

    def save(self, trial_id: str, state: dict[str, Any]) -> str:
        """Write the state of `state["step"]`, drop older ones, and return the new file's path.

        Raises StorageError where it cannot be written.
        """
        path = f"{self._folder(trial_id)}/step-{state['step']:09d}.pt"
        with files.storing(path):
            self._write(path, checkpoint.to_bytes(state))
            for old in self._paths(trial_id)[:-KEPT]:
                self._delete(old)
        return path

    def load(self, trial_id: str, *, any_trial: bool = False) -> dict[str, Any] | None:
        """Return the newest readable state of the trial, or None where it has none.

        What a killed writer has left half written is removed.
        any_trial: accept a state that another trial wrote, as population-based training hands them on.
        Raises StorageError where the place cannot be read.
        """
        with files.storing(self._folder(trial_id)):
            if isinstance(self._files, pyarrow.fs.LocalFileSystem):
                files.remove_partial(Path(self._folder(trial_id)))
            for path in reversed(self._paths(trial_id)):
                try:
                    return self.read(path, None if any_trial else trial_id)
                except (CheckpointError, FileNotFoundError) as error:
                    logger.warning("%s; going on with the one before", error)
                    self.broken.append(str(error))
        return None

    def read(self, path: str, trial_id: str | None) -> dict[str, Any]:
        """Return the state in one file. Raises CheckpointError where it is broken or of another trial."""
        with self._files.open_input_stream(path) as stream:
            return checkpoint.from_bytes(stream.read(), where=path, trial_id=trial_id)

    def _write(self, path: str, content: bytes) -> None:
        if isinstance(self._files, pyarrow.fs.LocalFileSystem):
            files.write(Path(path), content)
        else:  # object stores show an object only when it is complete
            with self._files.open_output_stream(path) as stream:
                stream.write(content)

    def _delete(self, path: str) -> None:
        """Remove a file that may be gone already: a trial that has lost its driver can live for a moment."""
        with contextlib.suppress(FileNotFoundError):
            self._files.delete_file(path)

    def _folder(self, trial_id: str) -> str:
        return f"{self._base}/{trial_id}"

    def _paths(self, trial_id: str) -> list[str]:
        selector = pyarrow.fs.FileSelector(self._folder(trial_id), allow_not_found=True)
        found = [info.path for info in self._files.get_file_info(selector) if info.base_name.startswith("step-")]
        return sorted(found)
