"""Ctrl-C and SIGTERM: the first stops a study in good order, the second at once."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ONE_SIGNAL_S = 0.25  # `timeout` sends one to its child and, at once, another to the whole group


def stop_on_signals() -> None:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt in the main thread once, and end the process the next time.

    What was reported until then is in the journal, with its checkpoint on disk; the rest is in the hands of who
    catches it. One that this process was started to ignore, as `nohup` and `&` do, stays ignored.
    """
    for each in SIGNALS:
        if signal.getsignal(each) != signal.SIG_IGN:
            signal.signal(each, _interrupt)


def resuming_command() -> str:
    """Return the command line that goes on with what this process was started to do."""
    return shlex.join(argument for argument in sys.orig_argv if argument != "--fresh")  # which would begin anew


def _interrupt(number: int, frame: FrameType | None) -> None:
    ours = [each for each in SIGNALS if signal.getsignal(each) == _interrupt]
    for each in ours:
        signal.signal(each, signal.SIG_IGN)
    os.write(2, b"\nstopping; once more stops at once\n")  # a handler may run in the middle of anybody's print
    time.sleep(ONE_SIGNAL_S)
    for each in ours:
        signal.signal(each, signal.SIG_DFL)  # the system's own, so that it works wherever this process hangs
    raise KeyboardInterrupt
