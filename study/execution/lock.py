"""One driver a study: on this host by a lock of the operating system, across hosts by a lease in a shared folder."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from pathlib import Path

from filelock import FileLock, OwnerRecord, SoftFileLease, Timeout

from trainables.errors import ConfigError

LEASE_S = 60.0  # without a sign of life, after which a driver on another host counts as dead
SETTLE_S = 2.0  # to take over what a dead driver of this host has left

logger = logging.getLogger(__name__)


class LockLostError(ConfigError):
    """Another driver took the study over while this one showed no sign of life."""


class DriverLock:
    """The right to drive the study `output/name`; a context manager.

    Two locks, since neither is enough. That of the operating system (`.NAME.lock`) knows at once that its holder is
    dead, and holds while it sleeps, but not every network file system carries it to other hosts. The lease
    (`.NAME.driver`: host, pid and a regular sign of life) is seen wherever the folder is, but whoever slept for long
    has lost it; the driver is then interrupted.

    lost: whether another driver holds the study now.
    Entering raises ConfigError where another driver holds it, and says which.
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
        """Take the lease; who holds it runs on another host, for which it may take a while to tell dead from alive."""
        dead = self._lease.owner
        try:
            self._lease.acquire(timeout=SETTLE_S)
        except Timeout:
            logger.warning(
                "%s was last run by %s; waiting up to %.0f s for a sign of life",
                *(self._study, _described(self._lease.owner), LEASE_S),
            )
            seen = self._sign_of_life()
            try:
                self._lease.acquire(timeout=LEASE_S + SETTLE_S, cancel_check=lambda: self._sign_of_life() != seen)
            except Timeout as error:
                raise self._refusal() from error
        if dead is not None:
            logger.warning("%s: took over from %s, which is dead", self._study, _described(dead))

    def _sign_of_life(self) -> float:
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self._lease.lock_file).st_mtime
        return 0.0

    def _refusal(self) -> ConfigError:
        return ConfigError(
            f"{self._study}: {_described(self._lease.owner)} is running this study; wait for it, or give this one "
            "another name (--set name=...)"
        )

    def _lose(self) -> None:
        """Interrupt the driver, wherever it waits; called by the thread that gives the signs of life."""
        self.lost = True
        heard = callable(signal.getsignal(signal.SIGINT))  # not by a driver that was started in the background
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT if heard else signal.SIGTERM)


def is_driven(folder: Path) -> bool:
    """Return whether a driver holds the study in `folder`, or may do so on another host."""
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
