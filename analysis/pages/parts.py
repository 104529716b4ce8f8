"""One part of a series: a study, what was found in it, and the images that it is about."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.data.study import Study
from analysis.findings import queries
from analysis.findings.findings import Findings, compute_findings
from analysis.report.pictures import Shown
from trainables.errors import UserError
from trainables.trial import TrialConfig

if TYPE_CHECKING:
    from trainables.data import ImageTable
    from trainables.tasks import PretextTask

N_SHOWN = 4  # images of a data set
READ = 32  # images of which those are the first


@dataclass(frozen=True)
class Part:
    """A part of a series: its name there, which its code in the page's script has too, and its results."""

    name: str
    study: Study

    @cached_property
    def found(self) -> Findings:
        """What was found, each ablation judged by its pretext task where the training images have no labels."""
        return compute_findings(self.study)

    @property
    def probed(self) -> str:
        """The column of the linear probe that the ablation's cells end with; empty where they have none."""
        ablated = self.found.ablated
        columns = [name for name in ablated if name.startswith("probe/") and name.endswith("/linear")]
        return next((name for name in columns if ablated[name].notna().any()), "")

    @cached_property
    def found_by_probe(self) -> Findings:
        """The same findings with each ablation judged by that linear probe."""
        return compute_findings(self.study, metric=self.probed)

    @property
    def heads(self) -> dict[str, Findings]:
        """What was found of the pretext head and, where cells are probed, of the probe head."""
        return {"pretext": self.found} | ({"probe": self.found_by_probe} if self.probed else {})

    def shown(self, *names: str) -> Shown:
        """Return what the attributes lead to, such as `study`, `runs`, with the Python that makes it again."""
        value: object = self
        for name in names:
            value = getattr(value, name)
        return Shown(value, ".".join([self.name, *names]))


def chosen_task(part: Part, task: str) -> PretextTask:
    """Return the pretext task as the part's confirmed configuration has it, untrained."""
    from trainables.training.loop import build_task  # torch takes seconds

    chosen = queries.chosen(part.found)
    if task not in chosen:
        raise UserError(f"{part.study.name}: nothing is chosen for {task} yet")
    trial = TrialConfig.from_dict(chosen[task]["config"])
    return build_task(trial, part.study.datasets[trial.dataset]["image_size"])


def images_of(part: Part, dataset: str) -> ImageTable:
    """Return the first training images of a data set as the part's study read them.

    Raises UserError where they cannot be read again, or were simulated.
    """
    from trainables.data import load_splits

    config = part.study.config
    if config.get("simulate"):
        raise UserError(f"{part.study.name} was simulated: it has no images")
    root = config.get("data_root")
    own = dataset == config["dataset"]
    splits = load_splits(
        dataset,
        root=Path(root) if root else None,
        image_size=config["image_size"] if own else None,
        max_train=READ,
        seed=config["seed"],
        resize=config["resize"] if own else "crop",
    )
    return splits.pretext_train
