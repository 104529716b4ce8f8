"""A simulated study says so in red on its page, in every figure and on the command line; a real one never does."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner

import analysis
from analysis.__main__ import app
from analysis.data.study import SIMULATED
from analysis.figures.style import ALERT, TINT, announce, mark_simulated
from analysis.findings import compute_findings
from analysis.pages.series import _marked
from analysis.report import write_report
from analysis.report.pictures import picture
from tests.analysis.journals import write_study
from tests.analysis.report.pages import Page


def pretend(folder: Path) -> Path:
    """Make a study a simulated one."""
    journal = folder / "journal.jsonl"
    first, *rest = journal.read_text().splitlines(keepends=True)
    assert '"config":{' in first
    journal.write_text(first.replace('"config":{', '"config":{"simulate":true,', 1) + "".join(rest))
    return folder


def reds(path: Path) -> int:
    """Return the number of pixels of a PNG that have the color of the warning."""
    pixels = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"), np.int64)
    return int((np.abs(pixels - np.round(255 * np.array(to_rgb(ALERT)))).max(axis=-1) <= 4).sum())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretend(write_study(tmp_path_factory.mktemp("study"), tasks=("rotation",), until="confirm"))


def test_the_page_and_every_figure_of_a_simulated_study_say_so_in_red(folder: Path):
    page = Page(write_report(folder))
    source = (folder / "report.html").read_text()
    assert f'<p class="warning" role="note">{SIMULATED}</p>' in source
    assert ALERT in source[source.index(".warning") : source.index(".warning") + 200]
    assert page.figures
    assert all(str(image["alt"]).startswith("Simulated. ") for image in page.figures)
    figures = list((folder / "figures").glob("*.png"))
    assert len(figures) == len(page.figures)
    assert min(map(reds, figures)) > 200
    assert page.text.count("mark_simulated(") == 2 * len(page.figures)  # the caption and the script
    assert "from analysis.figures.style import mark_simulated" in page.section("reproduce")


def test_a_real_study_is_not_marked(tmp_path: Path):
    folder = write_study(tmp_path, tasks=("rotation",), until="confirm")
    page = Page(write_report(folder))
    assert SIMULATED not in page.text
    assert "mark_simulated" not in page.text
    assert max(map(reds, (folder / "figures").glob("*.png"))) < 20


def test_the_mark_keeps_clear_of_the_title():
    figure, ax = plt.subplots(layout="constrained")
    ax.set_title("rotation, search: 12 verdicts", loc="left")
    mark_simulated(ax)
    figure.draw_without_rendering()
    assert figure._suptitle is not None
    assert figure._suptitle.get_window_extent().y0 >= ax.get_tightbbox().y1 - 1
    plt.close(figure)


def test_of_a_series_the_figures_of_simulated_parts_alone_are_marked():
    def draw(part: object) -> object:
        return Figure().subplots()

    shown = picture("a", "alt", draw, 1)
    one = dataclasses.replace(shown, code="learning_curves(case.study.curves)")
    assert _marked(one, ["case"]).code == "mark_simulated(learning_curves(case.study.curves))"
    assert _marked(one, ["cases", "cas"]) is one


def test_the_command_line_says_so_too(folder: Path):
    answer = CliRunner().invoke(app, ["verdicts", str(folder)])
    assert "Simulated: no network was trained." in answer.stdout
    data = CliRunner().invoke(app, ["verdicts", str(folder), "--csv"])
    assert "Simulated" not in data.stdout


def test_a_study_knows_from_its_configuration(folder: Path, tmp_path: Path):
    assert analysis.load(folder).simulated
    assert not analysis.load(write_study(tmp_path, until="baselines")).simulated
    assert compute_findings(analysis.load(folder)).study.simulated


def test_a_notebook_announces_a_simulated_study_and_tints_its_figures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown: list[str] = []
    monkeypatch.setattr("IPython.display.display", lambda html: shown.append(html.data))
    with plt.rc_context():
        announce(analysis.load(write_study(tmp_path, until="baselines")))
        assert (shown, plt.rcParams["figure.facecolor"]) == ([], plt.rcParamsDefault["figure.facecolor"])
        announce(analysis.load(folder))
        assert plt.rcParams["figure.facecolor"] == TINT
    assert len(shown) == 1
    assert SIMULATED in shown[0]
    assert ALERT in shown[0]
