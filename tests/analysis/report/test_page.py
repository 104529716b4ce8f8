"""The page needs no network, is well formed, reads on a phone and on paper, and answers in order."""

from __future__ import annotations

import re
from pathlib import Path

from analysis.report.sections.trials import FILES
from tests.analysis.journals import TRUTH
from tests.analysis.report.pages import ORDER, Page


def test_the_page_asks_the_network_for_nothing(folder: Path, page: Page):
    assert page.links
    assert all(link.startswith(("data:image/png;base64,", "#")) or link in FILES for link in page.links)
    assert not {"link", "iframe", "object", "form"} & set(page.tags)
    assert not re.search(r"url\(|@import|<script [^>]*src|fetch\(|XMLHttpRequest", (folder / "report.html").read_text())


def test_the_page_is_well_formed_and_its_links_lead_somewhere(page: Page):
    assert (page.unclosed, page.open) == ([], [])
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_names_in_backticks_are_code(folder: Path):
    source = (folder / "report.html").read_text(encoding="utf-8")
    prose = re.sub(r"<(pre|script|style)\b.*?</\1>", "", source, flags=re.DOTALL)
    assert re.findall(r".{0,30}`.{0,30}", prose) == []


def test_it_reads_on_a_phone_and_on_paper(folder: Path):
    source = (folder / "report.html").read_text()
    assert '<meta name="viewport" content="width=device-width' in source
    assert "@media print" in source
    tables = source.count("<table")
    assert tables > 5
    assert source.count('<div class="scroll"><table>') == tables


def test_every_image_has_its_own_alt_text_and_is_saved_in_figures(folder: Path, page: Page):
    alts = [image["alt"] or "" for image in page.images]
    assert all(len(alt) > 30 for alt in alts)
    assert len(set(alts)) == len(alts) == len(page.figures) + len(TRUTH)  # and what each task sees
    assert len(page.figures) == len(list((folder / "figures").glob("*.png")))


def test_sections_answer_in_the_order_of_the_design(page: Page):
    assert page.sections == ORDER
