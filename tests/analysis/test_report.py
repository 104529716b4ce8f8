"""The report: one page that stands alone, says what it should in order, and whose script draws its figures again."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import yaml
from typer.testing import CliRunner

import analysis
from analysis.__main__ import app
from analysis.report import write_report
from study.journal import Journal
from tests.analysis.journals import TRUTH, write_study
from trainables.errors import UserError
from trainables.trial import TrialConfig

ORDER = ["what-was-run", "what-to-use", "did-it-learn", "search", "compared", "failed", "cost", "reproduce"]


class Page(HTMLParser):
    """What the tests look at in a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.sections: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag == "img":
            self.images.append(values)
        if tag == "section":
            self.sections.append(values["id"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_study(tmp_path_factory.mktemp("study"))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(folder / "report.html")


def test_the_page_asks_the_network_for_nothing(folder: Path, page: Page):
    assert page.links
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"url\(|@import", (folder / "report.html").read_text())


def test_every_image_is_described_in_words_of_its_own_and_lies_in_figures_too(folder: Path, page: Page):
    alts = [image["alt"] or "" for image in page.images]
    assert all(len(alt) > 30 for alt in alts)
    assert len(set(alts)) == len(alts) == len(list((folder / "figures").glob("*.png")))


def test_sections_answer_in_the_order_of_the_design(page: Page):
    assert page.sections == ORDER


def test_what_to_use_is_yaml_of_the_chosen_trial(folder: Path, page: Page):
    chosen = analysis.load(folder).outcomes["confirm"]["chosen"]
    blocks = re.findall(r"<pre>(.*?)</pre>", (folder / "report.html").read_text(), re.DOTALL)
    documents = [yaml.safe_load(html.unescape(block)) for block in blocks]
    found = {task: TrialConfig.from_dict(config) for document in documents for task, config in document.items()}
    assert found == {task: TrialConfig.from_dict(choice["config"]) for task, choice in chosen.items()}
    for choice in chosen.values():
        assert f"Mean probe/linear {choice['mean']:.3f} over 3 fresh seeds" in page.text
        assert ", ".join(f"{value:.3f}" for value in choice["values"]) in page.text


def test_a_recommended_study_is_shown_to_the_letter_with_the_command_that_runs_it(tmp_path: Path):
    folder = write_study(tmp_path)
    assert "recommended.yaml" not in write_report(folder).read_text()
    (folder / "recommended.yaml").write_text("name: again\nbudget_steps: 7  # <steps>\n")
    page = Page(write_report(folder))
    assert f"python study/run.py {folder.as_posix()}/recommended.yaml" in page.text
    assert "name: again\nbudget_steps: 7  # <steps>" in page.text


def test_test_accuracies_stand_beside_their_spread_chance_and_baselines(folder: Path, page: Page):
    runs = analysis.load(folder).runs.query("probe_split == 'test'")
    for task in (*TRUTH, "random_init"):
        values = runs.loc[runs["task"] == task, "probe/shapes/linear"]
        assert f"{values.mean():.3f} ± {values.std():.3f} (3)" in page.text
    pixels = runs.loc[runs["task"] == "raw_pixels", "probe/shapes/linear"].item()
    assert f"{pixels:.3f} (1)" in page.text
    assert "Fewer than 5 seeds: means and every seed are shown" in page.text


def test_a_task_at_chance_is_called_by_name(page: Page):
    assert "context_prediction has a configuration of which no seed beat chance" in page.text
    assert "rotation has a configuration" not in page.text


def test_a_task_that_beats_chance_untrained_is_called_by_name(tmp_path: Path):
    folder = write_study(tmp_path, until="baselines")
    trial = TrialConfig("confirm", "simclr")
    facts = {"primary_metric": "val/accuracy", "primary_mode": "max", "chance": {"val/accuracy": 0.004}}
    journal = Journal(folder)
    journal.append("trial_started", trial_id=trial.trial_id, phase="confirm", config=trial.to_dict())
    journal.append("facts", trial_id=trial.trial_id, n_validation=500, **facts)
    journal.append("report", trial_id=trial.trial_id, step=0, metrics={"val/accuracy": 0.04})
    journal.close()
    assert "simclr beats chance before its first step" in Page(write_report(folder)).text


def test_failures_show_their_reason_as_text_and_data_its_fingerprint(folder: Path, page: Page):
    assert "loss is <NaN> at step 12" in page.text
    assert "<NaN>" not in (folder / "report.html").read_text()
    assert "0123456789abcdef" in page.text
    assert "pretext_train 1,000" in page.text


def test_the_script_of_the_page_draws_as_many_figures_as_it_shows(page: Page):
    before = set(plt.get_fignums())
    exec(page.text[page.text.index("import analysis") : page.text.index("This page:")], {})
    drawn = set(plt.get_fignums()) - before
    for number in drawn:
        plt.close(number)
    assert len(drawn) == len(page.images)


@pytest.mark.parametrize("until", ["baselines", "search", "confirm"])
def test_an_unfinished_study_gets_a_report_that_says_what_is_missing(tmp_path: Path, until: str):
    page = Page(write_report(write_study(tmp_path, until=until, tasks=("rotation",))))
    assert page.sections == ORDER
    assert "Nothing has been evaluated on the test split yet" in page.text
    assert ("No configuration is chosen yet" in page.text) == (until != "confirm")
    assert ("No pretext trial has reported yet" in page.text) == (until == "baselines")


def test_a_study_that_has_only_begun_and_one_with_a_running_trial_get_one_too(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append("study_started", study="<b>new</b>", config={}, datasets={})
    assert "<b>new</b>" in Page(write_report(tmp_path)).text
    trial = TrialConfig("search", "rotation")
    journal.append("trial_started", trial_id=trial.trial_id, phase="search", config=trial.to_dict())
    journal.close()
    assert "1 of these trials have not ended" in Page(write_report(tmp_path)).text


def test_the_command_line_reports_and_exports(tmp_path: Path):
    folder = write_study(tmp_path / "quick", until="baselines")
    cli = CliRunner()
    assert cli.invoke(app, ["report", str(folder)]).stdout.strip() == str(folder / "report.html")
    assert cli.invoke(app, ["export", str(folder), "--format", "csv"]).exit_code == 0
    assert (folder / "runs.csv").read_text().startswith("trial_id,study,phase")
    assert cli.invoke(app, ["export", str(folder)]).stdout.split() == [
        str(folder / f"{name}.parquet") for name in ("runs", "curves")
    ]


def test_what_the_user_can_mend_is_one_line_on_stderr_and_exit_code_2(tmp_path: Path):
    command = [sys.executable, "-m", "analysis", "report", str(tmp_path / "none")]
    wrong = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "no such folder" in wrong.stderr


def test_a_folder_that_is_no_study_gets_no_page(tmp_path: Path):
    with pytest.raises(UserError, match="is no study"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())
