"""Sources: the frames that the report's figures are drawn from, under the names that its script gives them."""

from __future__ import annotations

from functools import cached_property

from analysis.data.tables import last_values
from analysis.findings.findings import Findings
from analysis.report.pictures import Shown, call


class Sources:
    """The frames of a study and what was found in it, each with the Python that makes it again."""

    def __init__(self, findings: Findings) -> None:
        study = findings.study
        self.findings = Shown(findings, "findings")
        self.runs = Shown(study.runs, "study.runs")
        self.curves = Shown(study.curves, "study.curves")
        self.verdicts = Shown(findings.verdicts, "findings.verdicts")
        self.ablated = Shown(findings.ablated, "findings.ablated")
        self.effects = Shown(findings.effects, "findings.effects")
        self.synergy = Shown(findings.synergy, "findings.synergy")
        self.differences = Shown(findings.differences, "findings.differences")

    @cached_property
    def last(self) -> Shown:
        """`study.runs` with the last value of every metric."""
        return call(last_values, self.runs, self.curves)
