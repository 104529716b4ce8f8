"""Checkpoint storage: a folder or any URI that pyarrow opens, with one subfolder per trial."""

from __future__ import annotations

import contextlib
import logging
import uuid
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.fs

from trainables import files
from trainables.errors import CheckpointError, StorageError, first_line
from trainables.training import checkpoint

KEPT = 2  # newest checkpoints per trial; the older one is the fallback if the newer one is damaged
TOKEN_FILE = "driver/mark"  # next to the trials' folders; "driver" cannot be the id of a trial

logger = logging.getLogger(__name__)


def below(root: str, *parts: str) -> str:
    """Return a location below a folder or URI; the query of a URI, such as `?region=eu-central-1`, remains its end."""
    place, mark, query = root.partition("?") if "://" in root else (root, "", "")
    return "/".join([place.rstrip("/"), *parts]) + mark + query


class CheckpointStore:
    """Checkpoints of many trials under one root.

    Raises:
        StorageError: pyarrow does not know this kind of URI, or lacks what it needs.

    Attributes:
        root: Absolute path, or URI such as `s3://bucket/study`, that every node that runs trials can reach.
        damaged: Descriptions of the checkpoints that `load` has skipped, with the one that it returned instead.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.damaged: list[str] = []
        try:
            self._files, self._base = pyarrow.fs.FileSystem.from_uri(root if "://" in root else Path(root).as_uri())
        except (pyarrow.ArrowException, OSError) as error:
            raise StorageError(f"storage: {root}: pyarrow cannot open this location ({first_line(error)})") from error

    def write_token(self) -> str:
        """Write and return a new token, with which other nodes can check that they reach this storage.

        Raises:
            StorageError: The file cannot be written.
        """
        token = uuid.uuid4().hex
        with files.storing(self.root):
            self._write(f"{self._base}/{TOKEN_FILE}", token.encode())
        return token

    def check(self, token: str, node: str) -> None:
        """Check that this node reaches the storage that the driver has written to.

        Args:
            token: Token that `write_token` returned to the driver.
            node: Name of this node, for the error message.

        Raises:
            StorageError: The storage has another token or none.
        """
        path, found = f"{self._base}/{TOKEN_FILE}", b""
        with (
            files.storing(f"{self.root} on node {node}"),
            contextlib.suppress(FileNotFoundError),
            self._files.open_input_stream(path) as stream,
        ):
            found = stream.read()
        if found != token.encode():
            raise StorageError(
                f"storage: {self.root} on node {node} is not the folder that the study writes to; name one that all "
                "nodes reach, or a URI, for example --set storage=s3://BUCKET/studies, and run the same command again"
            )

    def save(self, trial_id: str, state: dict[str, Any]) -> str:
        """Write a trial's state at `state["step"]`, remove all but the newest files, and return the new file's path.

        Raises:
            StorageError: The file cannot be written.
        """
        path = f"{self._folder(trial_id)}/step-{state['step']:09d}.pt"
        with files.storing(path):
            self._write(path, checkpoint.to_bytes(state))
            for old in self._paths(trial_id)[:-KEPT]:
                self._delete(old)
        return path

    def load(self, trial_id: str) -> dict[str, Any] | None:
        """Return the newest readable state of a trial, or None if it has none.

        Incomplete files of killed writers are removed.

        Raises:
            StorageError: The storage cannot be read.
        """
        with files.storing(self._folder(trial_id)):
            if isinstance(self._files, pyarrow.fs.LocalFileSystem):
                files.remove_partial(Path(self._folder(trial_id)))
            found, problems = None, list[str]()
            for path in reversed(self._paths(trial_id)):
                try:
                    found = self.read(path, trial_id)
                    break
                except (CheckpointError, FileNotFoundError) as error:
                    problems.append(str(error))
        if found is None:
            older = "no older checkpoint is readable"
        else:
            older = f"the newest readable one is of step {found['step']}"
        for problem in problems:
            self.damaged.append(f"{problem}; {older}")
            logger.warning("%s", self.damaged[-1])
        return found

    def read(self, path: str, trial_id: str) -> dict[str, Any]:
        """Return the state in one file.

        Raises:
            CheckpointError: The file is damaged or another trial's.
        """
        with self._files.open_input_stream(path) as stream:
            return checkpoint.from_bytes(stream.read(), where=path, trial_id=trial_id)

    def _write(self, path: str, content: bytes) -> None:
        if isinstance(self._files, pyarrow.fs.LocalFileSystem):
            files.write(Path(path), content)
        else:  # object stores show an object only once it is complete
            with self._files.open_output_stream(path) as stream:
                stream.write(content)

    def _delete(self, path: str) -> None:
        """Remove a file if it exists; a trial that has lost its driver may be removing files at the same time."""
        with contextlib.suppress(FileNotFoundError):
            self._files.delete_file(path)

    def _folder(self, trial_id: str) -> str:
        return f"{self._base}/{trial_id}"

    def _paths(self, trial_id: str) -> list[str]:
        selector = pyarrow.fs.FileSelector(self._folder(trial_id), allow_not_found=True)
        found = [info.path for info in self._files.get_file_info(selector) if info.base_name.startswith("step-")]
        return sorted(found)
