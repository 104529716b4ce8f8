"""Few labels: the three comparisons, the seeds they pair, their figure and their table in the report."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import analysis
from analysis.comparisons import compare_few_labels, label_results
from analysis.data.per_image import PerImage
from analysis.figures import label_curves
from analysis.findings import Findings, compute_findings
from analysis.report.blocks import Gallery, Table, Text
from analysis.report.sections.baselines import how_it_compares
from analysis.report.sources import Sources
from analysis.stats.crossed import crossed_mean
from tests.analysis.figure_helpers import lines
from tests.analysis.journals import write_study
from trainables.errors import UserError
from trainables.per_image import pack

SEEDS = range(6)
FROZEN = {"10": 0.40, "all": 0.60}
TUNED = {"10": 0.45, "all": 0.70}
SUPERVISED = {"10": 0.30, "all": 0.70}


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return compute_findings(analysis.load(write_study(tmp_path_factory.mktemp("study"))))


OWN, UNTRAINED = ("rotation", FROZEN, TUNED), ("random_init", {"10": 0.2, "all": 0.4}, SUPERVISED)
GIVEN = ("weights:imagenet", {"10": 0.55, "all": 0.60}, {"10": 0.50, "all": 0.80})


def evaluated(*given: tuple[str, dict[str, float], dict[str, float]]) -> pd.DataFrame:
    """Return the final probes of six seeds: a seed moves all ways alike, and a way has some noise of its own."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in SEEDS:
        shift = rng.normal(0, 0.05)
        for task, frozen, tuned in (OWN, UNTRAINED, *given):
            row = {"trial_id": f"{task}{seed}", "task": task, "seed": seed, "status": "FINISHED", "cell": ""}
            for labels in FROZEN:
                for way, levels in (("linear", frozen), ("fine_tuned", tuned)):
                    row[f"probe/cifar10/{way}/{labels}_labels"] = levels[labels] + shift + rng.normal(0, 0.002)
                row[f"probe/cifar10/fine_tuned/{labels}_labels_step"] = 300.0 if labels == "all" else 60.0
            rows.append(row)
    pixels = {"trial_id": "p", "task": "raw_pixels", "seed": 0, "status": "FINISHED", "cell": ""}
    rows.append(pixels | {"probe/cifar10/linear/10_labels": 0.15, "probe/cifar10/linear/all_labels": 0.35})
    return pd.DataFrame(rows).assign(probe_split="test", phase="evaluate")


def test_results_are_told_by_way_and_number_of_labels_with_the_fewest_first():
    results = label_results(evaluated())
    assert list(results["labels"].drop_duplicates()) == [10, pd.NA]
    assert results["labels"].dtype == "Int64"
    own = results.query("task == 'rotation' and way == 'fine-tuned'")
    assert own.groupby("labels", dropna=False)["value"].mean().tolist() == pytest.approx([0.45, 0.70], abs=0.08)
    assert set(results.query("way == 'frozen'")["step"].isna()) == {True}
    without = evaluated()[["trial_id", "task", "seed", "status"]].assign(**{"probe/cifar10/linear": 0.5})
    assert label_results(without).empty


def test_each_way_is_compared_with_supervised_training_on_the_same_labels_by_paired_seeds(findings: Findings):
    study = dataclasses.replace(findings.study, runs=evaluated())
    [(found, seeds)] = compare_few_labels(study, 0.02)
    found = found.set_index(["cell", "baseline"])
    assert len(found) == 6
    assert set(found["n_seeds"]) == {len(SEEDS)}
    supervised = "supervised, 10 labels a class"
    few = found.loc[("frozen, 10 labels a class", supervised)]
    assert few["mean_difference"] == pytest.approx(0.10, abs=0.005)
    assert few["answer"] == "better"
    assert few["ci_high"] - few["ci_low"] < 0.02  # seeds differ by 0.05, which pairing takes out
    assert found.loc[("fine-tuned, 10 labels a class", supervised), "answer"] == "better"
    assert found.loc[("frozen, all labels a class", "supervised, all labels a class"), "answer"] == "worse"
    assert found.loc[("fine-tuned, all labels a class", "supervised, all labels a class"), "answer"] == "equivalent"
    assert len(seeds) == 6 * len(SEEDS)


@pytest.mark.parametrize("status", ["FINISHED", "FAILED"])
def test_a_seed_without_a_result_has_failed_there(findings: Findings, status: str):
    runs = evaluated()
    lost = (runs["task"] == "rotation") & (runs["seed"] == 0)
    runs.loc[lost, "status"] = status
    runs.loc[lost, "probe/cifar10/linear/10_labels"] = np.nan
    [(found, _)] = compare_few_labels(dataclasses.replace(findings.study, runs=runs), None)
    found = found.set_index(["cell", "baseline"])
    row = found.loc[("frozen, 10 labels a class", "supervised, 10 labels a class")]
    assert (row["n_seeds"], row["n_failed"], row["answer"]) == (5, 1, "inconclusive")
    assert len(found) == 6


def test_few_labels_are_compared_on_the_images_of_each_method(findings: Findings):
    rng, packed = np.random.default_rng(1), {}
    runs = evaluated()
    for row in runs.to_dict("records"):
        names = [name for name in row if name.endswith("_labels") and not np.isnan(row[name])]
        packed[row["trial_id"]] = {name: rng.random(50) < row[name] for name in names}
    kept = PerImage({key: {name: pack(own) for name, own in each.items()} for key, each in packed.items()}.__getitem__)
    [(found, _)] = compare_few_labels(dataclasses.replace(findings.study, runs=runs, per_image=kept), None)
    row = found.set_index(["cell", "baseline"]).loc[("frozen, 10 labels a class", "supervised, 10 labels a class")]
    ways = ("rotation{}", "linear"), ("random_init{}", "fine_tuned")
    frozen, scratch = (
        np.array([packed[task.format(seed)][f"probe/cifar10/{way}/10_labels"] for seed in SEEDS]) for task, way in ways
    )
    table = frozen.astype(float) - scratch
    differences = runs.query("task == 'rotation'")["probe/cifar10/linear/10_labels"].to_numpy()
    differences = differences - runs.query("task == 'random_init'")["probe/cifar10/fine_tuned/10_labels"].to_numpy()
    assert row["n_evaluated"] == 50
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(crossed_mean(differences, table).interval(0.95))


def test_a_study_without_supervised_runs_still_compares_the_other_two(findings: Findings):
    runs = evaluated().query("task == 'rotation'")
    [(found, _)] = compare_few_labels(dataclasses.replace(findings.study, runs=runs), None)
    assert list(found["baseline"].unique()) == ["frozen, 10 labels a class", "frozen, all labels a class"]


def test_weights_that_exist_already_are_compared_in_the_same_way_on_the_same_labels(findings: Findings):
    study = dataclasses.replace(findings.study, runs=evaluated(GIVEN))
    own, given = (found for found, _ in compare_few_labels(study, 0.02))
    assert set(given["task"]) == {"weights:imagenet"}
    assert not given["baseline"].str.contains("imagenet").any()
    found = own.set_index(["cell", "baseline"])
    assert len(found) == 6 + 4
    for way, labels, difference, answer in (
        ("frozen", "10", -0.15, "worse"),
        ("fine-tuned", "10", -0.05, "worse"),
        ("frozen", "all", 0.0, "equivalent"),
        ("fine-tuned", "all", -0.10, "worse"),
    ):
        row = found.loc[(f"{way}, {labels} labels a class", f"{way} imagenet, {labels} labels a class")]
        assert row["mean_difference"] == pytest.approx(difference, abs=0.005)
        assert (row["answer"], row["n_seeds"]) == (answer, len(SEEDS))


def test_the_report_compares_own_pre_training_with_the_weights(findings: Findings):
    runs = pd.concat([findings.study.runs, evaluated(GIVEN)], ignore_index=True)
    study = dataclasses.replace(findings.study, runs=runs)
    effects = pd.concat([found for found, _ in compare_few_labels(study, 0.02)], ignore_index=True)
    found = dataclasses.replace(findings, study=study, few_labels=effects)
    tables = [block for block in how_it_compares(found, Sources(found)).blocks if isinstance(block, Table)]
    [levels] = [table for table in tables if table.caption.startswith("Few labels of")]
    assert [row[:2] for row in levels.rows[2:]] == [["weights:imagenet", "10"], ["weights:imagenet", "all"]]
    [compared] = [table for table in tables if table.caption.startswith("The study's encoders compared")]
    assert [row[:3] for row in compared.rows] == [["rotation", "10", "imagenet"], ["rotation", "all", "imagenet"]]
    assert compared.rows[0][3].startswith("worse, −0.15")
    assert compared.rows[1][3].startswith("equivalent, ")


def test_curves_show_the_means_of_each_way_at_each_number_of_labels():
    runs = evaluated()
    ax = label_curves(runs, "cifar10", "rotation", Figure().subplots())
    results = label_results(runs)
    scratch = results.query("task == 'random_init' and way == 'fine-tuned'")["value"]
    assert lines(ax)["supervised"] == pytest.approx([scratch[:6].mean(), scratch[6:].mean()])
    assert lines(ax)["raw pixels"].tolist() == [0.15, 0.35]
    assert set(lines(ax)) == {"fine-tuned", "frozen", "supervised", "frozen, untrained", "raw pixels"}
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["10", "all"]
    assert ax.get_ylim()[0] == 0
    with pytest.raises(UserError, match=r"no few-label results of simclr on 'cifar10'.*labels_per_class"):
        label_curves(runs, "cifar10", "simclr")


def test_the_report_shows_each_method_and_where_more_steps_may_improve_it(findings: Findings):
    runs = pd.concat([findings.study.runs, evaluated()], ignore_index=True)
    config = {**findings.study.config, "evaluate": {"fine_tune_steps": 300}}
    study = dataclasses.replace(findings.study, runs=runs, config=config)
    found = dataclasses.replace(findings, study=study, few_labels=compare_few_labels(study, 0.02)[0][0])
    blocks = how_it_compares(found, Sources(found)).blocks
    [table] = [block for block in blocks if isinstance(block, Table) and block.caption.startswith("Few labels of")]
    assert [row[:2] for row in table.rows] == [["rotation", "10"], ["rotation", "all"]]
    few, every = table.rows
    assert few[5].startswith("better, +0.10")
    assert every[5].startswith("worse, −0.099")
    [note] = [block.text for block in blocks if isinstance(block, Text) and "may improve them" in block.text]
    assert note.endswith(": fine-tuned rotation, all labels a class; supervised, all labels a class.")
    alts = [shown.alt for block in blocks if isinstance(block, Gallery) for shown in block.pictures]
    assert any(alt.startswith("rotation on cifar10: frozen, 10 labels a class 0.") for alt in alts)
