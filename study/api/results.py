"""`StudyResult`: a study that has run, with its frames, findings, report and encoders."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import escape

import analysis
from analysis.convergence import verdicts
from analysis.data.study import SIMULATED
from analysis.findings import Findings, compute_findings
from analysis.records import FAILED
from analysis.records.layout import REPORT_FILE
from analysis.records.phases import CONFIRM
from analysis.report.plain import Answer, answer, gain_cells
from analysis.report.text import markup
from study.export.pretrained import PretrainedEncoder, load_pretrained
from trainables import files


class StudyResult:
    """A study that has run. Frames and findings are computed at their first use; a notebook shows the answer.

    Args:
        path: The study's folder.
        study: The study, as `analysis.load` returns it.

    Attributes:
        path: The study's folder.
        study: The study, which every function in `analysis` takes.
    """

    def __init__(self, path: Path, study: analysis.Study) -> None:
        self.path, self.study = path, study

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.study.name

    @property
    def config(self) -> Mapping[str, Any]:
        """The study's configuration as plain data; `study.config(result.config)` makes it a StudyConfig."""
        return self.study.config

    @property
    def report(self) -> Path:
        """Path of the report, an HTML page."""
        return self.path / REPORT_FILE

    @property
    def runs(self) -> pd.DataFrame:
        """One row per trial."""
        return self.study.runs

    @property
    def curves(self) -> pd.DataFrame:
        """One row per trial, step and metric."""
        return self.study.curves

    @property
    def failed(self) -> list[str]:
        """Ids of the trials that failed."""
        return self.runs.loc[self.runs["status"] == FAILED, "trial_id"].tolist()

    @property
    def chosen(self) -> Mapping[str, Any]:
        """Per task, the configuration that the confirm phase chose, with its values and seeds."""
        return self.study.outcomes.get(CONFIRM, {}).get("chosen", {})

    @functools.cached_property
    def verdicts(self) -> pd.DataFrame:
        """One row per trial that trained: its verdict, evidence and cure, as from `analysis.convergence.verdicts`."""
        return verdicts(self.runs, self.curves, self.study.plugins)

    @functools.cached_property
    def findings(self) -> Findings:
        """Everything that the report states."""
        return compute_findings(self.study)

    @property
    def effects(self) -> pd.DataFrame:
        """Each comparison with its difference, interval, p-value and answer."""
        return self.findings.every_effect

    @functools.cached_property
    def answer(self) -> Answer:
        """What the study answers: the first sentences of the report, and the gain of each task."""
        return answer(self.findings, self.path)

    def encoder(self, task: str) -> PretrainedEncoder:
        """Return the encoder of a task's best confirmed trial, as a network that can be trained on.

        Args:
            task: Name of a task of the study.

        Raises:
            ConfigError: The study has no encoder of this task, for example since its trials are simulated.
            UserError: Its files cannot be read.
        """
        return load_pretrained(self.path, task)

    def __repr__(self) -> str:
        sentences = [sentence.replace("**", "").replace("`", "") for sentence in self._sentences()]
        return "\n".join([f"{self.name}: {len(self.runs)} trials, {self.path}", *sentences])

    def _repr_html_(self) -> str:
        parts = [f"<p>{markup(sentence)}</p>" for sentence in self._sentences()]
        rows = [gain_cells(row) for row in self.answer.gains.rows.to_dict("records")]
        if rows:
            parts.append(pd.DataFrame(rows).to_html(index=False))
        return "".join([*parts, f"<p>report: <code>{escape(self.report)}</code></p>"])

    def _sentences(self) -> list[str]:
        found = self.answer
        return [*([SIMULATED] if found.simulated else []), *found.sentences, *filter(None, [found.cure])]


def load(path: str | Path) -> StudyResult:
    """Return a study that has been run before.

    The study's plug-ins are run: load only studies of people whom you trust.

    Args:
        path: The study's folder.

    Raises:
        UserError: There is no study in this folder.
    """
    folder = files.expanded(path)
    return StudyResult(folder, analysis.load(folder))
