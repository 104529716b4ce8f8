"""A design, a verdict and a section of one plug-in file, that of docs/extending.md, reach the report of its study."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.convergence import CATALOG, verdicts
from analysis.findings import Findings
from analysis.report import register_section, write_report
from analysis.report.blocks import Section, Text
from analysis.report.sections.registry import PLACES, SECTIONS, with_added
from search_spaces.ablations import DESIGNS
from study.config.validation import check_config
from tests.analysis.computed import findings_of
from tests.analysis.report.pages import Page
from tests.analysis.simulated_studies import simulate
from tests.conftest import REPOSITORY
from tests.documents import all_blocks
from trainables import plugins
from trainables.errors import ConfigError

JUMP = 0.03


def file_of_the_page(folder: Path) -> Path:
    (block,) = (each for each in all_blocks(REPOSITORY / "docs" / "extending.md") if each.title == "my_questions.py")
    path = folder / block.title
    path.write_text(block.text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a simulated study with the plug-in, which is forgotten after the tests."""
    place = tmp_path_factory.mktemp("plugged-in")
    content = {
        "name": "questions",
        "simulate": True,
        "plugins": [str(file_of_the_page(place))],
        "tasks": ["rotation"],
        "n_images": 200,
        "budget_steps": 400,
        "report_every": 25,
        "search": {"num_samples": 2, "space": {"lr": {"loguniform": [1e-3, 1e-2]}}},
        "confirm": {"top_k": 1, "seeds": 3},
        "ablate": {"designs": ["batch_sizes"], "seeds": 5},
    }
    study = simulate(check_config(content), place)
    plugins.store(["my_questions.py"], study)
    yield study
    plugins.unload(plugins.loaded("my_questions.py"))
    assert (tuple(DESIGNS), tuple(CATALOG), tuple(SECTIONS)) == (DESIGNS.built_in, CATALOG.built_in, ())


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(write_report(folder, findings_of(folder)))


def restless(findings: Findings) -> set[str]:
    """Return the trials that fall in the last quarter of their reports, computed from the frames."""
    curves = findings.study.curves.query("metric == 'val/accuracy'").sort_values("step")
    found = set()
    for trial_id, own in curves.groupby("trial_id"):
        last = own["value"].to_numpy()[-(len(own) // 4) - 1 :]
        if len(own) >= 8 and (np.diff(last) < -JUMP).any():
            found.add(str(trial_id))
    return found


def test_the_cells_of_its_design_are_run_and_compared(findings: Findings, page: Page):
    base = int(findings.study.runs.query("cell == 'base'")["batch_size"].iloc[0])
    rows = findings.effects.query("cell != baseline")
    assert set(rows["design"]) == {"batch_sizes"}
    assert set(rows["cell"]) == {f"batch_size={base // 2}", f"batch_size={2 * base}"}
    assert rows["n_seeds"].tolist() == [5, 5]
    assert f"batch_size={2 * base}" in page.texts["cures"]


def test_its_verdict_is_given_where_its_rule_finds_something(findings: Findings, page: Page):
    found = findings.verdicts.set_index("trial_id")
    wanted, own = restless(findings), set(found.index[found["verdict"] == "restless"])
    assert own
    assert own <= wanted
    earlier = {"failed", "diverged", "collapsed", "at_chance", "overfit"}  # the rules before it
    assert set(found.loc[sorted(wanted - own), "verdict"]) <= earlier
    assert found.loc[sorted(own), "cure"].str.startswith("a larger batch: ").all()
    assert "restless" in page.texts["did-it-converge"]
    assert "validation still jumped in the last quarter of the reports" in page.texts["did-it-converge"]


def test_its_section_is_in_its_place_with_its_numbers(findings: Findings, page: Page):
    assert page.sections.index("time") == page.sections.index("cost") + 1
    minutes = findings.study.runs.query("task == 'rotation'")["wall_s"].sum() / 60
    assert f"{minutes:.1f}" in page.texts["time"]


def test_a_study_without_the_plug_in_has_neither_although_it_is_loaded(findings: Findings, simulated_study: Path):
    other = analysis.load(simulated_study)
    runs = other.runs.query("phase == 'ablate' and task == 'rotation'")
    assert "restless" in CATALOG
    assert other.plugins == ()
    assert "restless" not in set(verdicts(runs, other.curves)["verdict"])
    own = verdicts(runs, other.curves, findings.study.plugins)
    assert "restless" in set(own["verdict"]), "else this test would show nothing"


def test_code_that_fails_is_named_in_the_report_and_does_not_end_it(
    findings: Findings, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from analysis.convergence import Verdict, register_verdict\n"
        "from analysis.report import register_section\n\n"
        "@register_verdict(Verdict('odd', 'it is odd', 'is odd', 'Q', '#123456', None), before='failed')\n"
        "def odd(trial):\n    return 1 / 0\n\n"
        "@register_section('broken', after='search')\n"
        "def broken(findings, folder):\n    raise KeyError('no such column')\n",
        encoding="utf-8",
    )
    plugin = plugins.obtain(str(broken))
    try:
        names = [{"name": "broken.py", "sha256": plugin.sha256}]
        study = dataclasses.replace(findings.study, config={**findings.study.config, "plugins": names})
        found = verdicts(study.runs.query("phase == 'confirm'"), study.curves, study.plugins)
        sections = [Section(each, each, []) for each in PLACES]
        _, *added = with_added(sections, dataclasses.replace(findings, study=study), tmp_path)[PLACES.index("search") :]
    finally:
        plugins.unload(plugin)
    assert "odd" not in set(found["verdict"])
    assert "verdict 'odd': its rule failed on trial" in caplog.text
    assert [section.id for section in added] == ["broken", "compared", "cost"]
    assert added[0].blocks == [
        Text("The code of this section, which a plug-in has added, failed: KeyError: 'no such column'", "caveat")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("before='overfitt'", "before = 'overfitt': no such verdict; did you mean 'overfit'"),
        ("before='overfit', letter='O'", "letter 'O' belongs to overfit"),
        ("before='overfit', letter='RR'", "letter 'RR' must be one character"),
        ("before='overfit', color='red'", "color 'red': must be written as #rrggbb"),
    ],
)
def test_a_verdict_that_cannot_be_shown_is_refused(text: str, message: str, tmp_path: Path):
    path = tmp_path / "refused.py"
    path.write_text(
        "from analysis.convergence import Verdict, register_verdict\n\n"
        "def make(before, letter='Q', color='#123456'):\n"
        "    register_verdict(Verdict('odd', 'it is odd', 'is odd', letter, color, None), before=before)(print)\n\n"
        f"make({text})\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as raised:
        plugins.obtain(str(path))
    assert message in str(raised.value)
    assert "odd" not in CATALOG


def test_a_section_has_a_place_and_a_name_of_its_own():
    with pytest.raises(ConfigError, match="after = 'costs': no such section; did you mean 'cost'"):
        register_section("mine", after="costs")
    with pytest.raises(ConfigError, match="section 'cost': this package has one of this name"):
        register_section("cost")


def test_the_places_are_the_sections_of_the_page(page: Page):
    others = {"summary", "time", "glossary", "reproduce"}
    assert tuple(each for each in page.sections if each not in others) == PLACES


def test_a_design_whose_code_fails_is_one_line_before_the_study(tmp_path: Path):
    path = tmp_path / "broken_design.py"
    path.write_text(
        "from search_spaces.ablations import register_design\n\n"
        "@register_design('mine')\ndef mine(base, levels):\n    yield 1 / 0\n",
        encoding="utf-8",
    )
    content = {"name": "broken", "plugins": [str(path)], "tasks": ["rotation"], "ablate": {"designs": ["mine"]}}
    try:
        with pytest.raises(ConfigError) as raised:
            check_config(content)
    finally:
        plugins.unload(plugins.loaded("broken_design.py"))
    assert "mine: its code failed for rotation: ZeroDivisionError: division by zero" in str(raised.value)
    assert "\n" not in str(raised.value)
