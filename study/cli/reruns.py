"""What `python -m study rerun` shows: the new run, and whether it repeats the old one."""

from __future__ import annotations

from analysis.records import FINISHED
from analysis.records.phases import short_seed
from analysis.report.words import counted
from study.cli.console import out
from study.plan.history import TrialRecord
from study.rerun import Rerun


def show_rerun(done: Rerun) -> None:
    """Print the results of a run and, for the trial's own seed, its first difference from the study."""
    for line in rerun_lines(done):
        out.print(line, highlight=False, markup=False)


def rerun_lines(done: Rerun) -> list[str]:
    """Return the lines that `show_rerun` prints."""
    lines = [_state("in the study", done.before), _state("now", done.now)]
    if done.is_repeated:
        lines.append(_compared(done))
    return [*lines, f"the run: {done.folder}"]


def _state(when: str, record: TrialRecord) -> str:
    status = (record.status or "not ended").lower()
    results = {name: value for name, value in record.results.items() if name.endswith("/linear")} or record.metrics
    shown = [f"{name} {value:.4f}" for name, value in results.items() if name.endswith(("/linear", "/accuracy"))]
    what = f"{when}: trial {record.trial.trial_id}, seed {short_seed(record.trial.seed)}"
    return ", ".join([f"{what}, {status} after {record.step} steps", *shown])


def _compared(done: Rerun) -> str:
    if done.now.status != FINISHED and done.before.status == FINISHED:
        return (
            f"not repeated: the run {(done.now.status or 'has not ended').lower()} ({done.now.reason.strip()[-300:]})"
        )
    if not done.n_compared and done.difference is None and not done.now.results:
        return "nothing to compare: the runs have no report in common"
    if done.difference is None:
        compared = [counted(done.n_compared, "report")] if done.n_compared else []
        compared += ["the final results"] if done.before.results and done.now.results else []
        verb = "is" if compared == [counted(1, "report")] else "are"
        return f"bit-identical: {' and '.join(compared)} {verb} equal"
    each = done.difference
    values = f"{each.before!r} in the study, {each.now!r} now"
    return (
        f"not identical: {each.where}, {each.metric}: {values}. Other versions of the packages, numbers of threads or "
        "devices round differently, and so does a trial that was trained as one network with others "
        "(`resources.fuse`); `python -m analysis compare` lists the versions of both studies"
    )
