"""Draw the pictures of the pages again: `python docs/pictures.py [REPORT.html]`.

It writes what each pretext task sees (`docs/images/TASK.png`) and, with a report, the report's first screen
(`docs/images/report.png`), which needs Chromium and playwright.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import matplotlib.pyplot as plt

from analysis.figures import what_a_task_sees
from trainables.data import load_splits
from trainables.tasks import TASKS

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1280, 860  # px
SIDE = 64  # px of the built-in images


def draw_tasks(folder: Path = IMAGES) -> None:
    """Write a PNG of what each pretext task makes of two built-in images."""
    images = load_splits("shapes", root=None, image_size=SIDE, max_train=100).pretext_train
    for name in TASKS:
        axes = what_a_task_sees(name, images, n_shown=2)
        axes.figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close(axes.figure)


def take_first_screen(report: Path, picture: Path = IMAGES / "report.png") -> None:
    """Write a PNG of the first screen of a report, in light colors."""
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    draw_tasks()
    for argument in sys.argv[1:]:
        take_first_screen(Path(argument))
