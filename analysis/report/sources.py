"""Sources: the frames behind the report's figures, under the names that its script gives them."""

from __future__ import annotations

from functools import cached_property

from analysis.data.tables import last_values
from analysis.findings import Findings
from analysis.report.pictures import Shown, call


class Sources:
    """The frames of a study and its findings, each with the Python expression for it.

    Args:
        findings: The findings, with their study.
        prefix: Expression before `study` and the findings, such as `part.`; empty for the script of one study.
        name: Name of the findings in that script.
    """

    def __init__(self, findings: Findings, prefix: str = "", name: str = "findings") -> None:
        study, found = findings.study, f"{prefix}{name}"
        self.findings = Shown(findings, found)
        self.runs = Shown(study.runs, f"{prefix}study.runs")
        self.tested = Shown(study.tested, f"{prefix}study.tested")
        self.curves = Shown(study.curves, f"{prefix}study.curves")
        self.verdicts = Shown(findings.verdicts, f"{found}.verdicts")
        self.ablated = Shown(findings.ablated, f"{found}.ablated")
        self.effects = Shown(findings.effects, f"{found}.effects")
        self.synergy = Shown(findings.synergy, f"{found}.synergy")
        self.differences = Shown(findings.differences, f"{found}.differences")

    @cached_property
    def last(self) -> Shown:
        """`study.runs` with the last value of every metric."""
        return call(last_values, self.runs, self.curves)
