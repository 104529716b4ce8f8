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
from hypothesis import given
from hypothesis import strategies as st

from analysis.records import JOURNAL_FILE, JournalError, decode, encode, read
from study.execution.journal import Journal
from trainables.errors import StorageError


def events(folder: Path) -> list[dict[str, Any]]:
    """Return what the journal holds, without the times."""
    return [{key: value for key, value in event.items() if key != "time"} for event in read(folder)]


def steps(folder: Path, trial_id: str) -> list[int]:
    return [event["step"] for event in read(folder) if event["event"] == "report" and event["trial_id"] == trial_id]


def test_events_are_read_in_the_order_and_form_in_which_they_were_appended(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append("study_started", study="demo", config={"lr": 1e-4, "tasks": ["rotation"], "n_images": None})
    journal.append("facts", trial_id="a", chance={"val/accuracy": 0.25}, name="café \u2028")
    assert events(tmp_path) == [
        {"event": "study_started", "study": "demo", "config": {"lr": 1e-4, "tasks": ["rotation"], "n_images": None}},
        {"event": "facts", "trial_id": "a", "chance": {"val/accuracy": 0.25}, "name": "café \u2028"},
    ]


def test_every_event_carries_the_time_at_which_it_was_written(tmp_path: Path):
    journal = Journal(tmp_path)
    for phase in ("a", "b", "c"):
        journal.append("phase_started", phase=phase)
    times = [event["time"] for event in read(tmp_path)]
    assert times == sorted(times)
    assert abs(times[0] - (tmp_path / JOURNAL_FILE).stat().st_mtime) < 5


def test_an_event_is_in_the_file_as_soon_as_append_returns(tmp_path: Path):
    journal = Journal(tmp_path)
    for count in range(1, 4):
        journal.append("phase_started", phase=str(count))
        assert len((tmp_path / JOURNAL_FILE).read_text().splitlines()) == count


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan"), np.float64("-inf")])
def test_numbers_that_are_not_finite_come_back_and_the_file_stays_strict_json(tmp_path: Path, value: float):
    Journal(tmp_path).append("report", trial_id="a", step=0, metrics={"train/loss": value, "list": [value, 1.5]})
    metrics = next(read(tmp_path))["metrics"]
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
def test_whatever_is_encoded_in_one_line_is_decoded_to_the_same(event: dict[str, Any]):
    event = {"event": "any", "values": event}
    line = json.dumps(encode(event))
    assert "\n" not in line
    assert repr(decode(line)) == repr(event)


def test_there_are_no_events_where_there_is_no_journal(tmp_path: Path):
    assert list(read(tmp_path / "absent")) == []


def test_a_half_written_last_line_is_passed_over_by_readers(tmp_path: Path):
    Journal(tmp_path).append("phase_started", phase="a")
    with (tmp_path / JOURNAL_FILE).open("a") as file:
        file.write('{"event":"report","trial_id":"a"')
    assert events(tmp_path) == [{"event": "phase_started", "phase": "a"}]


@pytest.mark.parametrize("half", ['{"event":"rep', '{"event":"phase_started","time":1,"phase":"whole"}', " "])
def test_a_half_written_last_line_is_cut_off_before_the_next_event(
    tmp_path: Path, half: str, caplog: pytest.LogCaptureFixture
):
    Journal(tmp_path).append("phase_started", phase="a")
    with (tmp_path / JOURNAL_FILE).open("a") as file:
        file.write(half)
    with caplog.at_level(logging.WARNING):
        Journal(tmp_path).append("phase_started", phase="b")
    assert [event["phase"] for event in events(tmp_path)] == ["a", "b"]
    (said,) = caplog.messages
    assert said == f"{tmp_path / JOURNAL_FILE}: cut off a last line that was half written ({len(half)} bytes)"


def test_a_journal_that_is_nothing_but_half_a_line_begins_anew(tmp_path: Path):
    (tmp_path / JOURNAL_FILE).write_text('{"event":"stu')
    Journal(tmp_path).append("phase_started", phase="a")
    assert events(tmp_path) == [{"event": "phase_started", "phase": "a"}]


def test_a_step_that_a_trial_has_reported_is_not_written_again(tmp_path: Path):
    journal = Journal(tmp_path)
    assert journal.append("report", trial_id="a", step=0, metrics={"loss": 1.0})
    assert journal.append("report", trial_id="a", step=5, metrics={"loss": 0.5})
    assert not journal.append("report", trial_id="a", step=0, metrics={"loss": 9.0})
    assert not journal.append("report", trial_id="a", step=5, metrics={"loss": 9.0})
    assert journal.append("report", trial_id="b", step=5, metrics={"loss": 0.4})
    assert [event["metrics"]["loss"] for event in events(tmp_path)] == [1.0, 0.5, 0.4]


def test_a_journal_opened_again_knows_the_steps_it_holds(tmp_path: Path):
    first = Journal(tmp_path)
    for step in (0, 5, 10):
        first.append("report", trial_id="a", step=step, metrics={})
    first.close()
    second = Journal(tmp_path)
    for step in (5, 10, 15):
        second.append("report", trial_id="a", step=step, metrics={})
    assert steps(tmp_path, "a") == [0, 5, 10, 15]


def test_listeners_hear_what_was_written_in_order_and_nothing_that_was_dropped(tmp_path: Path):
    journal, heard = Journal(tmp_path), []
    journal.listeners += [heard.append, lambda event: heard.append(event["event"])]
    journal.append("phase_started", phase="a")
    journal.append("report", trial_id="a", step=1, metrics={"loss": math.inf})
    journal.append("report", trial_id="a", step=1, metrics={"loss": 0.0})
    assert heard[1::2] == ["phase_started", "report"]
    assert heard[::2] == list(read(tmp_path))


def test_an_event_that_finds_no_room_is_an_error_and_leaves_the_journal_as_it_was(tmp_path: Path):
    journal, heard = Journal(tmp_path), []
    journal.listeners.append(heard.append)
    journal.append("report", trial_id="a", step=0, metrics={})
    before = (tmp_path / JOURNAL_FILE).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, hard))  # room for half of the next line
    try:
        with pytest.raises(StorageError, match=rf"^{tmp_path / JOURNAL_FILE}: File too large"):
            journal.append("report", trial_id="a", step=5, metrics={"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / JOURNAL_FILE).read_bytes() == before
    journal.append("report", trial_id="a", step=5, metrics={"loss": 1.0})
    journal.close()
    assert steps(tmp_path, "a") == [0, 5]
    assert heard == list(read(tmp_path))


@pytest.mark.parametrize("garbage", [b"\x00" * 9, b'{"event":"repo', b"[1, 2]", b"{}", b"\xff\xfe", b""])
def test_a_line_that_is_no_event_is_named(tmp_path: Path, garbage: bytes):
    journal = Journal(tmp_path)
    journal.append("phase_started", phase="a")
    with (tmp_path / JOURNAL_FILE).open("ab") as file:
        file.write(garbage + b"\n")
    journal.append("phase_started", phase="b")
    with pytest.raises(JournalError, match=rf"^{tmp_path / JOURNAL_FILE}, line 2: broken line .*restore the file"):
        list(read(tmp_path))
