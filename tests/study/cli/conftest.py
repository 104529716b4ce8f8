"""Calls of a command line's `main` in this process."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from study.cli.signals import SIGNALS


class Answer(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture
def process_as_before() -> Iterator[None]:
    """Restore what a command changes in its process. One thread, because several are slower on a busy machine."""
    handlers, threads = {each: signal.getsignal(each) for each in SIGNALS}, torch.get_num_threads()
    log_handlers = list(logging.root.handlers)
    torch.set_num_threads(1)
    yield
    logging.root.handlers = log_handlers
    for each, handler in handlers.items():
        signal.signal(each, handler)
    torch.set_num_threads(threads)


@pytest.fixture
def call_main(
    process_as_before: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Call `main` with the arguments of a command line, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(main: Callable[[], None], *arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return Answer(int(ended.value.code or 0), *capsys.readouterr())

    return call
