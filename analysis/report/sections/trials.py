"""Every trial with its verdict and its MLflow run, and the study's files beside the page."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from analysis.convergence import CATALOG
from analysis.data.classes import comparison_columns
from analysis.findings import Findings
from analysis.records.layout import (
    CONFIG_FILE,
    CURVES_FILE,
    EFFECTS_FILE,
    JOURNAL_FILE,
    MLFLOW_FILE,
    PER_IMAGE_FILE,
    RECOMMENDED_FILE,
    RUNS_FILE,
    VERDICTS_FILE,
)
from analysis.records.phases import short_seed
from analysis.report.blocks import Block, Files, Folded, Table, Text
from analysis.report.text import Link
from analysis.report.words import NONE, count, metric_words, number

FILES = (  # raw results in the folder of a study
    *(RUNS_FILE, CURVES_FILE, PER_IMAGE_FILE, VERDICTS_FILE, EFFECTS_FILE),
    *(RECOMMENDED_FILE, CONFIG_FILE, JOURNAL_FILE),
)
MLFLOW_URI = "MLFLOW_TRACKING_URI"
MOST_TRIALS = 500  # rows of the table of trials


@dataclass(frozen=True)
class Beside:
    """What is beside the page.

    Attributes:
        names: Files of the study in the page's folder.
        runs: MLflow run id by trial id.
        address: Address of a run in MLflow, without its id; empty if no server is known.
    """

    names: list[str] = field(default_factory=list)
    runs: Mapping[str, str] = field(default_factory=dict)
    address: str = ""

    def files(self) -> list[Block]:
        """Return links to the files."""
        return [Files("The data of this page:", self.names)] if self.names else []

    def run(self, trial_id: str) -> str:
        """Return the MLflow run of a trial, as a link if its server is known."""
        run_id = self.runs.get(trial_id, "")
        return Link(run_id[:8], self.address + run_id) if run_id and self.address else run_id[:8] or NONE


def find_beside(folder: Path, tracking_uri: str = "") -> Beside:
    """Return the study's files in a folder, and its runs in MLflow.

    Runs become links only if the tracking URI names a server to which the study was delivered.

    Args:
        folder: Folder of the page.
        tracking_uri: MLflow store of the study; by default the environment variable `MLFLOW_TRACKING_URI`.
    """
    uri = tracking_uri or os.environ.get(MLFLOW_URI, "")
    names = [name for name in FILES if (folder / name).exists()]
    try:
        state = json.loads((folder / MLFLOW_FILE).read_text(encoding="utf-8"))
        runs = {key.removeprefix("trial/"): str(run) for key, run in state["runs"].items() if key.startswith("trial/")}
        is_its_store = state["store"] == hashlib.sha256(uri.encode()).hexdigest()[:16]
        experiment = str(state["experiment_id"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError):  # a study without MLflow, or a damaged cache
        return Beside(names)
    if not is_its_store or not uri.startswith(("http://", "https://")):
        return Beside(names, runs)
    server = urlsplit(uri)._replace(query="", fragment="")
    public = server._replace(netloc=server.netloc.rpartition("@")[2]).geturl().rstrip("/")
    return Beside(names, runs, f"{public}/#/experiments/{experiment}/runs/")


def every_trial(findings: Findings, beside: Beside) -> list[Block]:
    """Return a folded table of all trials: settings, ending, result and MLflow run."""
    runs = findings.study.runs
    if runs.empty:
        return []
    verdicts = findings.verdicts.set_index("trial_id")["verdict"].map(lambda name: CATALOG[name].label).to_dict()
    columns = [name for name in comparison_columns(runs) if name in runs]
    shown = runs.head(MOST_TRIALS)
    rows = [
        [
            *(row["trial_id"], row["phase"], row["task"], row["cell"] or NONE, str(short_seed(row["seed"]))),
            *(verdicts.get(row["trial_id"], row["status"].lower()), f"{row['lr']:.3g}" if row["steps"] else NONE),
            *(number(row[name]) for name in columns),
            *([beside.run(row["trial_id"])] if beside.runs else []),
        ]
        for _, row in shown.iterrows()
    ]
    head = ["trial", "phase", "task", "cell", "seed", "ended", "lr", *map(metric_words, columns)]
    head += ["MLflow run"] if beside.runs else []
    hidden = len(runs) - len(shown)
    note = f" {count(hidden)} more are in runs.parquet." if hidden else ""
    caption = (
        f"Every trial with its final probe, if it has one, on validation or, in the evaluate phase, on test.{note}"
    )
    where = []
    if beside.runs and not beside.address:
        where = [Text("To find a trial in MLflow, search its runs for `tags.\"pretext.trial_id\" = 'TRIAL'`.")]
    return [Folded(f"Every trial ({count(len(runs))})", [*where, Table(caption, head, rows, 6)])]
