"""Ctrl-C and SIGTERM: the first signal stops a study gracefully, the second one immediately."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
DUPLICATE_S = 0.25  # signals this close are one: `timeout` signals its child and then the child's whole group


def stop_on_signals() -> None:
    """Make the first SIGINT or SIGTERM raise KeyboardInterrupt in the main thread, and the second end the process.

    At the interrupt, everything reported so far is in the journal, with its checkpoint on disk. A signal that is
    already ignored, for example under `nohup` or `&`, stays ignored.
    """
    for each in SIGNALS:
        if signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, _interrupt)


def resume_command() -> str:
    """Return the command line that resumes what this process was started to do: the same one without `--fresh`."""
    return shlex.join(argument for argument in sys.orig_argv if argument != "--fresh")


def _interrupt(number: int, frame: FrameType | None) -> None:
    ours = [each for each in SIGNALS if signal.getsignal(each) == _interrupt]
    for each in ours:
        signal.signal(each, signal.SIG_IGN)
    os.write(2, b"\nstopping; a second signal stops at once\n")  # `print` is not reentrant, and may be interrupted here
    time.sleep(DUPLICATE_S)
    for each in ours:
        signal.signal(each, signal.SIG_DFL)  # the default action ends the process even where Python is blocked
    raise KeyboardInterrupt
