"""MLflow's own pages as people look at a study there: a real browser before a real `mlflow server`."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

import analysis
from analysis.findings import compute_findings, write_tables
from analysis.report import write_report
from study.export.mlflow_models import log_model
from study.tracking.pages import LOCAL_SERVER, MlflowPages, mlflow_pages
from study.tracking.sync import sync
from tests.acceptance.browser import browser, watched
from tests.analysis.journals import write_study
from tests.study.mlflow_stores import Server, runs_by_key, started_server
from trainables.data import shapes
from trainables.encoders import build_encoder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

STUDY = "quick"
SEARCH = "tags.phase = 'search' and tags.`pretext.kind` = 'trial'"
PATIENCE_MS = 60_000


def trial_of_phase(run: Run, phase: str) -> bool:
    return (run.data.tags.get("phase"), run.data.tags["pretext.kind"]) == (phase, "trial")


@dataclass(frozen=True)
class Shown:
    """A study of some 180 runs on a server, and its runs."""

    server: Server
    runs: dict[str, Run]
    pages: MlflowPages

    @property
    def searched(self) -> list[Run]:
        """Return the trials of the search, those with the highest probe first, those without one last."""
        found = [run for run in self.runs.values() if trial_of_phase(run, "search")]
        return sorted(found, key=lambda run: -run.data.metrics.get("probe/linear", -1))

    def served(self, address: str) -> str:
        """Return an address that a study prints, on this server."""
        return address.replace(LOCAL_SERVER, self.server.url)

    def address(self, path: str) -> str:
        """Return the address of a page of this study's experiment."""
        experiment = self.runs["study"].info.experiment_id
        return f"{self.server.url}/#/experiments/{experiment}/{path}"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    root = tmp_path_factory.mktemp("server")
    folder = write_study(tmp_path_factory.mktemp("study"), designs=("size_by_strength", "cures"))
    findings = compute_findings(analysis.load(folder))
    write_tables(folder, findings)
    write_report(folder, findings)
    uri = f"sqlite:///{root}/server.db"
    with contextlib.chdir(root):  # where MLflow puts its artifacts
        sync(folder, uri)
        runs = runs_by_key(uri, STUDY)
        best = next(key for key, run in runs.items() if trial_of_phase(run, "confirm"))
        encoder = build_encoder("conv4", width=4, image_size=32, seed=0)
        images = shapes.generate(4, split="train", image_size=32).images
        log_model(folder, uri, trial_id=best, encoder=encoder, example=images, name=f"{STUDY}-rotation")
        pages = mlflow_pages(folder, uri)
    with started_server(root, root / "server.db") as server:
        yield Shown(server, runs, pages)


@pytest.fixture
def page() -> Iterator:
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1700, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        yield page


def rows(page) -> list[str]:
    """Return the names in the table of runs, from top to bottom."""
    page.locator(".ag-row").first.wait_for()
    cells = page.locator(".ag-row a[href*='/runs/']")
    return [text for text in cells.all_inner_texts() if text.strip()]


@pytest.mark.core
def test_the_address_that_a_study_prints_opens_its_phases_and_a_phase_its_trials(page, shown: Shown):
    trouble = watched(page)
    page.goto(shown.served(shown.pages.runs))
    first = rows(page)[:3]
    assert {*first} == {STUDY, "baselines", "search"}
    started = {run.info.run_name: run.info.start_time for run in shown.runs.values()}
    assert [started[name] for name in first] == sorted(started[name] for name in first)  # two may be equal
    page.get_by_text("Load more").click()
    page.get_by_role("link", name="evaluate", exact=True).wait_for()
    assert set(rows(page)) == {STUDY, "baselines", "search", "confirm", "ablate", "evaluate"}
    page.locator(".ag-row", has=page.get_by_role("link", name="search", exact=True)).locator("button").first.click()
    page.get_by_role("link", name=shown.searched[0].info.run_name, exact=True).wait_for()
    assert {each for each in trouble.asked if each.startswith("http")} == {shown.server.url}


@pytest.mark.core
def test_the_saved_views_open_with_their_charts(page, shown: Shown):
    expected = {
        "Study": ("Description", "mean/rotation"),
        "Compare tasks": ("Group: rotation", "Group: random_init", "probe/shapes/linear"),
        "Search": ("Parallel Coordinates", "augmentation_strength", "batch_size"),
        "Ablation": ("Group: rotation", "Sort: group"),
    }
    assert list(shown.pages.views) == list(expected)
    for name, address in shown.pages.views.items():
        page.goto("about:blank")
        page.goto(shown.served(address))
        page.get_by_role("button", name=name).first.wait_for()  # the menu of views says which one is open
        assert rows(page) or page.locator(".ag-row").count()
        for text in expected[name]:
            page.get_by_text(text).first.wait_for()
        if name != "Study":
            page.locator(".js-plotly-plot .main-svg, .parcoords").first.wait_for()


def test_the_trials_of_a_search_are_sorted_by_a_metric(page, shown: Shown):
    by = quote("metrics.`probe/linear`")
    page.goto(shown.address(f"runs?searchFilter={quote(SEARCH)}&orderByKey={by}&orderByAsc=false"))
    finished = [run.info.run_name for run in shown.searched if "probe/linear" in run.data.metrics]
    page.get_by_text(f"{len(shown.searched)}").first.wait_for()
    assert rows(page)[: len(finished)] == finished


def test_trials_are_compared_along_parallel_coordinates(page, shown: Shown):
    ids, experiment = [run.info.run_id for run in shown.searched], shown.runs["study"].info.experiment_id
    query = f"runs={quote(json.dumps(ids))}&experiments={quote(json.dumps([experiment]))}"
    page.goto(f"{shown.server.url}/#/compare-runs?{query}")
    page.get_by_text(f"Comparing {len(ids)} Runs from 1 Experiment").wait_for()
    page.get_by_role("tab", name="Parallel Coordinates Plot").click()
    page.locator(".parcoords").first.wait_for()
    for name in ("lr", "batch_size", "augmentation_strength"):
        assert page.get_by_text(name, exact=True).count() > 0


def test_a_trial_says_what_it_was_what_it_learned_from_and_how_it_is_judged(page, shown: Shown):
    run = shown.searched[0]
    page.goto(shown.address(f"runs/{run.info.run_id}"))
    page.get_by_role("heading", name=run.info.run_name).wait_for()
    page.get_by_text("Metrics (").wait_for()
    said = page.locator("body").inner_text()
    assert re.search(r"with conv4, \d+ steps of \d+ images, on shapes", said)
    assert "shapes train" in said
    assert "verdict" in said
    for name in ("train/loss", "val/accuracy", "probe/linear"):
        assert name in said


def test_the_report_is_read_within_mlflow(page, shown: Shown):
    page.goto(shown.address(f"runs/{shown.runs['study'].info.run_id}/artifacts/report.html"))
    frame = page.frame_locator("iframe")
    frame.get_by_role("heading", name=STUDY).wait_for()
    assert frame.locator("img").count() > 10


def test_the_model_is_found_from_its_run_and_by_its_name(page, shown: Shown):
    client = MlflowClient(tracking_uri=shown.server.url)
    (version,) = client.search_model_versions(f"name = '{STUDY}-rotation'")
    page.goto(shown.address(f"runs/{version.run_id}"))
    page.get_by_text(f"{STUDY}-rotation").first.wait_for()
    page.goto(f"{shown.server.url}/#/models/{STUDY}-rotation/versions/{version.version}")
    page.get_by_text("Inputs (1)").click()
    page.get_by_text("Tensor (dtype: float32").first.wait_for()
