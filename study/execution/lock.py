"""One driver per study: an operating system lock on this host, and a lease in the shared folder across hosts."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from pathlib import Path

from filelock import FileLock, OwnerRecord, SoftFileLease, Timeout

from trainables.errors import ConfigError

LEASE_S = 60.0  # seconds without a sign of life after which a driver on another host counts as dead
SETTLE_S = 2.0  # seconds to take over the lease of a dead driver on this host

logger = logging.getLogger(__name__)


class LockLostError(ConfigError):
    """Another driver took the study over because this one gave no sign of life."""


class DriverLock:
    """Context manager that makes this process the only driver of the study `output/name`.

    It takes two locks, because neither is enough. The operating system releases its lock (`.NAME.lock`) as soon as the
    holder is dead, and keeps it while the holder is suspended, but not every network file system shares it between
    hosts. The lease (`.NAME.driver`: host, pid and a regular sign of life) is visible wherever the folder is, but a
    driver that was suspended for too long loses it, and is then interrupted.

    Args:
        output: Folder that studies are written to.
        name: Name of the study.

    Attributes:
        lost: Whether another driver has taken the study over.

    Raises:
        ConfigError: On entry, another driver is running the study; the message names it.
        LockLostError: On exit after the interruption, another driver has taken the study over.
    """

    def __init__(self, output: Path, name: str) -> None:
        self.lost = False
        self._study = output / name
        self._lock = FileLock(output / f".{name}.lock")
        self._lease = SoftFileLease(
            output / f".{name}.driver", lease_duration=LEASE_S, on_compromise=lambda _: self._lose()
        )

    def __enter__(self) -> DriverLock:
        try:
            self._study.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise self._refusal() from error
        except OSError as error:
            raise ConfigError(f"{error.filename or self._study.parent}: {error.strerror or error}") from error
        try:
            self._take_lease()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._lease.release()
        self._lock.release()
        if self.lost and kind is KeyboardInterrupt:
            raise LockLostError(
                f"{self._study}: {_described(self._lease.owner)} has taken this study over, since this driver gave no "
                f"sign of life for {LEASE_S:g} s; it has stopped"
            )

    def _take_lease(self) -> None:
        """Take the lease. If a driver on another host has it, wait until it counts as dead or proves to be alive."""
        dead = self._lease.owner
        try:
            self._lease.acquire(timeout=SETTLE_S)
        except Timeout:
            logger.warning(
                "%s was last run by %s; waiting up to %.0f s for a sign of life",
                *(self._study, _described(self._lease.owner), LEASE_S),
            )
            seen = self._last_sign_of_life()
            try:
                self._lease.acquire(timeout=LEASE_S + SETTLE_S, cancel_check=lambda: self._last_sign_of_life() != seen)
            except Timeout as error:
                raise self._refusal() from error
        if dead is not None:
            logger.warning("%s: took over from %s, which is dead", self._study, _described(dead))

    def _last_sign_of_life(self) -> float:
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self._lease.lock_file).st_mtime
        return 0.0

    def _refusal(self) -> ConfigError:
        return ConfigError(
            f"{self._study}: {_described(self._lease.owner)} is running this study; wait for it, or give this one "
            "another name (--set name=...)"
        )

    def _lose(self) -> None:
        """Interrupt the main thread, even in a blocking call; the lease's own thread calls this."""
        self.lost = True
        handles_sigint = callable(signal.getsignal(signal.SIGINT))  # a driver started in the background ignores SIGINT
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT if handles_sigint else signal.SIGTERM)


def is_driven(folder: Path) -> bool:
    """Return whether a driver runs the study in `folder`; a driver on another host counts until its lease expires."""
    folder = Path(os.path.abspath(folder))  # not resolved: the lease is next to a link, not to what it leads to
    lease = SoftFileLease(folder.parent / f".{folder.name}.driver", lease_duration=LEASE_S)
    if lease.owner is None:
        return False
    try:
        with lease.acquire(timeout=0):
            return False
    except Timeout:
        return True


def _described(owner: OwnerRecord | None) -> str:
    return f"process {owner.pid} on {owner.hostname.split('?')[0]}" if owner else "another process"
