"""The one command that answers what a study leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from analysis.convergence import STILL_IMPROVING
from analysis.findings import Findings, queries
from analysis.findings.gains import TaskGains
from analysis.records.layout import CONFIG_FILE, RECOMMENDED_FILE
from analysis.report.words import listed
from analysis.stats.paired import MIN_SEEDS


@dataclass(frozen=True)
class NextStep:
    """What to do next.

    Attributes:
        why: What the command is for.
        command: The command; empty if the study cannot name one.
    """

    why: str
    command: str


def next_step(findings: Findings, gains: TaskGains, folder: Path) -> NextStep:
    """Return the one command that answers what the study leaves open.

    Args:
        findings: Findings of the study.
        gains: What each task is worth.
        folder: The study's folder, with its configuration and, after the confirm phase, `recommended.yaml`.
    """
    run, recommended = "python study/run.py", folder / RECOMMENDED_FILE
    if (folder / CONFIG_FILE).exists() and queries.unfinished_phases(findings):
        where = f" --output {quote(folder.parent.as_posix())}"
        return NextStep("Finish the study:", f"{run} {quote((folder / CONFIG_FILE).as_posix())}{where}")
    if not recommended.exists():
        return NextStep("", "")
    again = f"{run} {quote(recommended.as_posix())}"
    if not queries.ablated_tasks(findings):
        options = "--set 'ablate.designs=[cures]' --set ablate.seeds=5"
        return NextStep("See which changes would help each task:", f"{again} {options}")
    rows = gains.rows
    if len(rows) and (fewest := int(rows["n_seeds"].min())) < MIN_SEEDS:
        return NextStep(f"Narrow the intervals with {MIN_SEEDS} fresh seeds instead of {fewest}:", again)
    improving = list(rows.loc[rows["verdict"] == STILL_IMPROVING, "task"]) if len(rows) else []
    if improving and (steps := findings.study.config.get("budget_steps")):
        are = "is" if len(improving) == 1 else "are"
        return NextStep(
            f"Train for twice the steps, since {listed(improving)} {are} still improving at the end:",
            f"{again} --set budget_steps={2 * steps}",
        )
    return NextStep("Train the chosen configurations again, with fresh seeds:", again)
