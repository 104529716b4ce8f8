"""Several studies compared with the first: what differs in their configurations, and their test-split results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.comparisons.cells import KEY
from analysis.comparisons.designs import COMPARED_DTYPES, SEED_DTYPES, Compared, Metric, compare
from analysis.comparisons.settings import different_settings
from analysis.comparisons.unpaired_effects import OTHER_IMAGES, unpaired_effects
from analysis.data import tables
from analysis.data.classes import comparison_columns
from analysis.data.load import load
from analysis.data.per_image import PerImage
from analysis.data.study import Study
from analysis.records.phases import CONFIRM
from trainables.errors import UserError
from trainables.trial import RANDOM_INIT, RAW_PIXELS

__all__ = ["OTHER_IMAGES", "SAME_IMAGES", "UNTRAINED", "StudyComparison", "compare_studies"]

SAME_IMAGES = "same images"
UNTRAINED = "untrained"  # value of the column `task` for untrained encoders
SEPARATOR = "#"  # between a tracking URI and the name of a study on it


@dataclass(frozen=True, eq=False)
class StudyComparison:
    """Studies compared with the first of them.

    Attributes:
        studies: The studies by the names that the frames use; the first is the baseline.
        settings: What differs: columns kind (`setting`, `chosen`, `data` or `software`), name, and one per study.
        effects: Effects of the other studies, columns COMPARED_DTYPES. The cells are the studies. The design is
            SAME_IMAGES for pairs of seeds evaluated on the same images, and OTHER_IMAGES for independent means.
        differences: Paired differences behind the effects on the same images, columns SEED_DTYPES.
        margin: The smallest difference that matters; None if equivalence was not tested.
    """

    studies: Mapping[str, Study]
    settings: pd.DataFrame
    effects: pd.DataFrame
    differences: pd.DataFrame
    margin: float | None

    @property
    def baseline(self) -> str:
        """Name of the study that the others are compared with."""
        return next(iter(self.studies))


def compare_studies(
    *sources: str | Path | Study, metric: str | None = None, margin: float | None = None
) -> StudyComparison:
    """Compare studies with the first one: their configurations, and their chosen encoders on the test split.

    Results are paired where the fingerprints of the data are equal, so that both studies were evaluated on the same
    images. Seeds that both have are paired with each other, and the others in their order: seeds are independent
    draws, so any pairing is valid, and a shared initialization only makes the interval shorter. On other images, the
    two means are independent samples of seeds and images. A task that was not probed on a test split is compared by
    the metric that its configuration was chosen by, on the validation split.

    Args:
        sources: At least two: folders, `URI#NAME` for a study on a tracking server, or loaded studies.
        metric: A final result, for example `probe/cifar10/knn`; None for those of the report.
        margin: The smallest difference that matters, in the metrics' units; None for the margin of the first study.

    Raises:
        UserError: A source is not a study, there are fewer than two, or none has the metric on its test split.
    """
    if len(sources) < 2:
        raise UserError("compare needs at least two studies, for example studies/quick studies/quick-wide")
    studies = _named(sources)
    if margin is None:
        margin = next(iter(studies.values())).config.get("ablate", {}).get("margin")
    per_image = PerImage(lambda key: _packed(studies, key))
    found: list[Compared] = [(_empty(COMPARED_DTYPES), _empty(SEED_DTYPES))]
    for own, measure in _measured(studies, metric):
        found += _compared(own, studies, measure, margin, per_image)
    effects, seeds = (pd.concat(frames, ignore_index=True) for frames in zip(*found, strict=True))
    return StudyComparison(studies, different_settings(studies), effects, seeds, margin)


def _named(sources: Sequence[str | Path | Study]) -> dict[str, Study]:
    """Load the studies; return them by name, or by name and place in the list where a name occurs twice."""
    loaded = [each if isinstance(each, Study) else _load(str(each)) for each in sources]
    names = [each.name for each in loaded]
    unique = [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names, start=1)]
    return dict(zip(unique, loaded, strict=True))


def _load(source: str) -> Study:
    uri, separator, name = source.rpartition(SEPARATOR)
    if separator and "://" in uri and not Path(source).exists():
        return load(uri, name)
    return load(source)


def _packed(studies: Mapping[str, Study], key: str) -> Mapping[str, str]:
    name, _, trial_id = key.rpartition("/")
    return studies[name].per_image.packed(trial_id)


def _empty(dtypes: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(dtypes)).astype(dict(dtypes))


def _measured(studies: Mapping[str, Study], wanted: str | None) -> Iterator[tuple[pd.DataFrame, Metric]]:
    """Yield the runs of each task, one cell per study, with each metric that compares them."""
    tested = pd.concat([_tested(name, study) for name, study in studies.items()], ignore_index=True)
    if wanted is not None and (wanted not in tested or not tables.is_final_result(wanted)):
        known = ", ".join(comparison_columns(tested)) or "none"
        raise UserError(f"metric = {wanted!r}: not a result on the test split of these studies; there are: {known}")
    columns = comparison_columns(tested) if wanted is None else [wanted]
    probed = set()
    for task, own in tested.groupby("task", sort=False):
        for column in (name for name in columns if own[name].notna().any()):
            probed.add(task)
            yield own, Metric(column, "max")
    chosen = pd.concat([_chosen(name, study) for name, study in studies.items()], ignore_index=True)
    for (task, column, mode), own in chosen.groupby(["task", "metric", "metric_mode"], sort=False):
        if wanted is None and task not in probed:
            yield own.reset_index(drop=True), Metric(str(column), "min" if mode == "min" else "max")


def _tested(name: str, study: Study) -> pd.DataFrame:
    runs = study.tested.loc[study.tested["task"] != RAW_PIXELS]
    return _as_cell(name, runs.assign(task=runs["task"].replace(RANDOM_INIT, UNTRAINED)))


def _chosen(name: str, study: Study) -> pd.DataFrame:
    """Return the runs of the chosen configurations at their last report, with the metric that they were chosen by."""
    runs = tables.last_values(study.runs, study.curves)
    choices = study.outcomes.get(CONFIRM, {}).get("chosen", {})
    frames = [
        runs.loc[runs["trial_id"].isin(choice["trial_ids"])].assign(
            metric=choice["metric"] if choice["metric"] in runs else tables.LAST + choice["metric"],
            metric_mode=choice["mode"],
        )
        for choice in choices.values()
    ]
    return _as_cell(name, pd.concat(frames) if frames else runs.iloc[:0].assign(metric="", metric_mode=""))


def _as_cell(name: str, runs: pd.DataFrame) -> pd.DataFrame:
    return runs.assign(cell=name, trial_id=f"{name}/" + runs["trial_id"].astype(str))


def _compared(
    runs: pd.DataFrame, studies: Mapping[str, Study], metric: Metric, margin: float | None, per_image: PerImage
) -> Iterator[Compared]:
    """Yield the effects of one task: first of the studies with the baseline's images, then of those with others.

    Only studies with a value take part: the others did not measure the metric, and no seed of theirs failed.
    """
    baseline, *others = studies
    reference = runs.loc[runs["cell"] == baseline]
    measured = set(runs.loc[runs[metric.column].notna(), "cell"])
    cells = [name for name in others if name in measured] if baseline in measured else []
    same = [name for name in cells if _same_images(studies[baseline], studies[name], runs, metric.column)]
    task = runs["task"].iloc[0]
    if same:
        own = [_with_seeds_of(runs.loc[runs["cell"] == name], reference) for name in same]
        designs = pd.DataFrame([(task, SAME_IMAGES, name, baseline) for name in same], columns=KEY, dtype="str")
        yield compare(pd.concat([reference, *own], ignore_index=True), designs, metric, margin, per_image)
    if rest := [name for name in cells if name not in same]:
        rows = unpaired_effects(runs.loc[runs["cell"].isin([baseline, *rest])], metric, baseline, per_image)
        yield rows, _empty(SEED_DTYPES)


def _same_images(one: Study, other: Study, runs: pd.DataFrame, column: str) -> bool:
    """Whether a metric of two studies is on the same images, which the fingerprints of the data tell."""
    final = tables.is_final_result(column)
    name = tables.dataset_of(column, one.datasets) if final else runs["dataset"].iloc[0]
    known = [study.datasets.get(name, {}).get("fingerprint") for study in (one, other)]
    return known[0] is not None and known[0] == known[1]


def _with_seeds_of(runs: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """Return runs whose seeds that the reference lacks are replaced, in order, by the reference's unused seeds."""
    own, theirs = sorted(runs["seed"]), sorted(reference["seed"])
    free = [seed for seed in theirs if seed not in own]
    lacking = [seed for seed in own if seed not in theirs]
    renamed = dict(zip(lacking, free, strict=False))
    return runs.assign(seed=runs["seed"].replace(renamed))
