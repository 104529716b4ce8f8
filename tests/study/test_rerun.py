"""One trial of a study, trained again in a study of its own."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from analysis.records import JOURNAL_FILE, Event, Report, read, to_line
from study.cli.reruns import rerun_lines
from study.plan.history import History
from study.rerun import rerun
from trainables.errors import ConfigError


def searched(folder: Path) -> str:
    """Return the id of a search trial."""
    return next(trial_id for trial_id, record in History.read(folder).trials.items() if record.trial.phase == "search")


def is_report(event: Event, trial_id: str) -> bool:
    return isinstance(event, Report) and event.trial_id == trial_id and event.step > 0


def with_loss(event: Event, loss: float) -> Event:
    assert isinstance(event, Report)
    return dataclasses.replace(event, metrics={**event.metrics, "val/loss": loss})


@pytest.mark.slow
@pytest.mark.core
def test_a_trial_is_repeated_to_the_bit_and_a_changed_value_is_named(
    simulated_study: Path, local_ray: None, tmp_path: Path
) -> None:
    journal = (simulated_study / JOURNAL_FILE).read_bytes()
    trial_id = searched(simulated_study)
    again = rerun(simulated_study, trial_id[:8], tmp_path / "out")
    assert again.is_repeated
    assert not again.differs
    assert again.n_compared > 1
    assert any(line.startswith("bit-identical: ") for line in rerun_lines(again))
    assert (simulated_study / JOURNAL_FILE).read_bytes() == journal

    altered = tmp_path / "altered"
    shutil.copytree(simulated_study, altered)
    events = [with_loss(event, 9.5) if is_report(event, trial_id) else event for event in read(simulated_study)]
    (altered / JOURNAL_FILE).write_bytes(b"".join(map(to_line, events)))
    changed = rerun(altered, trial_id, tmp_path / "other")
    assert changed.differs
    assert any("not identical: step" in line and "val/loss: 9.5 in the study" in line for line in rerun_lines(changed))

    other = rerun(simulated_study, trial_id, tmp_path / "out", seed=7)
    assert other.now.trial.seed == 7
    assert not other.is_repeated
    assert not any("identical" in line for line in rerun_lines(other))


def test_a_trial_that_does_not_exist_is_one_line(simulated_study: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no trial 'zzz'"):
        rerun(simulated_study, "zzz", tmp_path)
