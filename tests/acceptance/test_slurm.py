"""Studies as jobs of a real Slurm: on one node and several, and past their time limit."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.records import KILLED, StudyEnded, StudyStarted, TrialEnded, read
from tests.acceptance.slurm import Slurm, obstacle, slurm_cluster
from tests.acceptance.studies import crowding
from tests.conftest import REPOSITORY
from tests.study.mlflow_stores import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SCRIPT = "clusters/slurm.sbatch"
SMALL = (
    "--set",
    "search.num_samples=2",
    "--set",
    "confirm.seeds=2",
    "--set",
    "ablate.designs=[]",
    "--tasks",
    "rotation",
)
JOB_S = 300  # on a quiet machine, a job takes a fifth of it


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    if reason := obstacle():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as root, slurm_cluster(Path(root)) as cluster:
        yield cluster


def until(slurm: Slurm, job: str, wanted: str) -> None:
    """Wait until a job has the wanted state; fail, with its log, where it ends in another."""

    def reached() -> bool:
        state = slurm.state(job)
        assert state in (wanted, "PENDING", "CONFIGURING", "RUNNING", "COMPLETING"), slurm.log(job)
        return state == wanted

    eventually(reached, JOB_S * crowding())


def test_a_study_runs_on_the_cores_and_gpus_of_all_nodes_of_a_job(slurm: Slurm):
    asked = ("--nodes=2", "--gres=gpu:1")
    job = slurm.submit(*asked, SCRIPT, "quick", "--simulate", *SMALL, "--set", "name=two", "--set", "resources.gpu=1")
    until(slurm, job, "COMPLETED")
    folder = slurm.repository / "studies" / "two-simulated"
    assert (folder / "report.html").is_file()
    assert {event.status for event in read(folder) if isinstance(event, TrialEnded)} == {"FINISHED"}
    assert len(list(slurm.repository.glob(f"*-{job}.ray-n*.log"))) == 2


@pytest.mark.core
def test_before_its_time_limit_a_job_writes_the_report_so_far_and_continues_after_the_queue(slurm: Slurm):
    job = slurm.submit(SCRIPT, "quick", *SMALL, "--set", "name=long", "--set", "budget_steps=200")
    folder = slurm.repository / "studies" / "long"

    def trained() -> bool:
        assert slurm.state(job) in ("PENDING", "CONFIGURING", "RUNNING"), slurm.log(job)
        return any(getattr(event, "step", 0) > 0 for event in (read(folder) if folder.is_dir() else ()))

    eventually(trained, JOB_S * crowding())
    slurm.run("scancel", "--batch", "--signal=USR1", job)  # as Slurm sends it before the limit
    until(slurm, job, "PENDING")
    assert (folder / "report.html").is_file()
    assert [event.status for event in read(folder) if isinstance(event, StudyEnded)] == [KILLED]
    stopped = list(read(folder))
    slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")  # Slurm waits two minutes otherwise
    until(slurm, job, "COMPLETED")
    events = list(read(folder))
    assert events[: len(stopped)] == stopped
    assert sum(isinstance(event, StudyStarted) for event in events) == 2
    ended = [event.trial_id for event in events if isinstance(event, TrialEnded) and event.status == "FINISHED"]
    assert len(ended) == len(set(ended))


@pytest.mark.parametrize("begun", [False, True], ids=["no study has begun", "a report fails"])
def test_a_job_goes_back_to_the_queue_whatever_becomes_of_its_reports(tmp_path: Path, begun: bool):
    end = (REPOSITORY / SCRIPT).read_text().partition("\nif $out_of_time && ((")
    programs = {"python": 'echo "$3" >> reported; exit 1', "scontrol": 'echo "$@" >> queued'}
    for name, line in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "started").touch()
    os.utime(tmp_path / "started", (0, 0))
    for study in ("one", "two") if begun else ():
        (tmp_path / "studies" / study).mkdir(parents=True)
        (tmp_path / "studies" / study / "journal.jsonl").touch()
    before = "set -euo pipefail; out_of_time=true code=130 studies=studies started=started; mkdir -p studies"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", "-c", before + "".join(end[1:])], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 130
    assert (tmp_path / "queued").read_text() == "requeue 7\n"
    assert (tmp_path / "reported").exists() == begun
    assert not begun or len((tmp_path / "reported").read_text().splitlines()) == 2


@pytest.mark.parametrize("restarts", [None, "0", "1", "2"])
def test_only_the_first_start_of_a_job_has_fresh(tmp_path: Path, restarts: str | None):
    script = (REPOSITORY / SCRIPT).read_text()
    start = script[script.index("arguments=(") : script.index("\ndriver=$!")]
    program = tmp_path / "python"
    program.write_text("#!/bin/bash\nprintf '%s\\n' \"$@\" > arguments\n")
    program.chmod(0o755)
    command = ["bash", "-c", f"set -euo pipefail; studies=studies\n{start}\nwait", "slurm_script"]
    counted = {} if restarts is None else {"SLURM_RESTART_COUNT": restarts}
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **counted}
    given = ["my study.yaml", "--fresh", "--set", "name=a  b"]
    subprocess.run([*command, *given], cwd=tmp_path, env=environment, check=True)
    kept = [each for each in given if each != "--fresh" or restarts in (None, "0")]
    assert (tmp_path / "arguments").read_text().splitlines()[-len(kept) :] == kept
    subprocess.run([*command, "--fresh"], cwd=tmp_path, env=environment, check=True)
    assert ("--fresh" in (tmp_path / "arguments").read_text().splitlines()) == (restarts in (None, "0"))


def test_a_job_whose_study_is_refused_ends_with_its_line_and_is_not_requeued(slurm: Slurm):
    job = slurm.submit(SCRIPT, "quikc")
    until(slurm, job, "FAILED")
    assert "'quikc' is neither a YAML file nor a preset; did you mean 'quick'?" in slurm.log(job)
    assert "Traceback" not in slurm.log(job)
