"""The journal: what was appended is read again, whole, in order and once."""

from __future__ import annotations

import json
import logging
import math
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from analysis.records import (
    JOURNAL_FILE,
    Facts,
    JournalError,
    PhaseEnded,
    PhaseStarted,
    Report,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialEvent,
    TrialStarted,
    from_line,
    read,
    to_line,
)
from study.execution.journal import Journal
from trainables.errors import ConfigError, StorageError
from trainables.trial import TrialConfig


def steps(folder: Path, trial_id: str) -> list[int]:
    return [report.step for report in read(folder, Report) if report.trial_id == trial_id]


def phases(folder: Path) -> list[str]:
    return [event.phase for event in read(folder, PhaseStarted)]


TRIAL = TrialConfig("search", "rotation", augmentation={"gray": 0.2})  # type: ignore[arg-type]
EVENTS = [
    StudyStarted(study="demo", config={"lr": 1e-4, "tasks": ["rotation"], "n_images": None}),
    PhaseStarted(phase="search"),
    TrialStarted.of(TRIAL),
    Facts(trial_id="a", primary_metric="café \u2028", chance={"val/accuracy": 0.25}),
    Report(trial_id="a", step=3, metrics={"loss": 0.5}),
    TrialEnded(trial_id="a", status="FAILED", reason="why", results={"probe/x/knn": 0.5}),
    PhaseEnded(phase="search", outcome={"best": ["a"]}),
    StudyEnded(status="FINISHED"),
]


def test_events_are_read_in_the_order_and_form_in_which_they_were_appended(tmp_path: Path):
    journal = Journal(tmp_path)
    assert all(journal.append(event) for event in EVENTS)
    assert list(read(tmp_path)) == EVENTS


def test_a_line_is_compact_json_that_begins_with_kind_and_time():
    line = to_line(TrialEnded(time=5.5, trial_id="a", status="STOPPED", reason="why", steps=3, wall_s=1.5))
    fields = '"trial_id":"a","status":"STOPPED","reason":"why","steps":3,"wall_s":1.5,"results":{},"checkpoint":""'
    assert line == f'{{"event":"trial_ended","time":5.5,{fields}}}\n'.encode()


def test_only_the_kinds_asked_for_are_read_whatever_their_white_space(tmp_path: Path):
    lines = [json.dumps(json.loads(to_line(event))) + "\n" for event in EVENTS]
    (tmp_path / JOURNAL_FILE).write_text("".join(lines))
    for content in ("".join(lines).encode(), b"".join(map(to_line, EVENTS))):
        (tmp_path / JOURNAL_FILE).write_bytes(content)
        assert list(read(tmp_path, PhaseEnded, StudyStarted)) == [EVENTS[0], EVENTS[6]]
        assert list(read(tmp_path, TrialEvent)) == EVENTS[2:6]


def test_what_later_versions_write_is_ignored(tmp_path: Path):
    known = PhaseStarted(time=1.0, phase="search")
    lines = ['{"event":"phase_started","time":1.0,"phase":"search","mood":"good"}', '{"event":"paused","why":[1]}']
    (tmp_path / JOURNAL_FILE).write_text("".join(f"{line}\n" for line in lines))
    assert list(read(tmp_path)) == [known]


def test_what_earlier_versions_left_out_has_a_default():
    assert from_line(b'{"event":"study_started","time":1.0,"study":"old"}', "") == StudyStarted(time=1.0, study="old")
    ended = from_line(b'{"event":"trial_ended","time":1.0,"trial_id":"a","status":"FINISHED"}', "")
    assert ended == TrialEnded(time=1.0, trial_id="a", status="FINISHED")


def test_a_field_that_earlier_versions_did_not_write_is_left_out_where_it_is_empty():
    ended = TrialEnded(time=1.0, trial_id="a", status="FINISHED")
    assert b"per_image" not in to_line(ended)
    with_images = TrialEnded(
        time=1.0, trial_id="a", status="FINISHED", per_image={"probe/x/knn": "bool:2:eNprAAAAwQDB"}
    )
    assert from_line(to_line(with_images), "") == with_images


def test_an_event_without_what_it_is_about_is_named():
    with pytest.raises(JournalError, match=r"^here: broken line \(report without trial_id\); restore the file"):
        from_line(b'{"event":"report","time":1.0,"metrics":{}}', "here")
    with pytest.raises(ConfigError, match=r"^here: unknown field of a trial: later"):
        from_line(to_line(TrialStarted.of(TRIAL)).replace(b'"workers"', b'"later"'), "here")


def test_a_former_name_is_read_as_the_current_one_where_ops_options_and_cells_are_named():
    config = {"dataset": "grey", "ablate": {"ops": ["grey"]}, "search": {"space": {"option/grey": [0.3]}}}
    chosen = {"simclr": {"config": {"dataset": "grey", "augmentation": {"grey": 0.2}, "cell": "only grey"}}}
    designs = [{"task": "simclr", "cell": "no grey", "baseline": "only grey"}]
    events = [StudyStarted(study="grey", config=config), TrialStarted.of(TRIAL)]
    events += [PhaseEnded(phase="confirm", outcome={"chosen": chosen, "designs": designs})]
    former = [to_line(event).replace(b'"gray"', b'"grey"') for event in events]
    started, trial, ended = [from_line(line, "") for line in former]
    assert isinstance(started, StudyStarted)
    assert isinstance(ended, PhaseEnded)
    assert (started.study, started.config["dataset"]) == ("grey", "grey")
    assert started.config["ablate"] == {"ops": ["gray"]}
    assert started.config["search"] == {"space": {"option/gray": [0.3]}}
    assert trial == events[1]
    own = ended.outcome["chosen"]["simclr"]["config"]
    assert own == {"dataset": "grey", "augmentation": {"gray": 0.2}, "cell": "only gray"}
    assert ended.outcome["designs"] == [{"task": "simclr", "cell": "no gray", "baseline": "only gray"}]


def test_every_event_carries_the_time_at_which_it_was_written(tmp_path: Path):
    journal = Journal(tmp_path)
    for phase in ("a", "b", "c"):
        journal.append(PhaseStarted(phase=phase))
    times = [event.time for event in read(tmp_path)]
    assert times == sorted(times)
    assert abs(times[0] - (tmp_path / JOURNAL_FILE).stat().st_mtime) < 5


def test_an_event_is_in_the_file_as_soon_as_append_returns(tmp_path: Path):
    journal = Journal(tmp_path)
    for count in range(1, 4):
        journal.append(PhaseStarted(phase=str(count)))
        assert len((tmp_path / JOURNAL_FILE).read_text().splitlines()) == count


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan"), np.float64("-inf")])
def test_numbers_that_are_not_finite_come_back_and_the_file_stays_strict_json(tmp_path: Path, value: float):
    Journal(tmp_path).append(Report(trial_id="a", step=0, metrics={"train/loss": value, "list": [value, 1.5]}))
    metrics = next(read(tmp_path, Report)).metrics
    np.testing.assert_array_equal([metrics["train/loss"], metrics["list"][0]], [float(value)] * 2)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    for line in (tmp_path / JOURNAL_FILE).read_text().splitlines():
        json.loads(line, parse_constant=refuse)


values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=5,
)


@given(st.dictionaries(st.text(), values, max_size=4))
@example({"$float": None, "$$float": {"$float": math.nan}, "a$float": math.inf})
def test_whatever_is_encoded_in_one_line_is_decoded_to_the_same(values: dict[str, Any]):
    event = PhaseEnded(phase="any", outcome={"values": values})
    line = to_line(event)
    assert line.count(b"\n") == 1
    assert repr(from_line(line, "")) == repr(event)


def test_there_are_no_events_where_there_is_no_journal(tmp_path: Path):
    assert list(read(tmp_path / "absent")) == []


def test_a_half_written_last_line_is_passed_over_by_readers(tmp_path: Path):
    Journal(tmp_path).append(PhaseStarted(phase="a"))
    with (tmp_path / JOURNAL_FILE).open("a") as file:
        file.write('{"event":"report","trial_id":"a"')
    assert phases(tmp_path) == ["a"]


@pytest.mark.parametrize("half", ['{"event":"rep', '{"event":"phase_started","time":1,"phase":"whole"}', " "])
def test_a_half_written_last_line_is_cut_off_before_the_next_event(
    tmp_path: Path, half: str, caplog: pytest.LogCaptureFixture
):
    Journal(tmp_path).append(PhaseStarted(phase="a"))
    with (tmp_path / JOURNAL_FILE).open("a") as file:
        file.write(half)
    with caplog.at_level(logging.WARNING):
        Journal(tmp_path).append(PhaseStarted(phase="b"))
    assert phases(tmp_path) == ["a", "b"]
    (said,) = caplog.messages
    assert said == f"{tmp_path / JOURNAL_FILE}: removed an incomplete last line ({len(half)} bytes)"


def test_a_journal_that_is_nothing_but_half_a_line_begins_anew(tmp_path: Path):
    (tmp_path / JOURNAL_FILE).write_text('{"event":"stu')
    Journal(tmp_path).append(PhaseStarted(phase="a"))
    assert phases(tmp_path) == ["a"]


def test_a_step_that_a_trial_has_reported_is_not_written_again(tmp_path: Path):
    journal = Journal(tmp_path)
    assert journal.append(Report(trial_id="a", step=0, metrics={"loss": 1.0}))
    assert journal.append(Report(trial_id="a", step=5, metrics={"loss": 0.5}))
    assert not journal.append(Report(trial_id="a", step=0, metrics={"loss": 9.0}))
    assert not journal.append(Report(trial_id="a", step=5, metrics={"loss": 9.0}))
    assert journal.append(Report(trial_id="b", step=5, metrics={"loss": 0.4}))
    assert [report.metrics["loss"] for report in read(tmp_path, Report)] == [1.0, 0.5, 0.4]


def test_a_journal_opened_again_knows_the_steps_it_holds(tmp_path: Path):
    first = Journal(tmp_path)
    for step in (0, 5, 10):
        first.append(Report(trial_id="a", step=step, metrics={}))
    first.close()
    second = Journal(tmp_path)
    for step in (5, 10, 15):
        second.append(Report(trial_id="a", step=step, metrics={}))
    assert steps(tmp_path, "a") == [0, 5, 10, 15]


def test_listeners_hear_what_was_written_in_order_and_nothing_that_was_dropped(tmp_path: Path):
    journal, heard = Journal(tmp_path), []
    journal.listeners += [heard.append, lambda event: heard.append(type(event))]
    journal.append(PhaseStarted(phase="a"))
    journal.append(Report(trial_id="a", step=1, metrics={"loss": math.inf}))
    journal.append(Report(trial_id="a", step=1, metrics={"loss": 0.0}))
    assert heard[1::2] == [PhaseStarted, Report]
    assert heard[::2] == list(read(tmp_path))


def test_an_event_that_finds_no_room_is_an_error_and_leaves_the_journal_as_it_was(tmp_path: Path):
    journal, heard = Journal(tmp_path), []
    journal.listeners.append(heard.append)
    journal.append(Report(trial_id="a", step=0, metrics={}))
    before = (tmp_path / JOURNAL_FILE).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))  # room for half of the next line
    try:
        with pytest.raises(StorageError, match=rf"^{tmp_path / JOURNAL_FILE}: File too large"):
            journal.append(Report(trial_id="a", step=5, metrics={"loss": 1.0}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / JOURNAL_FILE).read_bytes() == before
    journal.append(Report(trial_id="a", step=5, metrics={"loss": 1.0}))
    journal.close()
    assert steps(tmp_path, "a") == [0, 5]
    assert heard == list(read(tmp_path))


@pytest.mark.parametrize("garbage", [b"\x00" * 9, b'{"event":"repo', b"[1, 2]", b"{}", b"\xff\xfe", b""])
def test_a_line_that_is_no_event_is_named(tmp_path: Path, garbage: bytes):
    journal = Journal(tmp_path)
    journal.append(PhaseStarted(phase="a"))
    with (tmp_path / JOURNAL_FILE).open("ab") as file:
        file.write(garbage + b"\n")
    journal.append(PhaseStarted(phase="b"))
    with pytest.raises(JournalError, match=rf"^{tmp_path / JOURNAL_FILE}, line 2: broken line .*restore the file"):
        list(read(tmp_path))
