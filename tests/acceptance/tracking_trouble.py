"""Trouble with a tracking server, and what a study has to do with it."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import mlflow
import psutil
import requests
import sqlalchemy
import urllib3

import study.tracking.sync
from analysis.records import Event, Report, StudyEnded
from study.driver import Outcome, run_study
from tests.acceptance.studies import DriverProcess

_TRACKING = tuple(str(Path(package.__file__).parent) for package in (mlflow, requests, sqlalchemy, urllib3))
_TRACKING += (str(Path(study.tracking.sync.__file__).parent),)


class Proxy:
    """A door to a tracking server, on a port of its own, that can be slow, shut or broken.

    delay_s: what each call waits before it is passed on. broken: whether calls are answered by 500, as a reverse
    proxy does. clients: processes that have called. calls: how many.
    """

    def __init__(self, port: int, server_port: int, *, delay_s: float = 0.0, broken: bool = False) -> None:
        self.port, self.server_port, self.delay_s, self.broken = port, server_port, delay_s, broken
        self.clients: set[int | None] = set()
        self.calls = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy._answer(self)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        self.calls += 1
        self.clients |= _processes_at(request.client_address[1], self.port)
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        time.sleep(self.delay_s)
        status, content = (500, b"<html>Internal Server Error</html>") if self.broken else self._pass_on(request, body)
        request.send_response(status)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        server = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=60)
        try:
            server.request(request.command, request.path, body, dict(request.headers))
            answer = server.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):  # the latter where the server dies in the middle of an answer
            return 502, b"<html>Bad Gateway</html>"
        finally:
            server.close()


def _processes_at(port: int, door: int) -> set[int | None]:
    """Return who holds the near end of a connection; its port may have served another before, still remembered."""
    connections = [each for each in psutil.net_connections("tcp4") if each.laddr and each.raddr]
    return {each.pid for each in connections if (each.laddr.port, each.raddr.port) == (port, door)}


class WatchedStudy:
    """A study that runs in a thread of this process, whose driver is looked at hundreds of times a second.

    waited: share of the looks, from the study's start to the end of its last trial, in which the driver was at work
    for MLflow. close_s: what came after that. reports: how many are in the journal.
    """

    def __init__(self, study: DriverProcess) -> None:
        self.study = study
        self.reports = 0
        self.close_s = 0.0
        self._looks = self._waiting = 0
        self._outcome: Outcome | None = None
        self._error: BaseException | None = None
        self._ended: float | None = None
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self._thread = threading.Thread(target=self._run)
        self._watch = threading.Thread(target=self._look)

    def __enter__(self) -> WatchedStudy:
        self._thread.start()
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.join()
        self._watch.join()

    @property
    def waited(self) -> float:
        """Share of the driver's time that went to MLflow while trials ran."""
        assert self._looks > 200
        return self._waiting / self._looks

    @property
    def running(self) -> bool:
        """Whether the study has not come to its end."""
        return self._ended is None and self._thread.is_alive()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the study at its next event, so that it does not end before what has to happen meanwhile."""
        self._may_go_on.clear()
        try:
            yield
        finally:
            self._may_go_on.set()

    def outcome(self) -> Outcome:
        """Return how the study ended, once it has."""
        self._thread.join()
        if self._error:
            raise self._error
        assert self._outcome is not None
        return self._outcome

    def _run(self) -> None:
        try:
            self._outcome = run_study(self.study.config, self.study.root / "out", listeners=[self._hear])
        except BaseException as error:  # noqa: BLE001 - raised where the outcome is asked for
            self._error = error
        if self._ended:
            self.close_s = time.monotonic() - self._ended

    def _hear(self, event: Event) -> None:
        self.reports += isinstance(event, Report)
        if isinstance(event, StudyEnded):
            self._ended = time.monotonic()
        self._may_go_on.wait()

    def _look(self) -> None:
        while self.running:
            self._may_go_on.wait()
            frame = sys._current_frames().get(self._thread.ident or 0)
            self._looks += 1
            self._waiting += _at_work_for_mlflow(frame)
            time.sleep(0.003)


def _at_work_for_mlflow(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_TRACKING):
            return True
        frame = frame.f_back
    return False


def own_process() -> set[int]:
    """Return the only process that may call a tracking server: the driver's, which is this one."""
    return {os.getpid()}
