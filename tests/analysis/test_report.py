"""The report: one page that stands alone, answers first, and whose script draws its figures again."""

from __future__ import annotations

import base64
import copy
import dataclasses
import html
import re
import types
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml

import analysis
from analysis.figures import learning_curves
from analysis.findings import Findings, find
from analysis.report import write_report
from analysis.report.blocks import Block, Bullets, Folded, Gallery, Table, markup, pictures_in
from analysis.report.convergence import did_it_converge
from analysis.report.cures import what_each_did
from analysis.report.page import sections_of
from analysis.report.pictures import DOTS_PER_INCH, Shown, call, imports, picture
from analysis.report.sources import Sources
from analysis.report.summary import summary
from analysis.report.use import what_to_use
from analysis.report.words import interval, signed
from analysis.tables import last_values
from study.journal import Journal
from tests.analysis.journals import TRUTH, write_study
from trainables.errors import UserError
from trainables.trial import TrialConfig

SUMMARY = "summary"
ORDER = [SUMMARY, "what-to-use", "did-it-converge", "cures", "search", "compared", "cost", "reproduce"]
VOID = {"meta", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """What the tests look at in a page; `unclosed` are the tags that do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.sections: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.unclosed: list[str] = []
        self.text = ""
        self.texts: dict[str, str] = {}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.ids += [values["id"] or ""] if "id" in values else []
        if tag == "img":
            self.images.append(values)
        if tag == "section":
            self.sections.append(values["id"] or "")
            self.texts[self.sections[-1]] = ""

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.sections:
            self.texts[self.sections[-1]] += data

    def section(self, name: str) -> str:
        """Return the text of one section."""
        return self.texts[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with every phase, whose ablation has a cure, a cell that fails and a task that nothing helps."""
    return write_study(tmp_path_factory.mktemp("study"), designs=("size_by_strength", "cures"))


@pytest.fixture(scope="module")
def findings(folder: Path) -> Findings:
    return find(analysis.load(folder))


@pytest.fixture(scope="module")
def page(folder: Path, findings: Findings) -> Page:
    (folder / "recommended.yaml").write_text("name: again\nbudget_steps: 7  # <steps>\n")
    return Page(write_report(folder, findings))


def texts(blocks: Sequence[Block]) -> Iterator[str]:
    """Yield every text of the blocks, marked up as they are; figures as the code that draws them."""
    for block in blocks:
        match block:
            case Folded():
                yield block.summary
                yield from texts(block.blocks)
            case Bullets():
                yield from block.items
            case Table():
                yield from ("|".join(row) for row in (block.head, *block.rows))
            case Gallery():
                yield from (each.code for each in block.pictures)
            case _:
                yield block.text


def section(findings: Findings, name: str) -> str:
    """Return what a section says, without drawing its figures."""
    makers = {"did-it-converge": did_it_converge, "cures": what_each_did}
    found = makers[name](findings, Sources(findings)) if name in makers else what_to_use(findings, Path("none"))
    return "\n".join(texts(found.blocks))


def test_the_page_asks_the_network_for_nothing(folder: Path, page: Page):
    assert page.links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert not re.search(r"url\(|@import", (folder / "report.html").read_text())


def test_the_page_is_well_formed_and_its_links_lead_somewhere(page: Page):
    assert (page.unclosed, page.open) == ([], [])
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_it_reads_on_a_phone_and_on_paper(folder: Path):
    source = (folder / "report.html").read_text()
    assert '<meta name="viewport" content="width=device-width' in source
    assert "@media print" in source
    for table in re.findall(r"(.{40})<table>", source):
        assert table.endswith('<div class="scroll">')


def test_every_image_is_described_in_words_of_its_own_and_lies_in_figures_too(folder: Path, page: Page):
    alts = [image["alt"] or "" for image in page.images]
    assert all(len(alt) > 30 for alt in alts)
    assert len(set(alts)) == len(alts) == len(list((folder / "figures").glob("*.png")))


def test_sections_answer_in_the_order_of_the_design(page: Page):
    assert page.sections == ORDER


# The summary


def test_the_summary_says_what_pre_training_is_worth_first(findings: Findings):
    runs = findings.study.runs.query("probe_split == 'test'")
    means = runs.groupby("task")["probe/shapes/linear"].mean()
    first = summary(findings)[0]
    assert first.startswith("**simclr is the best of 3 pretext tasks on shapes**: linear probe ")
    numbers = [means["simclr"], means["random_init"], means["simclr"] - means["random_init"], means["raw_pixels"]]
    assert [f"{number:.3f}" for number in numbers] == re.findall(r"0\.\d{3}", first)[:4]
    assert "above it in 3 of 3 seeds, too few to test" in first


def test_the_summary_names_each_tasks_trouble_its_evidence_and_its_cure(findings: Findings):
    told = {task: sentence for task in TRUTH for sentence in summary(findings) if sentence.startswith(f"**{task}** on")}
    cured = findings.effects.query("design == 'cures' and task == 'rotation' and cell == 'augmentation_strength=1'")
    row = cured.iloc[0]
    assert re.match(
        r"\*\*rotation\*\* on 200 images without augmentation overfits \(5 of 5 seeds\): val/accuracy fell from its "
        r"best, 0\.\d+ around step \d+, to 0\.\d+ at step 200; \*\*`augmentation_strength=1`\*\* cures it "
        r"\(5 of 5 seeds then converge\): linear probe on shapes ",
        told["rotation"],
    )
    interval = f"+{row['mean_difference']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}], 5 seeds, Holm p < 0.001"
    assert interval in told["rotation"]
    assert "converges (5 of 5 seeds); nothing tried does better (3 worse, most of all" in told["simclr"]
    assert "stays at chance (5 of 5 seeds): val/accuracy" in told["context_prediction"]
    assert re.search(
        r"features not shown to be better than untrained ones \(0\.4\d\d against 0\.4\d\d\)", told["context_prediction"]
    )
    assert "untrained" not in told["rotation"] + told["simclr"]
    assert "nothing tried is shown to help" in told["context_prediction"]
    assert "may go unseen" in told["context_prediction"]


def test_the_summary_is_at_the_top_and_three_to_six_sentences_long(findings: Findings, page: Page):
    assert 3 <= len(summary(findings)) <= 6
    start = page.text.index("simclr is the best of 3")
    assert start < page.text.index("What to use")
    assert "2 of 172 trials failed (RuntimeError: " in page.text


def test_where_no_task_beats_an_untrained_encoder_that_is_the_first_sentence(tmp_path: Path):
    found = find(analysis.load(write_study(tmp_path, tasks=("context_prediction",), seed=6)))
    task = found.against_untrained.iloc[0]
    assert not task["mean_difference"] > 0.03
    found = dataclasses.replace(found, differences=found.differences.assign(difference=-0.01))
    assert summary(found)[0].startswith("**No pretext task beats an untrained encoder on shapes**: the nearest is")


def test_without_labels_or_before_the_evaluation_the_summary_says_why_it_cannot_tell(tmp_path: Path):
    bare = write_study(tmp_path / "a", tasks=("rotation",), labelled=False, designs=("cures",))
    early = write_study(tmp_path / "b", tasks=("rotation",), until="confirm")
    assert "without labels no probe can tell" in summary(find(analysis.load(bare)))[0]
    assert "the evaluate phase measures that" in summary(find(analysis.load(early)))[0]


# What to use


def test_what_to_use_is_yaml_of_the_chosen_trial(folder: Path, page: Page):
    chosen = analysis.load(folder).outcomes["confirm"]["chosen"]
    blocks = re.findall(r"<pre>(.*?)</pre>", (folder / "report.html").read_text(), re.DOTALL)
    documents = [yaml.safe_load(html.unescape(block)) for block in blocks]
    found = {
        task: TrialConfig.from_dict(config)
        for document in documents
        for task, config in document.items()
        if task in TRUTH
    }
    assert found == {task: TrialConfig.from_dict(choice["config"]) for task, choice in chosen.items()}
    for choice in chosen.values():
        assert f"Mean probe/linear {choice['mean']:.3f} over 3 fresh seeds" in page.text
        assert ", ".join(f"{value:.3f}" for value in choice["values"]) in page.text


def test_a_recommended_study_is_shown_to_the_letter_with_the_command_that_runs_it(folder: Path, page: Page):
    assert f"python study/run.py {folder.as_posix()}/recommended.yaml" in page.text
    assert "name: again\nbudget_steps: 7  # <steps>" in page.text


def test_an_ablation_of_another_case_is_not_taken_for_one_of_what_was_chosen(page: Page):
    assert "The ablation asks about another case, on 200 images without augmentation" in page.text
    assert "The ablation found better" not in page.text


def test_what_the_ablation_found_better_than_what_was_chosen_is_told_beside_it(findings: Findings):
    choices = copy.deepcopy(findings.study.outcomes["confirm"]["chosen"])
    choices["rotation"]["config"] |= {"n_images": 200, "augmentation_strength": 0.0}
    outcomes = {**findings.study.outcomes, "confirm": {"chosen": choices}}
    study = dataclasses.replace(findings.study, outcomes=outcomes)
    text = section(dataclasses.replace(findings, study=study), "what-to-use")
    assert "**The ablation found better**: `augmentation_strength=1` (+0.07" in text


# Did it converge


def test_verdicts_are_counted_and_told_with_evidence_and_cure(findings: Findings, page: Page):
    text = page.section("did-it-converge")
    base = findings.verdicts.query("phase == 'ablate' and task == 'rotation' and cell == 'base'").sort_values("seed")
    assert f"Evidence: {base['evidence'].iloc[0]}." in text
    assert f"Cure: {base['cure'].iloc[0]}." in text
    assert "The ablation's base, it overfits (5 of 5 seeds). P(converged) 0.00 [0.00, 0.52]." in text
    assert "As chosen, it stays at chance (3 of 3 seeds). P(converged) 0.00 [0.00, 0.71]." in text
    counts = findings.verdicts.query("phase == 'ablate' and task == 'rotation'")["verdict"].value_counts()
    shown = [counts.get(name, "–") for name in ("failed", "at_chance", "overfit", "still_improving", "converged")]
    row = "|".join(map(str, ["ablate", "rotation", *shown, counts.sum()]))
    assert row in section(findings, "did-it-converge").splitlines()


def test_each_configuration_stands_beside_its_chance_level(page: Page):
    assert "context_prediction: a configuration of which no seed beat chance" in page.text
    assert "rotation: a configuration" not in page.text
    assert page.text.count("learning_curves(") == 2 * len(
        [i for i in page.images if "optimiser steps of" in str(i["alt"])]
    )


def test_a_task_that_beats_chance_untrained_is_called_by_name(tmp_path: Path):
    folder = write_study(tmp_path, until="baselines", tasks=("simclr",))
    trial = TrialConfig("confirm", "simclr")
    facts = {"primary_metric": "val/accuracy", "primary_mode": "max", "chance": {"val/accuracy": 0.004}}
    journal = Journal(folder)
    journal.append("trial_started", trial_id=trial.trial_id, phase="confirm", config=trial.to_dict())
    journal.append("facts", trial_id=trial.trial_id, n_validation=500, **facts)
    for step, value in ((0, 0.04), (25, 0.05)):
        journal.append("report", trial_id=trial.trial_id, step=step, metrics={"val/accuracy": value})
    journal.close()
    assert "simclr: beyond chance before the first step" in section(find(analysis.load(folder)), "did-it-converge")


# What each cure did


def test_cures_are_ranked_with_interval_answer_and_how_often_they_converge(page: Page):
    text = page.section("cures")
    ranks = [
        text.index(f"{cell}: +0.0")
        for cell in ("augmentation_strength=1", "n_images=1000", "augmentation_strength=0.5")
    ]
    assert ranks == sorted(ranks)
    assert re.search(
        r"augmentation_strength=1: \+0\.07\d \[0\.0\d\d, 0\.0\d\d\], 5 seeds, Holm p < 0\.001; 5 of 5 converge", text
    )
    assert "Worse: budget_steps=400 (−0.03" in text
    assert "size_by_strength against n_images=1000: better n_images=1000, augmentation_strength=1 (+0.0" in text


def test_where_the_evidence_does_not_suffice_it_says_what_would(findings: Findings, page: Page):
    row = findings.effects.query("cell == 'weight_decay=0.01'").iloc[0]
    told = f"`weight_decay=0.01`|–|{signed(row['mean_difference'])}|{interval(row['ci_low'], row['ci_high'])}|"
    told += f"{row['p_holm']:.3f}|5|{row['smallest_detectable']:.3f}|about {row['seeds_needed']}"
    assert told in section(findings, "cures")
    assert "Where the evidence does not suffice." in page.text
    assert "to find one of 0.01, the smallest that matters" in page.text


def test_a_failed_cell_is_told_as_an_outcome_and_with_its_reason(folder: Path, page: Page):
    assert "Failed: lr=0.003 (1 of 5). A failure is an outcome" in page.section("cures")
    assert "RuntimeError: out of memory" in page.text
    assert "loss is <NaN> at step 12" in page.text
    assert "<NaN>" not in (folder / "report.html").read_text()


def test_effects_maps_and_take_off_are_drawn_of_each_task(page: Page):
    code = "\n".join(re.findall(r"^\w+\(.*\)$", page.text, re.MULTILINE))
    for task in TRUTH:
        assert f"size_strength_map(cells_of(findings, '{task}', 'size_by_strength'), 'probe/shapes/linear')" in code
        assert f"size_strength_map(cells_of(findings, '{task}', 'size_by_strength'), 'converged')" in code
        assert re.search(rf"effects_forest\(.*task == '{task}' and design == 'cures'.*margin=0.01", code)
        assert re.search(rf"survival_curves\(kaplan_meier\(steps_to\(.*task == '{task}'", code)


def test_few_seeds_are_shown_and_not_tested(tmp_path: Path):
    found = find(analysis.load(write_study(tmp_path, designs=("cures",), tasks=("rotation",), n_seeds=3)))
    text = section(found, "cures")
    assert "6 of 6 comparisons have fewer than 5 seeds with both values: means are shown and nothing is tested." in text
    row = r"`augmentation_strength=1`\|[^|]*a test needs 5\|\+0\.0\d\d\|–\|–\|3\|–\|at least 5"
    assert re.search(row, text)
    assert "Better than" not in text


def test_augmentation_ops_are_told_by_leave_one_out_pairs_and_main_effects(tmp_path: Path):
    designs = ("leave_one_out", "pairs", "factorial")
    found = find(analysis.load(write_study(tmp_path, designs=designs, tasks=("rotation",))))
    text = section(found, "cures")
    assert "nothing tried does better (2 worse, most of all `only color_jitter`" in text
    assert "**pairs against `no augmentation`**: better `base` (+0.1" in text
    assert re.search(r"color_jitter \+ crop_resize\|\+0\.0\d\d\|\[", text)
    assert "The factorial design of rotation" in text
    pictures = {each.name: each for part in sections_of(found, tmp_path) for each in pictures_in(part.blocks)}
    drawn = pictures["pairs-rotation"].draw()
    assert drawn.get_title(loc="left").startswith("rotation: pairs of augmentations")
    plt.close(drawn.get_figure(root=True))


def test_a_study_without_an_ablation_says_what_would_have_to_be_run(tmp_path: Path):
    text = section(find(analysis.load(write_study(tmp_path, tasks=("rotation",)))), "cures")
    assert "No ablation was run, so this study cannot say what any augmentation does" in text
    assert "ablate: {designs: [cures, size_by_strength], seeds: 5}" in text


def test_an_ablation_under_way_is_reported_as_preliminary(tmp_path: Path):
    folder = write_study(tmp_path, designs=("cures",), tasks=("rotation",), until="ablate")
    path = folder / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    ended = [index for index, line in enumerate(lines) if '"trial_ended"' in line]
    path.write_text("".join(lines[: ended[-3]]))
    found = find(analysis.load(folder))
    assert "The ablate phase has not ended: every cell is compared with the base" in section(found, "cures")
    assert "1 trial not ended yet, so all this is preliminary" in summary(found)[-1]


# Compared, and cost


def test_test_accuracies_stand_beside_their_spread_chance_and_baselines(folder: Path, page: Page):
    runs = analysis.load(folder).runs.query("probe_split == 'test'")
    for task in (*TRUTH, "random_init"):
        values = runs.loc[runs["task"] == task, "probe/shapes/linear"]
        assert f"{values.mean():.3f} ± {values.std():.3f} (3)" in page.text
    pixels = runs.loc[runs["task"] == "raw_pixels", "probe/shapes/linear"].item()
    assert f"{pixels:.3f} (1)" in page.text
    assert "Fewer than 5 seeds: means and every seed are shown" in page.text


def test_pre_training_is_tested_against_untrained_encoders_in_the_ablation(findings: Findings, page: Page):
    row = findings.against_untrained.query("design == 'pre-training' and task == 'rotation' and cell == 'base'").iloc[0]
    told = f"rotation better, +{row['mean_difference']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}], 5 seeds"
    assert f"Did pre-training help at all? The ablation's base against untrained encoders: {told}" in page.text
    assert "Across tasks: which cell is best on average" in page.text


def test_data_and_cost_are_told(page: Page):
    assert "0123456789abcdef" in page.text
    assert "pretext_train 1,000" in page.text
    assert re.search(r"total\s*172", page.text)


# The script, and what pictures are made of


def test_the_script_of_the_page_draws_the_figures_it_shows(page: Page, tmp_path: Path):
    before = set(plt.get_fignums())
    with plt.rc_context({"figure.max_open_warning": 0}):
        exec(page.text[page.text.index("import analysis") : page.text.index("This page, the verdicts")], {})
    drawn = sorted(set(plt.get_fignums()) - before)
    assert len(drawn) == len(page.images)
    for place in (0, len(drawn) // 2, len(drawn) - 1):  # drawing takes a while
        path = tmp_path / f"{place}.png"
        plt.figure(drawn[place]).savefig(path, dpi=DOTS_PER_INCH)
        shown = (page.images[place]["src"] or "").removeprefix("data:image/png;base64,")
        assert base64.b64decode(shown) == path.read_bytes()
    for number in drawn:
        plt.close(number)


@pytest.mark.parametrize("value", ["it's", 'a "name"', "\\", "x' or a == 'y"])
def test_a_shown_value_and_its_code_are_one_whatever_names_a_journal_holds(value: str):
    runs = pd.DataFrame({"a": [value, "y"]})
    found = call(pd.DataFrame.head, Shown(runs, "study.runs").query(f"a == {value!r}"), n=5)
    names = {"study": types.SimpleNamespace(runs=runs), "head": pd.DataFrame.head}
    pd.testing.assert_frame_equal(eval(found.code, names), found.value)
    assert found.value["a"].tolist() == [value]


def test_names_from_a_journal_cannot_leave_the_folder_or_the_page():
    drawn = picture("curves-../../etc", "alt", plt.subplots)
    assert drawn.name == "curves-.._.._etc"
    assert markup("<b>`a<b` **c**") == "&lt;b&gt;<code>a&lt;b</code> <strong>c</strong>"


def test_imports_name_each_function_once_and_figures_by_their_package():
    runs = pd.DataFrame({"trial_id": ["t"]})
    points = pd.DataFrame({"trial_id": ["t"], "step": 1, "metric": "m", "value": 0.0})
    pictures = [picture("a", "", learning_curves, call(last_values, runs, points)), picture("b", "", learning_curves)]
    lines = ["from analysis.figures import learning_curves", "from analysis.tables import last_values"]
    assert imports(pictures) == lines


def test_pyplot_keeps_its_backend_and_its_figures(tmp_path: Path):
    before = matplotlib.get_backend()
    plt.switch_backend("svg")
    try:
        mine = plt.figure()
        figures = plt.get_fignums()
        write_report(write_study(tmp_path, until="search", tasks=("rotation",)))
        assert matplotlib.get_backend() == "svg"
        assert plt.get_fignums() == figures
    finally:
        plt.close(mine)
        plt.switch_backend(before)


# Studies that have not come far, and folders that hold none


@pytest.mark.parametrize("until", ["baselines", "search", "confirm"])
def test_an_unfinished_study_gets_a_report_that_says_what_is_missing(tmp_path: Path, until: str):
    page = Page(write_report(write_study(tmp_path, until=until, tasks=("rotation",))))
    assert page.sections == ORDER
    assert "Nothing has been evaluated on the test split yet" in page.text
    assert ("No configuration is chosen yet" in page.text) == (until != "confirm")
    assert ("No pretext trial has reported yet" in page.text) == (until == "baselines")
    assert ("No search trial has started" in page.text) == (until == "baselines")


def test_a_study_that_has_only_begun_and_one_with_a_running_trial_get_one_too(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append("study_started", study="<b>new</b>", config={}, datasets={})
    assert "<b>new</b>" in Page(write_report(tmp_path)).text
    trial = TrialConfig("search", "rotation")
    journal.append("trial_started", trial_id=trial.trial_id, phase="search", config=trial.to_dict())
    journal.close()
    assert "1 trial not ended yet" in Page(write_report(tmp_path)).text


def test_a_folder_that_is_no_study_gets_no_page(tmp_path: Path):
    with pytest.raises(UserError, match="is no study"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())
