"""A long study leaves nothing behind and needs no more of the machine at its end than in its midst."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from analysis.records import JOURNAL_FILE
from study.config.validation import check_config
from study.plan.history import History
from tests.acceptance.studies import DriverProcess, assert_mlflow_equals_journal, assert_whole

TRIALS = 500
DRIVER_KB, ACTOR_KB = 150, 30  # that a trial may add: Ray Tune keeps every trial of a phase, its results included
WRITTEN_KB = 40  # that a trial of five reports may add to the study's folder, two checkpoints included


@dataclass
class Look:
    """What the processes of a study hold at one moment. ended: trials until then."""

    ended: int
    rss: dict[str, float] = field(default_factory=dict)
    handles: dict[str, int] = field(default_factory=dict)
    processes: int = 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_hundred_trials_need_no_more_memory_and_handles_as_they_go_and_leave_no_process(tmp_path: Path):
    config = check_config(
        {
            "name": "soak",
            "simulate": True,
            "tasks": ["rotation"],
            "budget_steps": 100,
            "report_every": 25,
            "search": {"num_samples": TRIALS, "algorithm": "random", "scheduler": "none", "chance_patience": 0},
            "confirm": {"top_k": 1, "seeds": 2},
            "resources": {"cpu": 2},  # one actor, whatever the machine, so that its memory is one curve
        }
    )
    study = DriverProcess(tmp_path, config)
    process = study.start()
    looks, seen = [], {}
    while process.poll() is None:
        looks.append(_look(study, process.pid, seen))
        time.sleep(0.5)
    assert process.returncode == 0, study.log()
    assert_whole(study)
    assert_mlflow_equals_journal(study)
    assert len(History.read(study.folder).of("search")) == TRIALS

    second = [look for look in looks if TRIALS / 4 < look.ended <= TRIALS / 2 and "actor" in look.rss]
    last = [look for look in looks if TRIALS * 3 / 4 < look.ended <= TRIALS and "actor" in look.rss]
    assert min(len(second), len(last)) >= 5
    for name, most_kb in (("driver", DRIVER_KB), ("actor", ACTOR_KB)):
        before, after = (statistics.median(look.rss[name] for look in looks) for looks in (second, last))
        assert (after - before) / 1000 < most_kb * TRIALS / 2, f"{name}: {before / 1e6:.0f} -> {after / 1e6:.0f} MB"
        before, after = (statistics.median(look.handles[name] for look in looks) for looks in (second, last))
        assert after <= before + 2, f"{name}: {before} -> {after} open files"
    assert max(look.processes for look in last) <= max(look.processes for look in second)

    gone, alive = psutil.wait_procs(list(seen.values()), timeout=30)
    assert not alive
    assert len(gone) > 5
    written = sum(path.stat().st_size for path in study.folder.rglob("*") if path.is_file()) / 1000
    assert written / TRIALS < WRITTEN_KB


def _look(study: DriverProcess, driver: int, seen: dict[int, psutil.Process]) -> Look:
    """Look at the driver and all that it started; remember these in `seen`."""
    journal = study.folder / JOURNAL_FILE
    look = Look(journal.read_bytes().count(b'"event":"trial_ended"') if journal.exists() else 0)
    try:
        parent = psutil.Process(driver)
        children = parent.children(recursive=True)
        seen.update((child.pid, child) for child in children)
        actors = [child for child in children if child.name().startswith("ray::Impl")]
        look.processes = len(children)
        for name, members in (("driver", [parent]), ("actor", actors[:1])):
            for member in members:
                look.rss[name], look.handles[name] = member.memory_info().rss, member.num_fds()
    except psutil.Error:
        pass  # one of them ended just now
    return look
