"""The documentation builds strictly, names what it should, and its pages load nothing from the network."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import figures
from tests.conftest import CORE, REPOSITORY

pytest.importorskip("mkdocs", reason="the site needs the extra `docs`")
pytestmark = [*CORE]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_the_site(site: Path):
    assert {page.stem for page in (REPOSITORY / "docs").glob("*.md")} <= {page.stem for page in site.glob("*.html")}


def test_no_page_has_a_script_a_style_or_an_image_from_elsewhere(site: Path):
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)\"|<link[^>]*\shref=\"([^\"]+)\"", text)
        assert loaded
        assert not [url for pair in loaded for url in pair if re.match(r"(https?:)?//", url)], page.name


def test_a_browser_that_shows_the_pages_requests_nothing_from_the_network(site: Path):
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    requested: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda request: requested.append(request.url))
        for name in ("index", "architecture", "configuration", "api"):
            page.goto((site / f"{name}.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{name} scrolls sideways"
        browser.close()
    assert requested
    assert not [url for url in requested if not url.startswith(("file:", "data:"))]


def test_the_api_page_documents_every_figure_and_the_functions_that_the_pages_use(site: Path):
    anchors = set(re.findall(r'id="([\w.]+)"', (site / "api.html").read_text(encoding="utf-8")))
    functions = {name for name in figures.__all__ if inspect.isfunction(getattr(figures, name))}
    assert len(functions) > 10
    # A function that is named like its file is documented under the file's name.
    assert functions <= {anchor.rpartition(".")[2] for anchor in anchors if anchor.startswith("analysis.figures.")}
    assert {"analysis.load", "analysis.findings.compute_findings", "study.export.embed.embed"} <= anchors
