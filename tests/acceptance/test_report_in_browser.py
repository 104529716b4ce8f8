"""The report as people see it: opened from disk in a real browser, on a desk, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import analysis
from analysis.findings import compute_findings
from analysis.report import write_report
from tests.acceptance.browser import browser, watched
from tests.analysis.journals import write_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
READABLE_PX = 12


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with every phase."""
    folder = write_study(tmp_path_factory.mktemp("study"), designs=("size_by_strength", "cures"))
    return write_report(folder, compute_findings(analysis.load(folder)))


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    with browser() as running:
        yield running


@pytest.fixture
def page(chromium) -> Iterator:
    page = chromium.new_page(viewport=DESK)
    yield page
    page.close()


def test_it_opens_from_disk_without_network_and_without_a_complaint(page, report: Path):
    trouble = watched(page)
    page.goto(report.as_uri())
    assert page.title() == "quick: report"
    assert trouble.errors == []
    assert trouble.asked == {"file://"}


def test_every_figure_is_drawn_and_has_words_for_who_does_not_see_it(page, report: Path):
    page.goto(report.as_uri())
    images = page.evaluate("[...document.images].map(image => [image.alt, image.naturalWidth])")
    assert len(images) > 10
    assert all(len(alt) > 10 and width > 100 for alt, width in images)
    assert len({alt for alt, _ in images}) == len(images)


@pytest.mark.parametrize("viewport", [DESK, PHONE], ids=["desk", "phone"])
def test_it_is_as_wide_as_the_screen_and_its_text_can_be_read(page, report: Path, viewport: dict[str, int]):
    page.set_viewport_size(viewport)
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    sizes = page.evaluate(
        "[...document.querySelectorAll('p, li, td, th')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(sizes) >= READABLE_PX


def test_its_sections_are_reached_from_its_head(page, report: Path):
    page.goto(report.as_uri())
    for link in page.locator("nav a").all():
        link.click()
        target = page.locator(str(link.get_attribute("href")))
        assert target.bounding_box()["y"] < DESK["height"]


def test_on_paper_nothing_is_cut_off(page, report: Path):
    """A4 at 96 px an inch, within margins of 10 mm; and a PDF that a printer takes."""
    page.set_viewport_size({"width": 718, "height": 1046})
    page.emulate_media(media="print")
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    cut = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth + 1).length"
    assert page.evaluate(cut) == 0
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_on_paper_no_number_is_broken(page, report: Path):
    page.set_viewport_size({"width": 718, "height": 1046})
    page.emulate_media(media="print")
    page.goto(report.as_uri())
    lines_of_each = """[...document.querySelectorAll('td.number')]
        .filter(cell => /^\\S+$/.test(cell.textContent.trim()))
        .map(cell => { const range = document.createRange(); range.selectNodeContents(cell);
                       return [cell.textContent, new Set([...range.getClientRects()].map(r => r.top)).size]; })"""
    found = page.evaluate(lines_of_each)
    assert len(found) > 100
    assert [text for text, lines in found if lines > 1] == []
