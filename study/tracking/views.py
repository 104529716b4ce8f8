"""Saved views of a study's runs in MLflow: filter, columns and charts, kept as tags of the experiment.

MLflow has no public function for them. What it reads is what its own page writes under "Views", tried with MLflow 3.17.
An MLflow that does not know them ignores the tags.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd

from analysis.data.mlflow_names import CHANCE_ENDING, in_mlflow
from analysis.data.tables import chance_column, level_names
from analysis.records.phases import ABLATE, EVALUATE, SEARCH
from study.tracking.summaries import MEAN

VIEW_TAG = "mlflow.sharedViewState."
NAME_WIDTH, TEXT_WIDTH, CARD_HEIGHT = 330, 330, 480  # pixels of the columns with names and descriptions, of a chart
PARALLEL_PARAMS = ("lr", "augmentation_strength", "batch_size")
DURATION, DESCRIPTION = "attributes.`Duration`", "attributes.`Description`"
_CHARTS = "charts"  # key of the section with a view's own charts; those that MLflow adds follow it


@dataclass(frozen=True)
class View:
    """One saved view.

    Attributes:
        key: Its key, unique within the experiment.
        name: Its name in the menu "Views".
        runs: MLflow's filter of the runs that it shows.
        columns: Columns of the table beside the name, as MLflow spells them.
        charts: Charts, each as the fields that differ from MLflow's defaults.
        order_by: Column to sort by.
        ascending: Whether the smallest value is first.
        group_by: Tag whose groups of runs are averaged; None for single runs.
        groups: Values of that tag. The groups are shown closed, one row each.
        closed: Sections of MLflow's own charts, which are shown closed.
        name_width: Width of the column with the runs' names, in pixels.
    """

    key: str
    name: str
    runs: str
    columns: Sequence[str]
    charts: Sequence[dict[str, Any]]
    order_by: str
    ascending: bool = False
    group_by: str | None = None
    groups: Sequence[str] = ()
    closed: Sequence[str] = ()
    name_width: int = NAME_WIDTH

    @property
    def query(self) -> str:
        """The part of the page's address that opens the view, with its charts if it has any."""
        mode = "CHART" if self.charts else "TABLE"
        return f"compareRunsMode={mode}&viewStateShareKey={quote(self.key)}"

    def tag(self, created_ms: int) -> tuple[str, str]:
        """Return the name and the value of the experiment's tag that keeps the view.

        Args:
            created_ms: Time that MLflow shows beside the view's name, in ms since the epoch.
        """
        state = "deflate;" + base64.b64encode(zlib.compress(json.dumps(self._state()).encode(), 9)).decode()
        envelope = {"name": self.name, "createdAt": created_ms, "updatedAt": created_ms, "state": state}
        return VIEW_TAG + self.key, json.dumps(envelope)

    def _state(self) -> dict[str, Any]:
        groups = [{"mode": "tag", "groupByData": self.group_by}]
        own = _section(_CHARTS, self.name) | {"columns": 1, "cardHeight": CARD_HEIGHT}
        # MLflow draws a chart of every metric. Closed, its sections cost nothing until they are wanted.
        others = [_section(name, name, display=False) for name in self.closed]
        return {
            "searchFilter": self.runs,
            "orderByKey": self.order_by,
            "orderByAsc": self.ascending,
            "startTime": "ALL",
            "lifecycleFilter": "Active",
            "modelVersionFilter": "All Runs",
            "datasetsFilter": [],
            "selectedColumns": list(self.columns),
            "columnOrder": ["attributes.`Run Name`", *self.columns],
            "columnWidths": {"attributes.`Run Name`": self.name_width, DESCRIPTION: TEXT_WIDTH},
            "runsExpanded": {},
            "runsPinned": [],
            "runsHidden": [],
            "runsVisibilityMap": {},
            "runsHiddenMode": "SHOW_ALL",
            "compareRunCharts": [_chart(number, chart) for number, chart in enumerate(self.charts)],
            "compareRunSections": [own, *others],
            "isAccordionReordered": True,
            "viewMaximized": False,
            "runListHidden": False,
            "groupBy": {"aggregateFunction": "average", "groupByKeys": groups} if self.group_by else None,
            "groupsExpanded": {f"tag.{self.group_by}.{group}": False for group in self.groups},
            "useGroupedValuesInCharts": True,
            "hideEmptyCharts": True,
            "autoRefreshEnabled": False,
        }


def study_views(runs: pd.DataFrame, probe: str, online: str, *, mode: str, journal: int) -> list[View]:
    """Return the views of a study that has ended.

    Args:
        runs: The study's trials, one row each.
        probe: Result of the final probe by which tasks are compared, such as `probe/shapes/linear`.
        online: Metric by which the search chooses.
        mode: `max` or `min`, the better direction of `online`.
        journal: Number in `pretext.journal` of the study's runs; an earlier study of the same name has another.
    """
    own = f"tags.`pretext.journal` = '{journal}'"
    trials = f"params.phase = '{{}}' and {own}"
    settings = [_param(name) for name in PARALLEL_PARAMS]
    curves = [_metric(name) for name in ("val/accuracy", "val/loss", "train/loss")]
    dataset, _, final = probe.rpartition("/")
    tasks = list(runs["task"].unique())
    closed = (
        "probe",
        in_mlflow(dataset),
        in_mlflow(f"{dataset}/iou"),
        "train",
        "val",
        "val_health",
        "Model metrics",
        "System metrics",
    )
    ablated = runs[runs["phase"] == ABLATE]
    study = View(
        *("study", "Study", f"tags.`pretext.kind` != 'trial' and {own}"),
        columns=[
            DESCRIPTION,
            *(_metric(f"{MEAN}{task}") for task in tasks),
            *map(_metric, ("trials", "failed")),
        ],
        charts=[],
        name_width=NAME_WIDTH // 2,
        order_by="attributes.start_time",
        ascending=True,
    )
    compare = View(
        *("compare-tasks", "Compare tasks", trials.format(EVALUATE)),
        columns=[_metric(probe), _metric(f"{dataset}/{level_names(final)[0]}"), _metric(f"{dataset}/knn")],
        charts=[_bar(probe)],
        order_by=_metric(probe),
        group_by="task",
        groups=tasks,
        closed=closed,
    )
    search = View(
        *("search", "Search", trials.format(SEARCH)),
        columns=[_metric(online), *settings, _tag("task"), _tag("verdict"), *curves, DURATION],
        charts=[
            _parallel(online),
            _scatter("lr", online),
            _scatter("augmentation_strength", online),
            _lines(online, chance_column(online).removeprefix("chance/") + CHANCE_ENDING),
        ],
        order_by=_metric(online),
        ascending=mode == "min",
        closed=closed,
    )
    ablation = View(
        *("ablation", "Ablation", trials.format(ABLATE)),
        columns=[_metric(online), *curves, _tag("task"), _tag("cell"), _tag("verdict"), *settings],
        charts=[_bar(online)],
        order_by=_tag("group"),  # MLflow loads 100 runs at a time, so the seeds of a cell come together
        ascending=True,
        group_by="group",
        groups=list((ablated["task"] + " " + ablated["cell"]).unique()),
        closed=closed,
    )
    return [study, compare, search, *([ablation] if len(ablated) else [])]


def _chart(number: int, chart: dict[str, Any]) -> dict[str, Any]:
    uuid = f"{_CHARTS}-{number}"
    return {"uuid": uuid, "metricSectionId": _CHARTS, "deleted": False, "isGenerated": False, **chart}


def _bar(metric: str) -> dict[str, Any]:
    return {"type": "BAR", "metricKey": in_mlflow(metric), "runsCountToCompare": 100}


def _section(uuid: str, name: str, *, display: bool = True) -> dict[str, Any]:
    return {"uuid": uuid, "name": name, "display": display, "isReordered": True, "deleted": False}


def _lines(*metrics: str) -> dict[str, Any]:
    keys = [in_mlflow(metric) for metric in metrics]
    return {"type": "LINE", "metricKey": keys[0], "selectedMetricKeys": keys, "runsCountToCompare": 10}


def _parallel(metric: str) -> dict[str, Any]:
    selected = {"selectedParams": list(PARALLEL_PARAMS), "selectedMetrics": [in_mlflow(metric)]}
    return {"type": "PARALLEL", "showAllRuns": True, "runsCountToCompare": 300, **selected}


def _scatter(param: str, metric: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": param, "type": "PARAM"}, "yaxis": {"key": in_mlflow(metric), "type": "METRIC"}}
    return {"type": "SCATTER", "runsCountToCompare": 300, **axes}


def _param(name: str) -> str:
    return f"params.`{name}`"


def _metric(name: str) -> str:
    return f"metrics.`{in_mlflow(name)}`"


def _tag(name: str) -> str:
    return f"tags.`{name}`"
