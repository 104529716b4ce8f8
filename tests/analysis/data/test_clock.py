"""Time on the clock by phase, from the times of a journal's events."""

from __future__ import annotations

from analysis.records import PhaseEnded, PhaseStarted, StudyEnded, StudyStarted, TrialEnded, phase_seconds


def test_a_phase_takes_the_time_of_each_driver_without_the_pause_between_them():
    interrupted = [
        StudyStarted(time=0, study="quick"),
        PhaseStarted(time=1, phase="baselines"),
        PhaseEnded(time=4, phase="baselines"),
        PhaseStarted(time=5, phase="search"),
        TrialEnded(time=15, trial_id="a", status="FINISHED"),
        StudyEnded(time=25, status="KILLED"),
    ]
    resumed = [
        StudyStarted(time=1000, study="quick"),
        PhaseStarted(time=1002, phase="search"),
        PhaseEnded(time=1012, phase="search"),
    ]
    assert phase_seconds([*interrupted, *resumed]) == {"baselines": 3, "search": 30}
    assert phase_seconds([*interrupted[:-1], *resumed]) == {"baselines": 3, "search": 20}, "a driver that was killed"
    assert phase_seconds([]) == {}
