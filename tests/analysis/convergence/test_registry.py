"""Registry of verdicts: its two orders, and that a further verdict is one file and one line."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.convergence import CATALOG, VERDICTS, registry
from tests.analysis.journals import write_study
from tests.conftest import REPOSITORY

BORED = '''"""Verdict `bored`: the trial did more steps than anybody asked for."""

from analysis.convergence.curves import Trial
from analysis.convergence.verdict import Finding, Verdict


def find(trial: Trial) -> Finding | None:
    """Find a trial of the confirm phase."""
    return Finding(f"yawned at step {trial.steps}: again") if trial.row["phase"] == "confirm" else None


VERDICT = Verdict(
    "bored",
    meaning="nothing new happened",
    verb="yawns",
    letter="B",
    color="#123456",
    remedies=lambda finding, trial: ["a harder task", "a holiday"],
)
'''
IMPORT = "from analysis.convergence import at_chance, "
FIRST_RULE = "    (diverged.VERDICT, diverged.find_explosion),\n"
USE = """
import json, sys
import analysis
from analysis.convergence import VERDICTS, verdicts
from analysis.figures import verdict_map
from analysis.findings import compute_findings
from tests.analysis.report.pages import section

study = analysis.load(sys.argv[1])
found = verdicts(study.runs, study.curves)
ax = verdict_map(study.runs, found)
print(json.dumps({
    "home": analysis.__file__,
    "verdicts": VERDICTS,
    "found": found.to_dict("records"),
    "letters": [text.get_text() for text in ax.texts],
    "legend": [text.get_text() for text in ax.get_legend().get_texts()],
    "report": section(compute_findings(study), "did-it-converge"),
}))
"""


@pytest.fixture(scope="module")
def with_bored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what a copy of `analysis` with a further verdict makes of a study: one file more, and one line."""
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(REPOSITORY / "analysis", copy / "analysis", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "analysis/convergence/bored.py").write_text(BORED)
    path = copy / "analysis/convergence/registry.py"
    source = path.read_text()
    assert source.count(IMPORT) == source.count(FIRST_RULE) == 1
    source = source.replace(IMPORT, f"{IMPORT}bored, ")
    path.write_text(source.replace(FIRST_RULE, f"{FIRST_RULE}    (bored.VERDICT, bored.find),\n"))
    study = write_study(tmp_path_factory.mktemp("study"), until="confirm", tasks=("rotation",))
    environment = os.environ | {"PYTHONPATH": f"{copy}{os.pathsep}{REPOSITORY}", "MPLBACKEND": "agg"}
    command = [sys.executable, "-c", USE, str(study)]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert Path(answer["home"]).is_relative_to(copy)
    return answer


def test_a_further_verdict_is_given_with_its_evidence_and_its_cure(with_bored: dict[str, Any]) -> None:
    assert "bored" in with_bored["verdicts"]
    bored = [row for row in with_bored["found"] if row["verdict"] == "bored"]
    assert len(bored) == 6
    assert all(row["left_chance"] for row in bored), "the curves say so, whatever the verdict"
    assert {(row["evidence"], row["cure"]) for row in bored} == {
        ("yawned at step 200: again", "a harder task; or a holiday")
    }


def test_a_further_verdict_is_in_the_map_and_its_legend(with_bored: dict[str, Any]) -> None:
    assert with_bored["letters"].count("B") == 6
    assert "bored (6)" in with_bored["legend"]


def test_the_report_counts_and_explains_a_further_verdict(with_bored: dict[str, Any]) -> None:
    lines = with_bored["report"].splitlines()
    head = next(line for line in lines if line.startswith("phase|task|")).split("|")
    row = next(line for line in lines if line.startswith("confirm|rotation|")).split("|")
    assert dict(zip(head, row, strict=True))["bored"] == "6"
    assert "**bored**: nothing new happened." in lines
    assert "**As chosen, it yawns (3 of 3 seeds).** Cure: a harder task; or a holiday." in lines
    assert any(line.endswith("Evidence: yawned at step 200: again (mean of 3 seeds).") for line in lines)


def test_verdicts_are_listed_in_one_order_and_asked_in_another() -> None:
    assert VERDICTS == (
        "failed",
        "diverged",
        "collapsed",
        "at_chance",
        "overfit",
        "still_improving",
        "converged",
        "undecided",
    )
    asked = [f"{rule.__module__.rsplit('.', 1)[-1]}.{rule.__name__}" for _, rule in registry.RULES]
    assert asked == [
        "diverged.find_explosion",
        "failed.find",
        "collapsed.find",
        "at_chance.find",
        "diverged.find_forgetting",
        "overfit.find",
        "still_improving.find",
        "converged.find",
        "undecided.find",
    ]


def test_every_verdict_has_a_file_of_its_name_with_all_its_rules() -> None:
    for verdict, rule in registry.RULES:
        assert rule.__module__ == f"analysis.convergence.{verdict.name}"
    for name, verdict in CATALOG.items():
        source = (REPOSITORY / f"analysis/convergence/{name}.py").read_text()
        rules = {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
        rules = {function for function in rules if function.startswith("find")}
        assert rules == {rule.__name__ for known, rule in registry.RULES if known is verdict}


def test_every_verdict_is_documented_with_its_condition_and_its_error_rate() -> None:
    text = (REPOSITORY / "docs/statistics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", text[text.index("<!-- verdicts: begin") :], re.M)
    assert [name for name, *_ in rows] == list(VERDICTS)
