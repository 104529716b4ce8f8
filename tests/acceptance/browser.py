"""A real browser for what people look at: Debian's chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Trouble:
    """What went wrong on a page, and whom it asked for something."""

    errors: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)


@contextlib.contextmanager
def browser() -> Iterator:
    """Run a browser for as long as the block runs; skip the test, with the reason, where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is installed")
    with sync_api.sync_playwright() as playwright:
        # Containers run tests as root, for whom chromium has no sandbox; what it opens here is our own.
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield running
        finally:
            running.close()


def watched(page) -> Trouble:
    """Return what becomes of a page from now on: errors of its console and scripts, and the servers that it asks."""
    trouble = Trouble()
    page.on("pageerror", lambda error: trouble.errors.append(str(error)))
    page.on("console", lambda message: trouble.errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: trouble.asked.add("/".join(request.url.split("/")[:3])))
    return trouble
