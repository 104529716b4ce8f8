"""A report on real images of which nine in ten have the same class: it answers by balanced accuracy and says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import analysis
from analysis.comparisons import label_results
from analysis.data.classes import levels_of
from analysis.data.tables import last_values
from analysis.figures import accuracy_by_task, balanced_accuracy_by_task, label_curves, search_scatter
from analysis.findings import Findings, compute_findings
from analysis.records import FINISHED, Facts, PhaseEnded, Report, TrialEnded, TrialStarted
from analysis.report.blocks import Block, Folded, Table, Text
from analysis.report.sections.baselines import how_it_compares
from analysis.report.sections.classes import _share
from analysis.report.sections.recommendation import what_to_use
from analysis.report.sections.summary import summary
from analysis.report.sources import Sources
from study.config.validation import check_config
from study.execution.journal import Journal
from study.plan.history import History
from study.plan.phases import Plan
from study.provenance import study_started
from tests.analysis.figure_helpers import lines
from tests.trainables.imbalanced_images import SIDE, imbalanced_splits
from trainables.encoders import build_encoder
from trainables.probes.evaluation import baseline_encoder, evaluate
from trainables.training import loop
from trainables.trial import BASELINES, TrialConfig

CPU = torch.device("cpu")


class Recorded:
    """A study of one task whose trials run here, one after another, instead of on Ray."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.plan, self.history, self.journal = plan, History(), Journal(folder)
        self.journal.listeners.append(self.history.observe)
        self.journal.append(study_started(plan))
        base = plan.search_base("rotation")
        for seed in plan.fresh_seeds():
            self.train(base.replace(phase="confirm", cell="candidate-1", seed=seed))
        self.journal.append(PhaseEnded(phase="confirm", outcome={"chosen": plan.chosen(self.history)}))
        for trial in plan.evaluate(self.history):
            self.probe(trial)
        self.journal.append(PhaseEnded(phase="evaluate"))
        self.journal.close()

    def train(self, trial: TrialConfig) -> None:
        key = trial.trial_id
        self.journal.append(TrialStarted.of(trial))

        def record(report: loop.Report) -> None:
            if report.step == 0:
                self.journal.append(Facts(trial_id=key, **report.facts))
            self.journal.append(Report(trial_id=key, step=report.step, metrics=report.metrics))

        loop.fit(trial, self.plan.datasets[trial.dataset], record)
        self.journal.append(TrialEnded(trial_id=key, status=FINISHED, steps=trial.budget_steps))

    def probe(self, trial: TrialConfig) -> None:
        self.journal.append(TrialStarted.of(trial))
        wide = build_encoder("conv4", width=8, image_size=SIDE, seed=trial.seed)  # stands for the trained encoder
        encoder = baseline_encoder(trial, SIDE) if trial.task in BASELINES else wide
        found = evaluate(trial, encoder, self.plan.datasets, CPU)
        results = {"results": found.results, "per_image": found.per_image}
        self.journal.append(TrialEnded(trial_id=trial.trial_id, status=FINISHED, steps=0, **results))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> analysis.Study:
    splits = imbalanced_splits(tmp_path_factory.mktemp("images"))
    content = {"name": "rare", "tasks": ["rotation"], "dataset": splits.name, "image_size": SIDE, "budget_steps": 4}
    content |= {
        "evaluate": {"labels_per_class": [3], "fine_tune_steps": 2},
        "report_every": 2,
        "encoder": {"width": 4},
        "defaults": {"rotation": {"batch_size": 8}},
    }
    folder = tmp_path_factory.mktemp("study")
    Recorded(folder, Plan(check_config(content), {splits.name: splits}))
    return analysis.load(folder)


@pytest.fixture(scope="module")
def findings(study: analysis.Study) -> Findings:
    return compute_findings(study)


def text_of(blocks: list[Block]) -> str:
    """Return the texts of blocks, and of the blocks folded in them."""
    inner = [text_of(list(block.blocks)) for block in blocks if isinstance(block, Folded)]
    return " ".join([*(block.text for block in blocks if isinstance(block, Text)), *inner])


def tables_of(blocks: list[Block]) -> list[Table]:
    folded = [table for block in blocks if isinstance(block, Folded) for table in tables_of(list(block.blocks))]
    return [*(block for block in blocks if isinstance(block, Table)), *folded]


def test_the_study_chooses_and_answers_by_balanced_accuracy(findings: Findings):
    dataset = findings.study.config["dataset"]
    assert findings.study.outcomes["confirm"]["chosen"]["rotation"]["metric"] == "probe/linear_balanced_accuracy"
    assert set(findings.against_untrained["metric"]) == {f"probe/{dataset}/linear_balanced_accuracy"}


def test_the_summary_says_which_classes_are_imbalanced_and_which_metric_that_leads_to(findings: Findings):
    said = " ".join(summary(findings))
    assert "**Imbalanced classes**: the largest of 2 classes has 90.0% of the test images" in said
    assert "has an accuracy of 0.900. Answers on this split are based on balanced accuracy" in said
    assert "which is 0.500 for this prediction" in said
    assert "balanced accuracy of the linear probe" in said
    assert "for always predicting the largest class" not in said.split("**Imbalanced")[0]  # balanced accuracy has none


def test_what_to_use_names_the_metric_and_the_levels_of_its_split(findings: Findings, tmp_path: Path):
    section = what_to_use(findings, tmp_path)
    glance = next(block for block in section.blocks if isinstance(block, Table))
    assert "balanced accuracy of the linear probe" in glance.head
    assert "chance 0.500" in glance.caption
    assert "Mean probe/linear_balanced_accuracy" in text_of(list(section.blocks))


def test_the_largest_class_stands_beside_chance_under_every_accuracy(findings: Findings):
    section = how_it_compares(findings, Sources(findings))
    table = next(block for block in section.blocks if isinstance(block, Table))
    levels = {row[0]: dict(zip(table.head, row, strict=True)) for row in table.rows}
    dataset = findings.study.config["dataset"]
    assert levels["largest class (test)"][f"{dataset} linear"] == "0.900"
    assert levels["chance"][f"{dataset} linear"] == levels["chance"][f"{dataset} linear_balanced_accuracy"] == "0.500"
    assert levels["largest class (test)"][f"{dataset} linear_balanced_accuracy"] == "–"


def test_each_class_has_its_accuracy_and_the_rare_one_is_flagged(findings: Findings):
    blocks = list(how_it_compares(findings, Sources(findings)).blocks)
    table = next(table for table in tables_of(blocks) if table.head[:2] == ["class", "images"])
    rows = {row[0]: row[1:] for row in table.rows}
    assert (rows["common"][0], rows["rare *"][0]) == ("90", "10")
    assert table.head[2:] == ["rotation", "random_init", "raw_pixels"]
    common, rare = (float(rows[name][1].split()[0]) for name in ("common", "rare *"))
    assert float(rows["balanced accuracy"][1]) == pytest.approx((common + rare) / 2, abs=0.001)
    assert float(rows["all"][1]) == pytest.approx(0.9 * common + 0.1 * rare, abs=0.001)
    assert "1 of 2 classes of" in text_of(blocks)
    assert "fewer than 20 test images (`rare`)" in text_of(blocks)


def test_figures_of_accuracies_have_a_line_at_the_largest_class_and_those_of_averages_do_not(study: analysis.Study):
    runs, dataset = study.tested, study.config["dataset"]
    drawn = lines(accuracy_by_task(runs, dataset, Figure().subplots()))
    assert set(drawn["largest class 0.900, test"]) == {0.9}
    balanced = lines(balanced_accuracy_by_task(runs, dataset, Figure().subplots()))
    assert not [name for name in balanced if name.startswith("largest class")]
    assert "chance 0.500" in balanced
    last = last_values(study.runs, study.curves)
    online = lines(search_scatter(last, ax=Figure().subplots()))
    share = last["largest_class"].dropna().iloc[0]
    assert set(online[f"largest class {share:.3f}, validation"]) == {share}
    assert share == pytest.approx(0.9)


def test_few_labels_are_compared_by_balanced_accuracy(findings: Findings):
    runs, dataset = findings.study.tested, findings.study.config["dataset"]
    results = label_results(runs)
    assert results["balanced"].all()
    tuned = results.loc[(results["task"] == "rotation") & (results["way"] == "fine-tuned"), "value"]
    column = f"probe/{dataset}/fine_tuned/3_labels_balanced_accuracy"
    assert sorted(tuned) == sorted(runs.loc[runs["task"] == "rotation", column])
    assert findings.few_labels["n_evaluated"].eq(100).all()  # the images of balanced accuracy are found
    blocks = list(how_it_compares(findings, Sources(findings)).blocks)
    assert any("test balanced accuracy, mean over seeds" in table.caption for table in tables_of(blocks))
    drawn = label_curves(runs, dataset, "rotation", Figure().subplots())
    assert drawn.get_ylabel() == "balanced accuracy"
    assert "chance 0.500" in lines(drawn)


def test_the_levels_are_those_of_the_images_that_were_evaluated(study: analysis.Study):
    column = f"probe/{study.config['dataset']}/linear"
    tested = study.runs.loc[study.runs[column].notna()]
    labels = study.per_image.array(tested["trial_id"].iloc[0], column.replace("linear", "labels"))
    assert labels is not None
    assert levels_of(tested, column) == (0.5, np.bincount(labels).max() / len(labels))
    assert np.isnan(levels_of(tested, f"{column}_macro_f1")).all()


@pytest.mark.parametrize(("share", "words"), [(0.9, "90.0%"), (0.996, "99.6%"), (0.9999, "99.9%"), (1.0, "100.0%")])
def test_a_largest_class_has_all_images_only_if_it_does(share: float, words: str):
    assert _share(share) == words
