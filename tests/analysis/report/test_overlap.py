"""Texts of the report's figures do not overlap: tick labels, titles, axis labels and legends."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis.findings import Findings
from analysis.report.page import pictures_of, sections_of
from analysis.report.pictures import DOTS_PER_INCH, off_screen, simulated

TOUCH = 1.5  # pixels by which two boxes may meet


def texts(figure: Figure) -> Iterator[Text]:
    """Yield the visible texts around the data: what is inside of the axes belongs to the data."""
    if figure._suptitle is not None:
        yield figure._suptitle
    for ax in figure.axes:
        yield from _ticks(ax)
        yield from (ax.xaxis.label, ax.yaxis.label, *(ax._left_title, ax.title))  # type: ignore[attr-defined]
        if (legend := ax.get_legend()) is not None:
            yield from legend.get_texts()


def _ticks(ax: Axes) -> Iterator[Text]:
    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if low <= tick.get_loc() <= high:
                yield from (each for each in (tick.label1, tick.label2) if each.get_visible())


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Return the pairs of texts whose boxes intersect."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    shown = [each for each in texts(figure) if each.get_text().strip() and each.get_visible()]
    boxes = [(each.get_text(), each.get_window_extent(renderer)) for each in shown]
    pairs = itertools.combinations(boxes, 2)
    return [(a, b) for (a, first), (b, second) in pairs if _meet(first, second)]


def _meet(a: Bbox, b: Bbox) -> bool:
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return width > TOUCH and height > TOUCH


@pytest.mark.core
@pytest.mark.slow
def test_no_texts_of_a_figure_overlap(findings: Findings, tmp_path: Path):
    found = {}
    with off_screen():
        for each in pictures_of(sections_of(findings, tmp_path)):
            figure = simulated(each).draw().get_figure(root=True)
            assert isinstance(figure, Figure)
            figure.set_dpi(DOTS_PER_INCH)
            figure.draw_without_rendering()
            if pairs := overlaps(figure):
                found[each.name] = pairs
            plt.close(figure)
    assert not found


def test_an_overlap_is_noticed():
    figure, ax = plt.subplots()
    ax.set_xticks([0.5, 0.51], ["one label", "another label"])
    figure.draw_without_rendering()
    assert overlaps(figure) == [("one label", "another label")]
    plt.close(figure)
