"""What a person sees of a study in MLflow: addresses, saved views, summaries, and what becomes of older studies."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

import analysis
from analysis.data.mlflow_names import is_chance_level
from study.tracking.pages import mlflow_pages, ui_command
from study.tracking.sync import sync
from tests.study.mlflow_stores import runs_by_key, stored_points
from tests.study.tracked_journals import STUDY_POINTS, study_events, trial, write

HEADLINE = "**rotation** helps."


@pytest.fixture
def synced(folder: Path, store: str) -> str:
    """Return the URI of a store with a study that has ended."""
    (folder / "headline.md").write_text(HEADLINE)
    write(folder, study_events())
    sync(folder, store)
    return store


def saved_views(uri: str) -> dict[str, dict[str, Any]]:
    """Return what MLflow's page reads of each saved view, by name."""
    experiment = MlflowClient(tracking_uri=uri).get_experiment_by_name("small-data")
    assert experiment is not None
    views = {}
    for name, value in experiment.tags.items():
        if name.startswith("mlflow.sharedViewState."):
            envelope = json.loads(value)
            assert {"createdAt", "updatedAt"} <= set(envelope)
            packed = base64.b64decode(envelope["state"].removeprefix("deflate;"))
            views[envelope["name"]] = json.loads(zlib.decompress(packed))
    return views


def test_the_runs_of_a_local_store_open_after_the_command_that_serves_it(
    folder: Path, synced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    pages = mlflow_pages(folder, synced)
    assert pages.command.endswith(f"mlflow ui --backend-store-uri {synced}")
    assert pages.runs.startswith("http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning")
    assert list(pages.views) == ["Study", "Compare tasks", "Search"]
    assert pages.views["Search"].endswith("&compareRunsMode=CHART&viewStateShareKey=search")


def test_a_server_has_whole_addresses_and_needs_no_command(folder: Path) -> None:
    write(folder, study_events())
    pages = mlflow_pages(folder, "http://user:secret@mlflow.example:8080/")
    assert pages.command == ""
    assert "secret" not in pages.runs  # nothing has been delivered, so there is no experiment to open yet
    assert pages.runs.endswith("mlflow.example:8080")


def test_the_store_in_the_current_folder_is_served_without_naming_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ui_command(f"sqlite:///{tmp_path}/mlflow.db").endswith("mlflow ui")
    assert "secret" not in ui_command("postgresql://me:secret@host/mlflow")


def test_the_search_is_drawn_along_lr_strength_and_batch_size_and_listed_in_ten_columns(synced: str) -> None:
    view = saved_views(synced)["Search"]
    client = MlflowClient(tracking_uri=synced)
    shown = client.search_runs(["1"], view["searchFilter"])
    assert trial(0).trial_id in {run.data.tags["pretext.trial_id"] for run in shown}
    assert {run.data.tags["phase"] for run in shown} == {"search"}
    assert len(view["selectedColumns"]) == 10
    parallel = view["compareRunCharts"][0]
    assert parallel["type"] == "PARALLEL"
    assert parallel["selectedParams"] == ["lr", "augmentation_strength", "batch_size"]
    assert parallel["selectedMetrics"] == ["probe/knn"]  # what this study's search optimizes
    own, *others = view["compareRunSections"]
    assert {chart["metricSectionId"] for chart in view["compareRunCharts"]} == {own["uuid"]}
    assert not any(section["display"] for section in others)
    assert view["compareRunCharts"][-1]["selectedMetricKeys"] == ["probe/knn", "probe/knn_chance"]


def test_the_view_of_the_study_holds_its_phases_with_their_headlines(synced: str) -> None:
    view = saved_views(synced)["Study"]
    shown = MlflowClient(tracking_uri=synced).search_runs(["1"], view["searchFilter"])
    assert {run.info.run_name for run in shown} == {"small-data", "search", "confirm"}
    assert "attributes.`Description`" in view["selectedColumns"]


def test_study_and_phases_carry_numbers_and_say_the_result_first(synced: str) -> None:
    runs = runs_by_key(synced)
    study, search = runs["study"].data, runs["search"].data
    assert study.tags["mlflow.note.content"].startswith(HEADLINE)
    assert (study.metrics["trials"], study.metrics["failed"]) == (4, 1)
    assert (search.metrics["trials"], search.metrics["failed"], search.metrics["stopped"]) == (3, 1, 1)
    assert search.metrics["best/rotation"] == pytest.approx(250.04)  # the last knn of the chosen trial
    note = search.tags["mlflow.note.content"]
    assert "| rotation | 0.001 | 128 | 0.5 | probe/knn | 250 |" in note
    assert "{" not in note


def test_chance_is_a_line_beside_the_metric_and_not_a_curve_of_the_analysis(synced: str) -> None:
    client, run = MlflowClient(tracking_uri=synced), runs_by_key(synced)[trial(0).trial_id]
    line = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "val/accuracy_chance")]
    assert line == [(0, 0.25), (250, 0.25)]
    curves = analysis.load(synced, study="small-data").curves
    assert not any(map(is_chance_level, curves["metric"]))
    assert "health/rankme" in set(curves["metric"])


def test_validation_and_probes_come_before_the_health_of_the_features(synced: str) -> None:
    sections = sorted({name.rpartition("/")[0] for name in runs_by_key(synced)[trial(0).trial_id].data.metrics} - {""})
    assert sections == ["probe", "probe/shapes", "train", "val", "val_health"]


def test_a_study_of_an_earlier_version_gets_the_current_names_with_its_next_delivery(folder: Path, synced: str) -> None:
    client, runs = MlflowClient(tracking_uri=synced), runs_by_key(synced)
    old, search = runs[trial(0).trial_id].info.run_id, runs["search"].info.run_id
    client.update_run(old, name="rotation lr=0.001 aug=0.50 bs=128 seed=0")
    client.delete_tag(old, "task")
    client.log_metric(old, "health/rankme", 25.09, step=25)  # the name of earlier versions
    client.set_tag(search, "mlflow.parentRunId", runs["study"].info.run_id)
    kept = json.loads((folder / "mlflow.json").read_text())
    (folder / "mlflow.json").write_text(
        json.dumps({name: kept[name] for name in kept if name not in ("layout", "views")})
    )
    sync(folder, synced)
    run = client.get_run(old)
    assert run.info.run_name == "lr=0.001 aug=0.50 bs=128 rotation s0"
    assert run.data.tags["task"] == "rotation"
    assert "mlflow.parentRunId" not in client.get_run(search).data.tags
    assert stored_points(synced).total() == STUDY_POINTS + 1
    assert mlflow_pages(folder, synced).views
    curves = analysis.load(synced, study="small-data").curves
    assert len(curves.query(f"trial_id == '{trial(0).trial_id}' and metric == 'health/rankme'")) == 10
