"""One trial of a study, trained again in a study of its own."""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import study.rerun
from analysis.records import (
    FAILED,
    FINISHED,
    JOURNAL_FILE,
    KILLED,
    Event,
    Report,
    StudyEnded,
    TrialStarted,
    read,
    to_line,
)
from study.cli import commands
from study.cli.reruns import rerun_lines
from study.execution.lock import DriverLock
from study.plan.history import History, TrialRecord
from study.provenance import study_started
from study.rerun import Difference, Rerun, _config, _first_difference, _with_seed, rerun
from tests.study.cli.conftest import Command
from tests.study.studies import plan_of, tiny
from trainables.errors import ConfigError
from trainables.trial import TrialConfig


def phase_trial(folder: Path, phase: str) -> str:
    """Return the id of the first trial of a phase."""
    return next(trial_id for trial_id, record in History.read(folder).trials.items() if record.trial.phase == phase)


def is_report(event: Event, trial_id: str) -> bool:
    return isinstance(event, Report) and event.trial_id == trial_id and event.step > 0


def with_loss(event: Event, loss: float) -> Event:
    assert isinstance(event, Report)
    return dataclasses.replace(event, metrics={**event.metrics, "val/loss": loss})


@pytest.fixture
def run(call_main: Command) -> Command:
    """Call `python -m study rerun ...`."""
    return functools.partial(call_main, commands.main, "rerun")


@pytest.mark.slow
@pytest.mark.core
def test_a_trial_is_repeated_to_the_bit_and_a_changed_value_is_named(
    simulated_study: Path, local_ray: None, run: Command, tmp_path: Path
) -> None:
    journal = (simulated_study / JOURNAL_FILE).read_bytes()
    trial_id = phase_trial(simulated_study, "search")
    again = run(str(simulated_study), trial_id[:8])
    assert again.code == 0
    assert re.search(r"^bit-identical: \d+ reports are equal$", again.out, re.MULTILINE)
    assert (simulated_study / JOURNAL_FILE).read_bytes() == journal

    second = run(str(simulated_study), trial_id)
    assert (second.code, second.out) == (2, "")
    assert second.err.startswith(f"error: trial {trial_id} has been run again in studies/")
    assert second.err.endswith("name another folder with --output\n")

    untrained = run(str(simulated_study), phase_trial(simulated_study, "baselines"))
    assert untrained.code == 0
    assert "bit-identical: the final results are equal" in untrained.out.splitlines()

    altered = tmp_path / "altered"
    shutil.copytree(simulated_study, altered)
    events = [with_loss(event, 9.5) if is_report(event, trial_id) else event for event in read(simulated_study)]
    (altered / JOURNAL_FILE).write_bytes(b"".join(map(to_line, events)))
    changed = run(str(altered), trial_id, "--output", "other")
    assert changed.code == 1
    assert re.search(r"^not identical: step \d+, val/loss: 9\.5 in the study", changed.out, re.MULTILINE)

    other = run(str(simulated_study), trial_id, "--seed", "7")
    assert other.code == 0
    assert "now: trial" in other.out
    assert "seed 7" in other.out
    assert "identical" not in other.out


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, KILLED), (RuntimeError, FAILED)])
def test_a_run_that_is_interrupted_says_so(
    error: type[BaseException], status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(study.rerun.cluster, "connect", lambda **_: None)
    monkeypatch.setattr(study.rerun.resources, "max_concurrent_trials", lambda *_, **__: 1)
    monkeypatch.setattr(study.rerun, "Executor", stopped)
    plan = plan_of(tiny())
    with DriverLock(tmp_path, "again") as lock, pytest.raises(error):
        study.rerun._run(plan, plan.search_base("rotation"), tmp_path, lock)
    assert [event.status for event in read(tmp_path, StudyEnded)] == [status]
    lock.lost = True
    with pytest.raises(error):
        study.rerun._run(plan, plan.search_base("rotation"), tmp_path, lock)
    assert len(list(read(tmp_path, StudyEnded))) == 1, "the journal is another driver's by now"


def test_another_seed_draws_the_images_that_the_study_would_draw_for_it() -> None:
    plan = plan_of(tiny(n_images=60, seed=3, ablate={"designs": ["cures"], "cures": {"lr": [0.5]}}))
    searched, base = plan.search_base("rotation"), plan.search_base("rotation").replace(cell="base")
    assert _with_seed(searched, 7).data_seed == plan.confirmed(searched, seed=7).data_seed == 3
    ablated, again = (plan.ablated([base], seed)[0] for seed in (5, 7))
    assert _with_seed(ablated, 7) == again
    assert again.data_seed == 7


def test_a_trial_that_does_not_exist_is_one_line(simulated_study: Path, run: Command) -> None:
    answer = run(str(simulated_study), "zzz")
    assert (answer.code, answer.out) == (2, "")
    assert re.fullmatch(r"error: .*: no trial 'zzz'; .*\n", answer.err)


def recorded(folder: Path, *trials: TrialConfig, **changes: Any) -> Path:
    """Write the journal of a tiny study that has these trials, whose first event has some fields changed."""
    search = {"scheduler": changes.pop("scheduler", "asha")}
    began = dataclasses.replace(study_started(plan_of(tiny(search=search))), **changes)
    folder.mkdir()
    (folder / JOURNAL_FILE).write_bytes(b"".join(map(to_line, [began, *map(TrialStarted.of, trials)])))
    return folder


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(**options: object) -> None:
        pytest.fail("Ray was started")

    monkeypatch.setattr("study.rerun.cluster.connect", connect)


def test_a_beginning_that_several_trials_have_is_refused(tmp_path: Path, no_ray: None) -> None:
    trials = [TrialConfig("search", "rotation", seed=seed) for seed in range(17)]
    first, count = Counter(trial.trial_id[0] for trial in trials).most_common(1)[0]  # of 16 hex digits
    folder = recorded(tmp_path / "study", *trials)
    with pytest.raises(ConfigError, match=f"{count} trials begin with '{first}'; `python -m analysis verdicts "):
        rerun(folder, first, tmp_path / "out")
    with pytest.raises(ConfigError, match="no trial ''"):
        rerun(folder, "", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_trial_that_probes_the_encoder_of_another_is_refused_with_that_one(tmp_path: Path, no_ray: None) -> None:
    trained = TrialConfig("confirm", "rotation")
    probes = TrialConfig("evaluate", "rotation", init_from=trained.trial_id)
    folder = recorded(tmp_path / "study", trained, probes)
    message = f"^trial {probes.trial_id} trains nothing: it probes the encoder of trial {trained.trial_id}; rerun that"
    with pytest.raises(ConfigError, match=message):
        rerun(folder, probes.trial_id, tmp_path / "out")


def test_of_population_based_training_only_trials_after_the_search_can_be_run_alone(
    tmp_path: Path, no_ray: None
) -> None:
    searched, confirmed = (TrialConfig(phase, "rotation") for phase in ("search", "confirm"))
    folder = recorded(tmp_path / "study", searched, confirmed, scheduler="pbt")
    with pytest.raises(ConfigError, match=rf"^trial {searched.trial_id} took states from other trials \(.*: pbt\)"):
        rerun(folder, searched.trial_id, tmp_path / "out")
    assert _config(folder, confirmed).name == f"tiny-rerun-{confirmed.trial_id}"


def test_a_trial_whose_images_have_changed_cannot_be_repeated(tmp_path: Path, no_ray: None) -> None:
    trial = TrialConfig("search", "rotation")
    folder = recorded(tmp_path / "study", trial, datasets={"shapes": {"fingerprint": "0ld"}})
    with pytest.raises(ConfigError, match=r"^shapes: .*\(fingerprint 0ld, now \w+\), so its trials cannot be repeated"):
        rerun(folder, trial.trial_id, tmp_path / "out")
    assert not (tmp_path / "out").exists()


NAN = float("nan")
RESULTS: list[dict[str, float]] = [{}, {"probe/shapes/knn": 0.4}, {"probe/shapes/knn": 0.6}]


@pytest.mark.parametrize(
    ("before", "now", "difference"),
    [
        ({"val/loss": 0.5}, {"val/loss": 0.5, "shortcut/color": 0.9}, None),  # an earlier version did not measure it
        ({"shortcut/color": 0.8}, {"shortcut/color": 0.9}, ("shortcut/color", 0.8, 0.9)),
        ({"shortcut/color": 0.8}, {}, ("shortcut/color", 0.8, None)),
        ({"val/loss": 0.5}, {"val/loss": 0.5, "val/accuracy": 0.9}, ("val/accuracy", None, 0.9)),
        ({"val/loss": NAN}, {"val/loss": float("nan")}, None),
        ({"val/loss": NAN}, {"val/loss": 0.5}, ("val/loss", NAN, 0.5)),
        ({"val/loss": 0.0}, {"val/loss": -0.0}, ("val/loss", 0.0, -0.0)),
    ],
)
def test_values_are_compared_to_the_bit_but_for_what_an_earlier_version_did_not_measure(
    before: dict[str, float], now: dict[str, float], difference: tuple[Any, ...] | None
) -> None:
    record = TrialRecord(TrialConfig("search", "rotation"))
    found = _first_difference(record, record, {0: {}, 10: before, 20: {"a": 1.0}}, {0: {}, 10: now})
    assert repr(found) == repr(difference and Difference("step 10", *difference))


def test_final_results_are_compared_where_both_runs_have_them() -> None:
    none, low, high = (TrialRecord(TrialConfig("search", "rotation"), results=each) for each in RESULTS)
    assert _first_difference(low, high, {}, {}) == Difference("final results", "probe/shapes/knn", 0.4, 0.6)
    assert _first_difference(low, high, {0: {"a": 1.0}}, {0: {"a": 2.0}}) == Difference("step 0", "a", 1.0, 2.0)
    assert _first_difference(low, none, {}, {}) is None
    assert _first_difference(none, low, {}, {}) is None


def test_a_folder_without_a_study_is_one_line(run: Command) -> None:
    answer = run("nothing", "3f2a")
    assert (answer.code, answer.err) == (2, "error: nothing is not a study: it has no journal.jsonl\n")


@pytest.mark.parametrize(
    ("n_compared", "results", "line"),
    [
        (3, {"probe/shapes/linear": 0.5}, "bit-identical: 3 reports and the final results are equal"),
        (1, {}, "bit-identical: 1 report is equal"),
        (0, {"probe/shapes/linear": 0.5}, "bit-identical: the final results are equal"),
        (0, {}, "nothing to compare: the runs have no report in common"),
    ],
)
def test_only_what_was_compared_is_called_equal(n_compared: int, results: dict[str, float], line: str) -> None:
    trial = TrialConfig(phase="search", task="rotation")
    record = TrialRecord(trial, status=FINISHED, results=results)
    assert line in rerun_lines(Rerun(Path("out"), record, record, n_compared, None))
