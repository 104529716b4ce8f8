"""Train one trial of a study again, in a study of its own: with the same seed to repeat it, or with another one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from analysis import records
from analysis.data.frames import export
from analysis.records import FAILED, FINISHED, KILLED, PhaseStarted, Report, StudyEnded
from analysis.records.phases import ABLATE, SEARCH
from study.config.schema import FORMER_RULES, StudyConfig
from study.config.validation import check_config
from study.driver import load_datasets
from study.execution import cluster, resources
from study.execution.executor import Executor
from study.execution.journal import Journal
from study.execution.lock import DriverLock
from study.folder import changed_data, check_same_study, open_folder
from study.plan.history import History, TrialRecord
from study.plan.phases import Plan
from study.provenance import study_started
from trainables import plugins
from trainables.errors import ConfigError, UserError
from trainables.trial import TrialConfig

CLOCK = "images_per_s"  # the one metric that depends on the time and not on the trial alone
SHORTCUT = "shortcut/"  # prefix of metrics since version 0.2
MAX_NAME_LENGTH = 64  # characters of a study's name


@dataclass(frozen=True)
class Difference:
    """The first value in which two runs of a trial differ.

    Attributes:
        where: `step 40` or `final results`.
        metric: Name of the metric.
        before: Its value in the study; None if it is missing there.
        now: Its value now; None if it is missing.
    """

    where: str
    metric: str
    before: float | None
    now: float | None


@dataclass(frozen=True)
class Rerun:
    """A trial that was trained again.

    Attributes:
        folder: Folder of the study that the new run belongs to.
        before: The trial in the study.
        now: The new run.
        n_compared: Reports of both runs at the same steps.
        difference: The first difference; None if all compared values are equal to the bit. Only for the same seed.
    """

    folder: Path
    before: TrialRecord
    now: TrialRecord
    n_compared: int
    difference: Difference | None

    @property
    def is_repeated(self) -> bool:
        """Whether the new run has the configuration and the seed of the old one."""
        return self.before.trial == self.now.trial

    @property
    def differs(self) -> bool:
        """Whether the run should have repeated the trial and did not."""
        return self.is_repeated and (self.difference is not None or self.now.status == FAILED != self.before.status)


def rerun(folder: Path, trial_id: str, output: Path, *, seed: int | None = None, download: bool = False) -> Rerun:
    """Train one trial of a study again. The study itself is only read.

    The run is the single trial of the study `NAME-rerun-TRIAL` in `output`, which has the configuration of the study.
    Each seed is run once there; an interrupted run resumes.

    Args:
        folder: The study's folder.
        trial_id: Id of the trial, or its first digits.
        output: Where the study of the run is written.
        seed: Seed of the run; None for the trial's own. A trial of the ablation draws its images by its seed, and so
            does the run.
        download: Whether to download missing data sets.

    Raises:
        ConfigError: There is no such trial, it cannot be run by itself, it has been run again in `output`, or the
            data are not those of the study.
    """
    history = History.read(folder)
    before = _record(history, trial_id, folder)
    config = _config(folder, before.trial)
    plan = Plan(config, load_datasets(config, download=download), history.objectives)
    _check_data(plan, folder)
    trial = before.trial if seed is None else _with_seed(before.trial, seed)
    with DriverLock(output, config.name) as lock:
        check_same_study(config, output / config.name)
        target = open_folder(config, output)
        now = _run(plan, trial, target, lock)
    reports, again = (_reports(each, before_or_now) for each, before_or_now in ((folder, before), (target, now)))
    shared = [step for step in reports if step in again]
    same = before.trial == now.trial
    difference = _first_difference(before, now, reports, again) if same else None
    return Rerun(target, before, now, len(shared), difference)


def _record(history: History, trial_id: str, folder: Path) -> TrialRecord:
    found = [key for key in history.trials if key.startswith(trial_id)] if trial_id else []
    if len(found) != 1:
        problem = f"{len(found)} trials begin with {trial_id!r}" if found else f"no trial {trial_id!r}"
        raise ConfigError(f"{folder}: {problem}; `python -m analysis verdicts {folder}` lists the trials that trained")
    record = history.trials[found[0]]
    if record.trial.init_from:
        raise ConfigError(
            f"trial {found[0]} trains nothing: it probes the encoder of trial {record.trial.init_from}; rerun that one"
        )
    return record


def _config(folder: Path, trial: TrialConfig) -> StudyConfig:
    """Return the study's configuration under the name of the rerun."""
    began = records.started(folder)
    assert began is not None  # since it has a trial
    plugins.load_recorded(began.config.get("plugins") or [], folder)
    if trial.phase == SEARCH and began.config.get("search", {}).get("scheduler") == "pbt":
        raise ConfigError(
            f"trial {trial.trial_id} took states from other trials (search.scheduler: pbt), so it cannot be run alone"
        )
    suffix = f"-rerun-{trial.trial_id}"
    name = began.study[: MAX_NAME_LENGTH - len(suffix)] + suffix
    return check_config({**FORMER_RULES, **began.config, "name": name})


def _check_data(plan: Plan, folder: Path) -> None:
    for name, before, now in changed_data(folder, plan.datasets):
        raise ConfigError(
            f"{name}: the images are not those of the study (fingerprint {before}, now {now}), so its trials cannot be "
            "repeated; restore the files, or run a new study"
        )


def _with_seed(trial: TrialConfig, seed: int) -> TrialConfig:
    own_images = trial.phase == ABLATE and trial.data_seed == trial.seed
    return trial.replace(seed=seed, data_seed=seed if own_images else trial.data_seed)


def _run(plan: Plan, trial: TrialConfig, folder: Path, lock: DriverLock) -> TrialRecord:
    """Run the trial, or resume an interrupted run of it; return its record."""
    history = History.read(folder)
    if trial.trial_id in history.trials and history.trials[trial.trial_id].ended:
        raise ConfigError(f"trial {trial.trial_id} has been run again in {folder}; name another folder with --output")
    cluster.connect(dashboard=plan.config.workers > 1)
    resources.slots(plan.config)
    journal = Journal(folder)
    journal.listeners.append(history.observe)
    try:
        journal.append(study_started(plan))
        journal.append(PhaseStarted(phase=trial.phase))
        Executor(plan, folder, journal, history).run([trial], trial.phase)
        export(folder)
        journal.append(StudyEnded(status=FINISHED))
    except BaseException as error:
        if not lock.lost:  # otherwise the journal belongs to another driver by now
            with contextlib.suppress(OSError, UserError):  # the error that stopped the run is the one to report
                journal.append(StudyEnded(status=KILLED if isinstance(error, KeyboardInterrupt) else FAILED))
        raise
    finally:
        journal.close()
    return history.trials[trial.trial_id]


def _reports(folder: Path, record: TrialRecord) -> dict[int, Mapping[str, float]]:
    """Return the metrics of a trial by step, without the one that depends on the clock."""
    return {
        report.step: {name: value for name, value in report.metrics.items() if name != CLOCK}
        for report in records.read(folder, Report)
        if report.trial_id == record.trial.trial_id
    }


def _first_difference(
    before: TrialRecord,
    now: TrialRecord,
    reports: Mapping[int, Mapping[str, float]],
    again: Mapping[int, Mapping[str, float]],
) -> Difference | None:
    """Return the first difference at a step that both runs reported, or in their results if both were probed."""
    pairs = [(f"step {step}", reports[step], again[step]) for step in sorted(reports) if step in again]
    if before.results and now.results:
        pairs.append(("final results", before.results, now.results))
    for where, old, new in pairs:
        for metric in dict.fromkeys([*old, *new]):
            if metric.startswith(SHORTCUT) and metric not in old:  # an earlier version did not measure it
                continue
            if not _equal(old.get(metric), new.get(metric)):
                return Difference(where, metric, old.get(metric), new.get(metric))
    return None


def _equal(one: float | None, other: float | None) -> bool:
    return repr(one) == repr(other)  # NaN equals NaN, and -0.0 differs from 0.0
