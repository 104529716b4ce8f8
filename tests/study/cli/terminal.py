"""Commands in a pseudo terminal, as a person runs them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


def in_terminal(*command: str, cwd: Path, columns: int = 80, **environment: str) -> str:
    """Return what a command writes to a terminal with this many columns; it must end with exit code 0.

    Args:
        command: The command and its arguments.
        cwd: Its working directory.
        columns: Width of the terminal.
        environment: Variables to set; those that turn colors on or off are unset otherwise.
    """
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    shown, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    variables = kept | {"TERM": "xterm-256color"} | environment
    with os.fdopen(end, "wb") as terminal:
        running = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, cwd=cwd, env=variables)
    read = b""
    while chunk := _read(shown):
        read += chunk
    os.close(shown)
    text = read.decode().replace("\r\n", "\n")
    assert running.wait() == 0, text
    return text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the other end is closed
        return b""
