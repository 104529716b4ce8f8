"""Draw the pictures of the pages again: `python docs/pictures.py [REPORT.html] [BENCHMARK]`.

It writes what each pretext task sees (`docs/images/TASK.png`) and, with the report of a study, its first screen
(`docs/images/report.png`) and what the terminal shows at the end of the study (`docs/images/terminal.png`), which need
Chromium and playwright. With the folder of the benchmark, it writes the figures of each data set that is complete
(`docs/images/benchmark-DATASET.png`).
"""

from __future__ import annotations

import io
import math
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from rich.console import Console

import analysis
from analysis.data.study import Study
from analysis.figures import size_gains, what_a_task_sees
from analysis.findings import compute_findings
from analysis.pages.benchmark import benchmark_frame
from analysis.pages.series import read_parts
from analysis.report.plain import answer
from study.cli.outcome import show_outcome
from study.driver import Outcome
from study.tracking.sync import default_tracking_uri
from trainables.data import load_splits
from trainables.tasks import TASKS

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1280, 860  # px
SIDE = 64  # px of the built-in images
COLUMNS = 90
HOME = "/home/me"  # the folder of `studies` as the pictures show it


def draw_tasks(folder: Path = IMAGES) -> None:
    """Write a PNG of what each pretext task makes of two built-in images."""
    images = load_splits("shapes", root=None, image_size=SIDE, max_train=100).pretext_train
    for name in TASKS:
        axes = what_a_task_sees(name, images, n_shown=2)
        axes.figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close(axes.figure)


def take_first_screen(report: Path, picture: Path = IMAGES / "report.png") -> None:
    """Write a PNG of the first screen of a report, in light colors."""
    with _browser() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.set_content(_at_home(report.read_text(encoding="utf-8"), report.parent))
        page.screenshot(path=picture)


def take_terminal(folder: Path, picture: Path = IMAGES / "terminal.png") -> None:
    """Write a PNG of what a terminal shows when the study in a folder has ended."""
    loaded = analysis.load(folder)
    console = Console(file=io.StringIO(), width=COLUMNS, force_terminal=True, record=True)
    show_outcome(_outcome(loaded, folder), loaded.name, default_tracking_uri(), sum(loaded.elapsed_s.values()), console)
    svg = _at_home(console.export_svg(title="python study/run.py"), folder)
    with _browser() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_content(f'<body style="margin: 0">{svg}</body>')
        page.locator("svg").first.screenshot(path=picture)


def draw_benchmark(folder: Path, pictures: Path = IMAGES) -> None:
    """Write a PNG for each data set of the benchmark that has its results on the test split."""
    for part in read_parts(folder).values():
        if part.study.tested.empty:
            continue
        frame = benchmark_frame(part)
        tasks = frame["task"].unique()
        n_rows = math.ceil(len(tasks) / 2)
        figure, axes = plt.subplots(n_rows, 2, figsize=(11, 4 * n_rows), layout="constrained", squeeze=False)
        for task, ax in zip(tasks, axes.flat, strict=False):
            size_gains(frame, task, ax)
        for ax in axes.flat[len(tasks) :]:
            ax.set_axis_off()
        figure.savefig(pictures / f"benchmark-{part.study.config['dataset']}.png", dpi=80)
        plt.close(figure)


def _outcome(loaded: Study, folder: Path) -> Outcome:
    answered = answer(compute_findings(loaded), folder)
    return Outcome(folder, folder / "report.html", {}, answer=answered, n_trials=len(loaded.runs))


def _at_home(text: str, folder: Path) -> str:
    """Return a text with the folder around `studies` replaced by `HOME`."""
    return text.replace(folder.resolve().parents[1].as_posix(), HOME)


@contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


if __name__ == "__main__":
    draw_tasks()
    for argument in map(Path, sys.argv[1:]):
        if argument.is_dir():
            draw_benchmark(argument)
        else:
            take_first_screen(argument)
            take_terminal(argument.parent)
