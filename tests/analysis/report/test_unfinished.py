"""Reports of studies that have only begun, and folders without a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.records import KILLED, StudyStarted, TrialEnded, TrialStarted
from analysis.report import write_report
from study.execution.journal import Journal
from tests.analysis.journals import write_study
from tests.analysis.report.pages import ORDER, Page
from trainables.errors import UserError
from trainables.trial import TrialConfig


@pytest.mark.parametrize("until", ["baselines", "search", "confirm"])
def test_an_unfinished_study_gets_a_report_that_says_what_is_missing(tmp_path: Path, until: str):
    page = Page(write_report(write_study(tmp_path, until=until, tasks=("rotation",))))
    assert page.sections == ORDER
    assert "Nothing has been evaluated on the test split yet" in page.text
    assert ("No configuration is chosen yet" in page.text) == (until != "confirm")
    assert ("No pretext trial has reported yet" in page.text) == (until == "baselines")
    assert ("No search trial has started" in page.text) == (until == "baselines")


def test_a_study_that_has_only_begun_and_one_with_a_running_trial_get_one_too(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append(StudyStarted(study="<b>new</b>", config={}, datasets={}))
    assert "<b>new</b>" in Page(write_report(tmp_path)).text
    trial = TrialConfig("search", "rotation")
    journal.append(TrialStarted.of(trial))
    assert "1 trial has not ended yet" in Page(write_report(tmp_path)).text
    journal.append(TrialEnded(trial_id=trial.trial_id, status=KILLED))
    journal.close()
    interrupted = Page(write_report(tmp_path)).text
    assert "1 trial has not ended yet" in interrupted
    assert "No trial failed." in interrupted


def test_a_folder_that_is_no_study_gets_no_page(tmp_path: Path):
    with pytest.raises(UserError, match="is not a study"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())
