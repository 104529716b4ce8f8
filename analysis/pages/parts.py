"""One part of a series: a study, its findings, and the images that it read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from analysis.data.classes import comparison_columns
from analysis.data.study import Study
from analysis.findings import Findings, compute_findings
from analysis.report.pictures import Shown

N_SHOWN = 4  # images per picture of a data set


@dataclass(frozen=True)
class Part:
    """A part of a series.

    Attributes:
        name: Name of the part in the series, and of its variable in the page's script.
        study: Results of the part.
    """

    name: str
    study: Study

    @cached_property
    def findings(self) -> Findings:
        """Findings in which the pretext metric compares an ablation's cells if the training images have no labels."""
        return compute_findings(self.study)

    @property
    def probed(self) -> str:
        """Column of the linear probe at the end of the ablation's cells; empty if they have none."""
        ablated = self.findings.ablated
        columns = [name for name in comparison_columns(ablated) if not name.endswith("/miou")]
        return next((name for name in columns if ablated[name].notna().any()), "")

    @cached_property
    def findings_by_probe(self) -> Findings:
        """The same findings, with `probed` as the metric that compares an ablation's cells."""
        return compute_findings(self.study, metric=self.probed)

    @property
    def heads(self) -> dict[str, Findings]:
        """Findings by the pretext head and, if the ablation's cells are probed, by the probe head."""
        return {"pretext": self.findings} | ({"probe": self.findings_by_probe} if self.probed else {})

    def shown(self, *names: str) -> Shown:
        """Return a nested attribute, such as `study`, `runs`, together with the Python expression for it."""
        value: object = self
        for name in names:
            value = getattr(value, name)
        return Shown(value, ".".join([self.name, *names]))
