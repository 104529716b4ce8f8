"""The script of the page draws its figures again, and pictures match their code."""

from __future__ import annotations

import base64
import io
import types
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from analysis.data.tables import last_values
from analysis.figures import learning_curves
from analysis.report import write_report
from analysis.report.pictures import DOTS_PER_INCH, Shown, call, imports, picture
from analysis.report.text import markup
from tests.analysis.journals import write_study
from tests.analysis.report.pages import Page


def pixels(png: bytes) -> np.ndarray:
    """Return the pixels of a PNG, int64 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int64)


@pytest.mark.core
@pytest.mark.slow
def test_the_script_of_the_page_draws_the_figures_it_shows(page: Page, tmp_path: Path):
    before = set(plt.get_fignums())
    with plt.rc_context({"figure.max_open_warning": 0}):
        exec(page.text[page.text.index("import analysis") : page.text.index("This page, its verdicts")], {})
    drawn = sorted(set(plt.get_fignums()) - before)
    assert len(drawn) == len(page.figures)
    for place in (0, len(drawn) // 2, len(drawn) - 1):  # drawing takes a while
        path = tmp_path / f"{place}.png"
        plt.figure(drawn[place]).savefig(path, dpi=DOTS_PER_INCH)
        shown = (page.figures[place]["src"] or "").removeprefix("data:image/png;base64,")
        embedded, drawn_again = (pixels(content) for content in (base64.b64decode(shown), path.read_bytes()))
        assert embedded.shape == drawn_again.shape
        assert np.abs(embedded - drawn_again).mean() < 1  # of 255; the page has 256 colors per figure
    for number in drawn:
        plt.close(number)


@pytest.mark.parametrize("value", ["it's", 'a "name"', "\\", "x' or a == 'y"])
def test_a_shown_value_and_its_code_are_one_whatever_names_a_journal_holds(value: str):
    runs = pd.DataFrame({"a": [value, "y"]})
    found = call(pd.DataFrame.head, Shown(runs, "study.runs").query(f"a == {value!r}"), n=5)
    names = {"study": types.SimpleNamespace(runs=runs), "head": pd.DataFrame.head}
    pd.testing.assert_frame_equal(eval(found.code, names), found.value)
    assert found.value["a"].tolist() == [value]


def test_names_from_a_journal_cannot_leave_the_folder_or_the_page():
    drawn = picture("curves-../../etc", "alt", plt.subplots)
    assert drawn.name == "curves-.._.._etc"
    assert markup("<b>`a<b` **c**") == "&lt;b&gt;<code>a&lt;b</code> <strong>c</strong>"


def test_imports_name_each_function_once_and_figures_by_their_package():
    runs = pd.DataFrame({"trial_id": ["t"]})
    points = pd.DataFrame({"trial_id": ["t"], "step": 1, "metric": "m", "value": 0.0})
    pictures = [picture("a", "", learning_curves, call(last_values, runs, points)), picture("b", "", learning_curves)]
    lines = ["from analysis.data.tables import last_values", "from analysis.figures import learning_curves"]
    assert imports(pictures) == lines


def test_pyplot_keeps_its_backend_and_its_figures(tmp_path: Path):
    before = matplotlib.get_backend()
    plt.switch_backend("svg")
    try:
        mine = plt.figure()
        figures = plt.get_fignums()
        write_report(write_study(tmp_path, until="search", tasks=("rotation",)))
        assert matplotlib.get_backend() == "svg"
        assert plt.get_fignums() == figures
    finally:
        plt.close(mine)
        plt.switch_backend(before)
