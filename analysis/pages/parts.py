"""One part of a series: a study, its findings, and the images that it read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.data.classes import comparison_columns
from analysis.data.study import Study
from analysis.findings import Findings, compute_findings, queries
from analysis.report.pictures import Shown
from trainables.errors import UserError
from trainables.trial import TrialConfig

if TYPE_CHECKING:
    from trainables.data import ImageTable
    from trainables.tasks import PretextTask

N_SHOWN = 4  # images per picture of a data set
N_READ = 32  # images read from disk; the first N_SHOWN of them are drawn


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


def chosen_task(part: Part, task: str) -> PretextTask:
    """Build the pretext task, untrained, with the options of the part's confirmed configuration.

    Raises:
        UserError: If the part has not confirmed a configuration of `task`.
    """
    from trainables.training.loop import build_task  # imports torch, which takes seconds

    chosen = queries.chosen(part.findings)
    if task not in chosen:
        raise UserError(f"{part.study.name}: no configuration of {task} has been chosen yet")
    trial = TrialConfig.from_dict(chosen[task]["config"])
    return build_task(trial, part.study.datasets[trial.dataset]["image_size"])


def images_of(part: Part, dataset: str) -> ImageTable:
    """Read the first training images of a data set the way the part's study read them.

    Raises:
        UserError: If the images cannot be read on this machine, or the study was simulated.
    """
    from trainables.data import load_splits

    config = part.study.config
    if part.study.simulated:
        raise UserError(f"{part.study.name} was simulated: it has no images")
    root = config.get("data_root")
    own = dataset == config["dataset"]
    splits = load_splits(
        dataset,
        root=Path(root) if root else None,
        image_size=config["image_size"] if own else None,
        max_train=N_READ,
        seed=config["seed"],
        resize=config["resize"] if own else "crop",
    )
    return splits.pretext_train
