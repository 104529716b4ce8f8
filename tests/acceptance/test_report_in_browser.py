"""The report as people see it: opened from disk in a real browser, on a desk, on a phone and on paper."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import analysis
from analysis.findings import compute_findings
from analysis.findings.gains import task_gains
from analysis.report import write_report
from study.config.loading import load_config, simulated
from tests.acceptance.browser import browser, watched
from tests.analysis.journals import TRUTH, write_study
from tests.analysis.simulated_studies import simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
READABLE_PX = 12
MOST_BYTES = 3e6


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a study with every phase."""
    folder = write_study(tmp_path_factory.mktemp("study"), designs=("size_by_strength", "cures"))
    (folder / "recommended.yaml").write_text("name: again\n")
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


def test_the_answer_the_plot_the_inputs_and_the_next_command_fit_on_the_first_screen(page, report: Path):
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(report.as_uri())
    assert page.locator(".answer").inner_text().startswith(("Pre-training with simclr", "No pretext task is shown"))
    assert "of 100 test images right" in page.locator(".answer").inner_text()
    assert page.locator(".plot svg").count() == page.locator(".sees img").count() == len(TRUTH)
    assert page.locator(".task .ended").all_inner_texts()
    order = task_gains(compute_findings(analysis.load(report.parent))).rows["task"]
    assert page.locator(".task > div:first-child > b").all_inner_texts() == list(order)
    assert "recommended.yaml" in page.locator(".command pre").inner_text()
    bottom = page.evaluate("document.querySelector('.command').getBoundingClientRect().bottom")
    assert bottom <= 800
    assert page.evaluate("[...document.querySelectorAll('details')].every(fold => !fold.open)")


def test_a_dot_is_where_its_value_is_on_the_axis(page, report: Path):
    page.goto(report.as_uri())
    row, ticks = page.locator(".task").first, page.locator(".axis span").all()
    middles = [
        (tick.bounding_box()["x"] + tick.bounding_box()["width"] / 2, float(tick.inner_text())) for tick in ticks
    ]
    (left, low), (right, high) = middles[0], middles[-1]
    dot = row.locator("circle.mean").bounding_box()
    shown = low + (dot["x"] + dot["width"] / 2 - left) / (right - left) * (high - low)
    assert abs(shown - float(row.locator(".value b").inner_text())) < 0.5


def test_a_link_into_a_fold_opens_it(page, report: Path):
    page.goto(f"{report.as_uri()}#script")
    assert page.locator("#script").is_visible()
    page.goto(f"{report.as_uri()}#cures")
    assert page.locator("#cures > details").evaluate("fold => fold.open")
    link = page.locator("#cures a.term").first
    assert link.get_attribute("title")
    link.click()
    assert page.locator(str(link.get_attribute("href"))).is_visible()


def test_without_scripts_the_folds_open_and_tables_are_there(chromium, report: Path):
    context = chromium.new_context(java_script_enabled=False, viewport=DESK)
    page = context.new_page()
    page.goto(report.as_uri())
    page.locator("#what-to-use > details > summary").click()
    assert page.locator("#what-to-use table").first.is_visible()
    context.close()


def test_a_table_sorts_by_click_and_by_key(page, report: Path):
    page.goto(f"{report.as_uri()}#what-to-use")
    table = page.locator("#what-to-use table").first
    head = table.locator("thead th").nth(3)
    values = "cells => cells.map(cell => parseFloat(cell.textContent))"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = table.locator("tbody tr td:nth-child(4)").evaluate_all(values)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    down = table.locator("tbody tr td:nth-child(4)").evaluate_all(values)
    assert up == sorted(up)
    assert down == up[::-1]
    assert len(set(up)) > 1


def test_a_table_is_downloaded_as_csv(page, report: Path):
    page.goto(f"{report.as_uri()}#what-to-use")
    with page.expect_download() as download:
        page.locator("#what-to-use figcaption button").first.click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0].startswith('"task",')
    assert len(lines) == 1 + len(TRUTH)


CONTRASTS = """() => {
    const channels = color => color.match(/[\\d.]+/g).map(Number);
    const light = color => {
        const [r, g, b] = channels(color).map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = element => {
        for (; element; element = element.parentElement) {
            const color = getComputedStyle(element).backgroundColor;
            if (channels(color).length < 4 || channels(color)[3] > 0) return color;
        }
    };
    const texts = 'p, li, td, th, a, code, small, summary, figcaption, button, dt, dd, .axis span';
    return [...document.querySelectorAll(texts)]
        .filter(each => each.textContent.trim() && each.offsetParent)
        .map(each => [light(getComputedStyle(each).color), light(ground(each)), each.textContent.slice(0, 40)])
        .map(([a, b, text]) => [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(chromium, report: Path, scheme: str):
    """WCAG 2.2 AA: 4.5 to 1. Figures keep a white ground, so they read the same in both schemes."""
    page = chromium.new_page(viewport=DESK, color_scheme=scheme)
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 300
    assert [(text, ratio) for ratio, text in found if ratio < 4.5] == []
    grounds = page.evaluate(
        "[...document.querySelectorAll('figure img')].map(i => getComputedStyle(i).backgroundColor)"
    )
    assert set(grounds) == {"rgb(255, 255, 255)"}
    page.close()


def printed_pages(page, report: Path) -> int:
    page.goto(report.as_uri())
    return len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4")))


def test_it_is_small_and_prints_on_few_pages(page, report: Path):
    assert report.stat().st_size < MOST_BYTES
    assert 1 <= printed_pages(page, report) <= 6


@pytest.mark.parametrize(("preset", "most"), [("quick", 6), ("small_data", 15)])
def test_the_report_of_a_preset_is_small_and_prints_on_few_pages(page, preset: str, most: int, tmp_path: Path):
    report = write_report(simulate(simulated(load_config(preset)), tmp_path))
    assert report.stat().st_size < MOST_BYTES
    assert 1 <= printed_pages(page, report) <= most


def test_on_paper_nothing_is_cut_off(page, report: Path):
    """A4 at 96 px an inch, within margins of 10 mm; and a PDF that a printer takes."""
    page.set_viewport_size({"width": 718, "height": 1046})
    page.emulate_media(media="print")
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    cut = "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth + 1).length"
    assert page.evaluate(cut) == 0
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_on_paper_no_number_is_broken(page, report: Path):
    page.set_viewport_size({"width": 718, "height": 1046})
    page.emulate_media(media="print")
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    lines_of_each = """[...document.querySelectorAll('td.number')]
        .filter(cell => /^\\S+$/.test(cell.textContent.trim()))
        .map(cell => { const range = document.createRange(); range.selectNodeContents(cell);
                       return [cell.textContent, new Set([...range.getClientRects()].map(r => r.top)).size]; })"""
    found = page.evaluate(lines_of_each)
    assert len(found) > 100
    assert [text for text, lines in found if lines > 1] == []
