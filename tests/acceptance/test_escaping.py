"""Text that others wrote (class and data set names, cells, error messages) is shown as text wherever it is shown."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis.report import write_report
from analysis.report.sections.trials import FILES
from study.tracking.sync import sync
from tests.analysis.journals import write_study
from tests.study.mlflow_stores import all_runs

TAG = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
HOSTILE = f"{TAG}{IMAGE}`</code>**[a](javascript:alert(1))$\\bad{{$"
DATASET = f"folder:/data/{HOSTILE}"
EXPECTED_TAGS = {  # of the page's own template
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "nav", "h1", "h2", "h3", "p", "a"),
    *("ul", "ol", "li", "strong", "code", "pre", "figure", "figcaption", "div", "table", "thead", "tbody", "tr", "th"),
    *(
        "td",
        "img",
        "details",
        "summary",
        "span",
        "wbr",
        "b",
        "small",
        "svg",
        "line",
        "circle",
        "script",
        "dl",
        "dt",
        "dd",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose data set, classes, cells and error messages hold markup."""
    written = write_study(tmp_path_factory.mktemp("plain") / "quick", tasks=("rotation", "simclr"))
    folder = tmp_path_factory.mktemp("hostile") / "quick"
    folder.mkdir()
    lines = (written / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    events = [spoilt(json.loads(line)) for line in lines]
    (folder / "journal.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return folder


def spoilt(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event of the journal with markup wherever a user's or a program's text stands."""
    text = json.dumps(event)
    text = text.replace('"shapes"', json.dumps(DATASET)).replace("probe/shapes", f"probe/{json.dumps(DATASET)[1:-1]}")
    text = re.sub(r'"class_(\d)"', lambda found: json.dumps(f"{HOSTILE}{found[1]}"), text)
    event = json.loads(text)
    if event.get("reason"):
        event["reason"] = f"Traceback (most recent call last):\nRuntimeError: {HOSTILE}"
    if event["event"] == "study_started":
        event["versions"], event["git_commit"] = {"torch": TAG}, TAG
    return event


class Elements(HTMLParser):
    """The elements and attributes of a page, as a browser would make them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_no_text_becomes_markup_in_the_report(folder: Path):
    page = Elements(write_report(folder).read_text(encoding="utf-8"))
    assert page.tags <= EXPECTED_TAGS
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    links = [value or "" for name, value in page.attributes if name in ("href", "src")]
    assert all(link.startswith(("#", "data:image/png;base64,")) or link in FILES for link in links)
    assert "RuntimeError: " + TAG in page.text, "the error is there to be read"


@pytest.mark.core
@pytest.mark.slow
def test_no_text_becomes_markup_in_the_notes_of_mlflow(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    sync(folder, uri)
    notes = [run.data.tags["mlflow.note.content"] for run in all_runs(uri, "quick")]
    assert any("alert" in note for note in notes)
    for note in notes:
        assert "<" not in note
        prose, *blocks = note.split("```json")
        assert all(block.count("`") == 3 for block in blocks), "the block ends where it should"
        assert not re.search(r"(?<!\\)\[[^\]]*\]\(", prose), "a link that the study did not make"
    assert any(html.unescape(note).count(TAG) for note in notes), "the name is there to be read"
