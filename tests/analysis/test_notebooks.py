"""The notebooks: saved with the outputs of their code, short, and true to the library when executed on a study."""

from __future__ import annotations

import ast
import functools
import html
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from scipy.stats import binomtest

from analysis import load
from analysis.convergence import verdicts
from analysis.findings import compute_findings, queries
from analysis.pages.cause import TASK, cause
from analysis.pages.series import read_parts
from study.api.results import load as load_result
from tests.acceptance.browser import browser
from tests.analysis.journals import write_study
from tests.analysis.saved_notebooks import (
    FOLDER,
    NAMES,
    OF_A_SERIES,
    OF_A_STUDY,
    OPTIONAL_WIDGETS,
    WHOLE_STUDY,
    WORKING,
    execute,
    execute_whole_study,
    read,
    shown_by,
    simulated_series,
    without_traces,
)

MOST_LINES = 8  # of code in a cell
WIDEST = 920  # px of a table; with the prompts beside it, a window of 1,000 px
JUPYTER_CSS = "body {width: 920px; margin: 0; font: 13px sans-serif} th, td {padding: 0.5em} table {border-spacing: 0}"
PLACES = 1e-3  # relative: four digits are printed

Execute = Callable[[str], NotebookNode]


@pytest.fixture(scope="module")
def executed(simulated_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Execute:
    """Return the notebook of a name as executed on the simulated study, once for all tests here."""
    return functools.cache(lambda name: execute(name, simulated_study, tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize("name", [*NAMES, WHOLE_STUDY])
def test_is_committed_with_the_outputs_of_one_run_and_without_a_machine(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert set(notebook.metadata.language_info) == {"name"}, "the version of one machine's Python"
    code = _code(notebook)
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert not any("execution" in cell.metadata for cell in code), "the times of one run"
    assert {output.output_type for cell in code for output in cell.outputs} == {"display_data", "execute_result"}
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert ("Simulated: no network was trained." in text) == (name != WHOLE_STUDY)
    assert not re.search(r"/(home|Users|root|tmp|work|mnt|var|opt)/|[A-Z]:\\\\", text)
    assert len(text) < 1_000_000


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("name", OF_A_STUDY)
def test_the_saved_outputs_are_those_that_the_code_makes(name: str, executed: Execute) -> None:
    assert shown_by(read(name)) == shown_by(without_traces(executed(name))), (
        "save them again with `python -m tests.analysis.saved_notebooks`"
    )


@pytest.mark.slow
def test_no_saved_table_is_wider_than_a_window() -> None:
    with browser() as running:
        page = running.new_page(viewport={"width": WIDEST, "height": 800})
        for name in (*NAMES, WHOLE_STUDY):
            for cell in _code(read(name)):
                for table in filter(None, (output.get("data", {}).get("text/html") for output in cell.outputs)):
                    page.set_content(f"<!doctype html><style>{JUPYTER_CSS}</style>{table}")
                    widest = page.evaluate(
                        "Math.max(0, ...[...document.querySelectorAll('table')].map(t => t.offsetWidth))"
                    )
                    assert widest <= WIDEST, f"{name}: {cell.source}"


@pytest.mark.parametrize("name", [*NAMES, WHOLE_STUDY])
def test_cells_are_short_and_define_no_helper(name: str) -> None:
    for cell in _code(read(name)):
        assert len([line for line in cell.source.splitlines() if line.strip()]) <= MOST_LINES, cell.source
        tree = ast.parse(cell.source)
        helpers = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert not any(isinstance(node, helpers) for node in ast.walk(tree)), cell.source


@pytest.mark.parametrize("name", NAMES)
def test_first_cell_names_the_study(name: str) -> None:
    first = _code(read(name))[0]
    assert first.metadata.tags == ["parameters"]
    assert re.search(r'^STUDY = os\.environ\.get\("PRETEXT_STUDY", "studies/[\w-]+"\)$', first.source, re.M)


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "n_figures", "n_tables"), [("results", 7, 11), ("convergence", 12, 9), ("ablation", 8, 11)]
)
def test_runs_through_on_a_whole_study(name: str, n_figures: int, n_tables: int, executed: Execute) -> None:
    outputs = [output for cell in _code(executed(name)) for output in cell.outputs]
    shown = [output.data for output in outputs if output.output_type in ("display_data", "execute_result")]
    assert sum("image/png" in data for data in shown) >= n_figures
    assert sum("text/html" in data for data in shown) >= n_tables
    streams = [output.text for output in outputs if output.output_type == "stream"]
    assert [text for text in streams if OPTIONAL_WIDGETS not in text] == []


@pytest.mark.core
@pytest.mark.slow
def test_results_show_the_probes_of_the_test_split(executed: Execute, simulated_study: Path) -> None:
    study = load(simulated_study)
    evaluated = study.runs.query("phase == 'evaluate' and probe_split == 'test'")
    shown = _table(executed("results"), "task", "dataset", "probe", "n_seeds", "mean", "sd", "chance")
    assert set(shown["task"]) == {"rotation", "context_prediction", "random_init", "raw_pixels"}
    for row in shown.itertuples():
        values = evaluated.loc[evaluated["task"] == row.task, f"probe/{row.dataset}/{row.probe}"]
        assert int(row.n_seeds) == len(values)
        assert float(row.mean) == pytest.approx(values.mean(), rel=PLACES)
        assert float(row.chance) == 0.1 or row.probe.endswith("macro_f1")  # has no chance level


@pytest.mark.core
@pytest.mark.slow
def test_results_hold_the_best_of_the_search_against_fresh_seeds(executed: Execute, simulated_study: Path) -> None:
    study = load(simulated_study)
    shown = _table(executed("results"), "metric", "mode", "mean", "best in search").set_index("")
    assert list(shown.index) == ["rotation", "context_prediction"]
    for task, row in shown.iterrows():
        assert row["metric"] == "probe/linear"
        own = study.runs.loc[study.runs["task"] == task]
        searched = _last(study.curves, own.query("phase == 'search'"), "probe/linear")
        confirmed = _last(study.curves, own.query("phase == 'confirm'"), "probe/linear")
        assert float(row["best in search"]) == pytest.approx(searched.max(), rel=PLACES)
        assert float(row["mean"]) == pytest.approx(confirmed.mean(), rel=PLACES)


@pytest.mark.core
@pytest.mark.slow
def test_convergence_counts_the_seeds_that_converged(executed: Execute, simulated_study: Path) -> None:
    study = load(simulated_study)
    trial_verdicts = study.runs.merge(verdicts(study.runs, study.curves), on="trial_id")
    shown = _table(executed("convergence"), "phase", "task", "cell", "n_converged", "ci_low", "ci_high")
    assert len(shown) == len(trial_verdicts.query("phase != 'search'")[["phase", "task", "cell"]].drop_duplicates())
    for row in shown.itertuples():
        own = trial_verdicts.loc[
            (trial_verdicts["phase"] == row.phase)
            & (trial_verdicts["task"] == row.task)
            & (trial_verdicts["cell"] == row.cell)
        ]
        n_converged = int((own["verdict"] == "converged").sum())
        assert (int(row.n_seeds), int(row.n_converged)) == (len(own), n_converged)
        n_possible = n_converged + int((own["verdict"] == "undecided").sum())
        low, high = (binomtest(n, len(own)).proportion_ci(method="exact") for n in (n_converged, n_possible))
        assert float(row.ci_low) == pytest.approx(low.low, rel=PLACES)
        assert float(row.ci_high) == pytest.approx(high.high, rel=PLACES)


@pytest.mark.core
@pytest.mark.slow
def test_convergence_shows_one_curve_and_the_evidence_of_each_verdict(executed: Execute, simulated_study: Path) -> None:
    study = load(simulated_study)
    trial_verdicts = verdicts(study.runs, study.curves)
    examples = _tables(executed("convergence"), "verdict", "phase", "task", "cell", "seed", "evidence")[-1]
    assert sorted(examples["verdict"]) == sorted(trial_verdicts["verdict"].unique())
    assert set(examples["evidence"]) <= set(trial_verdicts["evidence"])
    drawn = next(cell for cell in _code(executed("convergence")) if "itertuples" in cell.source)
    assert len(drawn.outputs) == len(examples)


@pytest.mark.core
@pytest.mark.slow
def test_ablation_answers_as_the_report_does(executed: Execute, simulated_study: Path) -> None:
    found = compute_findings(load(simulated_study), task="rotation")
    shown = _table(executed("ablation"), "design", "baseline", "difference", "p_holm", "answer")
    shown = shown.rename(columns={"": "cell", "difference": "mean_difference"})
    for name in ("design", "cell", "baseline", "answer"):
        assert list(shown[name]) == list(found.effects[name])
    for name in ("mean_difference", "ci_low", "ci_high", "p_holm"):
        np.testing.assert_allclose(shown[name].astype(float), found.effects[name], rtol=PLACES)
    open_ones = _table(executed("ablation"), "smallest_detectable", "seeds_needed")
    assert list(open_ones["cell"]) == list(found.effects.query("answer == 'inconclusive'")["cell"])


@pytest.mark.core
@pytest.mark.slow
def test_ablation_differences_are_those_of_paired_seeds(executed: Execute, simulated_study: Path) -> None:
    runs = load(simulated_study).runs.query("phase == 'ablate' and task == 'rotation'")
    values = runs.pivot(index="seed", columns="cell", values="probe/cifar10/linear")
    cures = _tables(executed("ablation"), "cell", "mean_difference", "answer")[-1]
    expected = [(values[cell] - values["base"]).mean() for cell in cures["cell"]]
    np.testing.assert_allclose(cures["mean_difference"].astype(float), expected, rtol=PLACES)
    assert expected == sorted(expected, reverse=True), "the largest gain first"


@pytest.mark.core
@pytest.mark.slow
def test_ablation_of_a_study_without_one_says_so_in_a_line(tmp_path: Path) -> None:
    study = write_study(tmp_path / "quick")
    with pytest.raises(CellExecutionError) as raised:
        execute("ablation", study, tmp_path / "run")
    assert raised.value.ename == "UserError"
    assert "quick: no ablation was run" in raised.value.evalue
    assert "\n" not in raised.value.evalue


@pytest.mark.core
@pytest.mark.slow
def test_the_original_report_says_what_its_page_says(tmp_path: Path) -> None:
    series = simulated_series(tmp_path / "series")
    notebook = execute(OF_A_SERIES, series, tmp_path / "run")
    found = read_parts(series)
    paragraphs = [
        output.data["text/markdown"] for cell in _code(notebook) for output in cell.outputs if _is_markdown(output)
    ]
    assert paragraphs[-1] == cause(found["case"], found["cures"])
    assert paragraphs[-1].startswith("Repeated, the run that did not converge is undecided (2 of 5 seeds; 3 at chance)")
    shown = _table(notebook, "head", "cell", "mean_difference", "answer")
    wanted = [queries.ranked(findings, TASK) for findings in found["cures"].heads.values()]
    assert list(shown["answer"]) == [answer for rows in wanted for answer in rows["answer"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_A_STUDY)
@pytest.mark.parametrize(
    ("task", "designs", "n_seeds"),
    [("rotation", ("size_by_strength", "cures"), 5), ("simclr", ("leave_one_out", "pairs"), 3)],
)
def test_runs_through_with_failures_stops_and_few_seeds(
    name: str, task: str, designs: tuple[str, ...], n_seeds: int, tmp_path: Path
) -> None:
    study = write_study(tmp_path / "quick", designs=designs, n_seeds=n_seeds)
    execute(name, study, tmp_path / "run", PRETEXT_TASK=task)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["results", "convergence"])
def test_runs_through_without_an_ablation(name: str, tmp_path: Path) -> None:
    execute(name, write_study(tmp_path / "quick"), tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_A_STUDY)
def test_runs_through_on_copied_frames_of_images_without_labels(name: str, tmp_path: Path) -> None:
    study = load(write_study(tmp_path / "quick", designs=("size_by_strength", "cures")))
    pretext = study.runs.loc[study.runs["budget_steps"] > 0]
    copied = tmp_path / "copied"
    copied.mkdir()
    pretext.loc[:, ~pretext.columns.str.contains("probe/")].to_parquet(copied / "runs.parquet")
    study.curves.loc[~study.curves["metric"].str.startswith("probe/")].to_parquet(copied / "curves.parquet")
    execute(name, copied, tmp_path / "run")


@pytest.mark.slow
def test_the_first_study_shows_what_its_study_found(tmp_path: Path) -> None:
    notebook = execute_whole_study(tmp_path)
    result = load_result(tmp_path / WORKING / "studies" / "first")
    shown = _table(notebook, "task", "untrained", "answer").iloc[0]
    assert float(shown["mean"]) == pytest.approx(result.answer.gains.rows["mean"].iloc[0], abs=1e-3)
    texts = [output.data.get("text/plain", "") for cell in _code(notebook) for output in cell.outputs]
    assert f"first: finished, {len(result.runs)} trials" in texts, "one line, which says at the end that it is done"
    assert set(_table(notebook, "seed", "verdict")["verdict"]) <= set(result.verdicts["verdict"])
    (answered,) = [re.search(r"(\d+)% of the test images are right", text) for text in texts if "test images" in text]
    assert answered is not None
    assert int(answered[1]) > 10, "guessing is 10%"
    assert [kind for output in _outputs(notebook) for kind in output.data if kind == "image/png"] == ["image/png"]


def _outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in _code(notebook) for output in cell.outputs]


def _is_markdown(output: NotebookNode) -> bool:
    return "text/markdown" in output.get("data", {})


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _table(notebook: NotebookNode, *columns: str) -> pd.DataFrame:
    """Return the first table of a notebook with these columns, as printed: all str, the index under ''."""
    return _tables(notebook, *columns)[0]


def _tables(notebook: NotebookNode, *columns: str) -> list[pd.DataFrame]:
    found = []
    for cell in _code(notebook):
        for output in cell.outputs:
            rows = _rows(output.get("data", {}).get("text/html", ""))
            if rows and set(columns) <= set(rows[0]):
                found.append(pd.DataFrame(rows[1:], columns=rows[0]))
    assert found, f"no table with the columns {', '.join(columns)}"
    return found


def _rows(text: str) -> list[list[str]]:
    """Return the cells of an HTML table as pandas writes it."""
    rows = re.findall(r"<tr.*?>(.*?)</tr>", text, re.S)
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.S)] for row in rows]


def _last(curves: pd.DataFrame, runs: pd.DataFrame, metric: str) -> pd.Series:
    """Return the value of a metric at the last report of each of these runs."""
    own = curves.loc[curves["trial_id"].isin(runs["trial_id"]) & (curves["metric"] == metric)]
    return own.sort_values("step").groupby("trial_id")["value"].last()
