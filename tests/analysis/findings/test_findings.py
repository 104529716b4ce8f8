"""Findings: which frames a study comes to, by which metric, on an ablation whose truth is known."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.power import TTestPower

import analysis
from analysis.data.frames import FrameBuilder
from analysis.findings import Findings, compute_findings, design_runs, write_tables
from study.tracking.mlflow_runs import STUDY_FILES
from tests.analysis import journals
from tests.analysis.journals import ABLATION_SEEDS, CELLS, DATASET, MARGIN, SEEDS, write_study
from tests.analysis.simulated_frames import add_trial
from trainables.errors import StorageError, UserError
from trainables.simulated.curves import draw_curve

PROBE = f"probe/{DATASET}/linear"
DESIGNS = ("size_by_strength", "cures")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), designs=DESIGNS)


def row_of(frame: pd.DataFrame, **values: str) -> pd.Series:
    """Return the one row with these values."""
    found = frame.loc[(frame[list(values)] == pd.Series(values)).all(axis=1)]
    assert len(found) == 1
    return found.iloc[0]


def unfinished(folder: Path, n_lost: int) -> Path:
    """Take the last lines from a journal, as if its driver had died."""
    path = folder / "journal.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-n_lost]))
    return folder


def test_an_ablation_is_judged_by_the_final_probe_of_the_data_trained_on(findings: Findings):
    assert {task: tuple(metric) for task, metric in findings.metrics.items()} == dict.fromkeys(CELLS, (PROBE, "max"))
    assert findings.margin == MARGIN
    assert set(findings.effects["metric"]) == {PROBE}


def test_every_effect_is_the_difference_that_was_put_in(findings: Findings):
    for row in findings.effects.itertuples():
        cell, baseline = (CELLS[row.task][name] for name in (row.cell, row.baseline))
        error = np.hypot(cell.noise, baseline.noise) / np.sqrt(row.n_seeds)
        assert abs(row.mean_difference - (cell.gain - baseline.gain)) < 4 * error


def test_the_answers_are_the_truth_where_noise_lets_it_be_told(findings: Findings):
    answers = findings.effects.query("design == 'cures'").set_index(["task", "cell"])["answer"]
    assert answers["rotation", "augmentation_strength=1"] == "better"
    assert answers["rotation", "n_images=1000"] == "better"
    assert answers["rotation", "budget_steps=400"] == "worse"
    assert answers["rotation", "weight_decay=0.01"] == "inconclusive"
    assert answers["simclr", "option/temperature=0.2"] == "worse"
    assert answers["context_prediction", "option/pairs_per_image=40"] == "inconclusive"


def test_cells_are_compared_with_the_baseline_of_their_design(findings: Findings):
    within = findings.effects.query("task == 'rotation' and design == 'size_by_strength'")
    baselines = dict(zip(within["cell"], within["baseline"], strict=True))
    assert baselines["n_images=1000, augmentation_strength=1"] == "n_images=1000"
    assert baselines["augmentation_strength=1"] == "base"
    assert not (findings.effects["cell"] == findings.effects["baseline"]).any()


def test_a_failed_trial_is_an_outcome(findings: Findings):
    row = row_of(findings.effects, task="rotation", cell="lr=0.003")
    assert (row["n_seeds"], row["n_failed"], row["answer"]) == (4, 1, "too few seeds")
    assert row_of(findings.rates, phase="ablate", task="rotation", cell="lr=0.003")["n_seeds"] == 5


def test_the_seeds_needed_find_a_difference_of_the_margin_with_power_08(findings: Findings):
    row = row_of(findings.effects, task="rotation", cell="weight_decay=0.01")
    seeds = findings.differences.query("task == 'rotation' and cell == 'weight_decay=0.01' and baseline == 'base'")
    size = MARGIN / seeds["difference"].std(ddof=1)
    once = findings.effects.drop_duplicates(["task", "cell", "baseline"])
    tested = once.query("task == 'rotation' and design == 'cures' and test != ''")
    power = [TTestPower().power(size, n, 0.05 / len(tested)) for n in (row["seeds_needed"], row["seeds_needed"] - 1)]
    assert power[1] < 0.8 <= power[0]
    assert pd.isna(row_of(findings.effects, task="rotation", cell="budget_steps=400")["seeds_needed"])


def test_cells_are_held_against_untrained_encoders_of_their_shape_and_seed(findings: Findings):
    own = findings.against_untrained.query("design == 'pre-training'")
    assert set(own["baseline"]) == {"random_init"}
    assert "width=12" not in set(own["cell"])
    assert set(own.loc[own["task"] == "rotation", "cell"]) == set(CELLS["rotation"]) - {"width=12"}
    assert row_of(own, task="rotation", cell="base")["answer"] == "better"
    assert row_of(own, task="context_prediction", cell="base")["answer"] == "inconclusive"
    seeds = findings.differences.query("design == 'pre-training' and task == 'rotation' and cell == 'base'")
    runs = findings.study.runs.query("phase == 'ablate' and task == 'random_init'").set_index("seed")[PROBE]
    assert set(seeds["seed"]) == set(ABLATION_SEEDS)
    np.testing.assert_array_equal(seeds["baseline_value"], runs.loc[seeds["seed"]])


def test_what_was_chosen_is_held_against_untrained_encoders_on_the_test_split(findings: Findings):
    own = findings.against_untrained.query("design == 'pre-training, test split'")
    assert own[["task", "cell", "n_seeds"]].to_numpy().tolist() == [[task, "chosen", len(SEEDS)] for task in CELLS]
    runs = findings.study.tested
    means = runs.groupby("task")[PROBE].mean()
    row = row_of(own, task="simclr")
    assert row["mean_difference"] == pytest.approx(means["simclr"] - means["random_init"])


def test_a_task_asked_for_alone_has_the_answers_of_the_whole_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journals, "SEEDS", range(100, 105))  # enough for a test
    study = analysis.load(write_study(tmp_path, designs=("cures",)))
    whole, alone = compute_findings(study), compute_findings(study, task="simclr")
    assert whole.against_untrained.query("design == 'pre-training, test split'")["p_holm"].notna().all()
    for name in ("effects", "against_untrained", "differences"):
        frame = getattr(whole, name)
        wanted = frame.loc[frame["task"] == "simclr"].reset_index(drop=True)
        pd.testing.assert_frame_equal(getattr(alone, name), wanted)


def test_every_pair_of_tasks_is_compared_on_the_test_split_the_better_chosen_one_as_the_cell(findings: Findings):
    pairs = findings.between_tasks[["cell", "baseline"]].to_numpy().tolist()
    assert pairs == [["simclr", "rotation"], ["simclr", "context_prediction"], ["rotation", "context_prediction"]]
    means = findings.study.tested.groupby("task")[PROBE].mean()
    row = row_of(findings.between_tasks, cell="simclr", baseline="rotation")
    assert row["mean_difference"] == pytest.approx(means["simclr"] - means["rotation"])
    assert (row["task"], row["answer"], row["n_seeds"]) == ("all tasks", "too few seeds", len(SEEDS))


def test_every_comparison_names_the_split_of_its_means(findings: Findings):
    assert set(findings.effects["split"]) == {"validation"}
    assert set(findings.between_tasks["split"]) == {"test"}
    splits = findings.against_untrained.groupby("design")["split"].unique().map(list).to_dict()
    assert splits == {"pre-training": ["validation"], "pre-training, test split": ["test"]}


def test_every_trial_that_trained_has_a_verdict_with_what_it_was(findings: Findings):
    verdicts = findings.verdicts
    runs = findings.study.runs.set_index("trial_id").loc[verdicts["trial_id"]]
    for name in ("phase", "task", "cell", "seed", "status"):
        assert (verdicts[name].to_numpy() == runs[name].to_numpy()).all()
    base = verdicts.query("phase == 'ablate' and cell == 'base'").groupby("task")["verdict"].unique().str.join(" ")
    assert base.to_dict() == {
        "rotation": "overfit",
        "simclr": "converged",
        "context_prediction": "at_chance",
    }
    assert not set(verdicts["phase"]) & {"baselines", "evaluate"}


def test_converged_seeds_are_counted_by_cell_and_compared_by_mcnemar(findings: Findings):
    cured = row_of(findings.rates, phase="ablate", task="rotation", cell="augmentation_strength=1")
    assert (cured["n_converged"], cured["n_seeds"]) == (5, 5)
    assert cured["ci_low"] == pytest.approx(0.025 ** (1 / 5))  # Clopper-Pearson, all of 5
    change = row_of(findings.rate_changes, task="rotation", design="cures", cell="augmentation_strength=1")
    assert (change["n_pairs"], change["only_cell"], change["pairs_needed"]) == (5, 5, 8)
    assert np.isnan(change["p_holm"]), "5 seeds cannot show it"
    assert set(findings.rates["phase"]) == {"confirm", "ablate"}
    left = row_of(findings.take_off_changes, task="rotation", design="cures", cell="augmentation_strength=1")
    assert (left["n_pairs"], left["both"]) == (5, 5), "the base overfits, and has left chance, too"


def test_cells_of_a_design_are_those_it_asked_for(findings: Findings):
    cells = design_runs(findings, "rotation", "size_by_strength")
    assert set(zip(cells["n_images"], cells["augmentation_strength"], strict=True)) == {
        (size, strength) for size in (200, 1000) for strength in (0, 0.5, 1)
    }
    assert len(cells) == 6 * len(ABLATION_SEEDS)


def test_factors_pairs_and_tasks_have_their_own_frames(tmp_path: Path):
    found = compute_findings(analysis.load(write_study(tmp_path / "a", designs=("factorial",), tasks=("rotation",))))
    assert set(found.factorial["term"]) == {"lr", "augmentation_strength", "lr:augmentation_strength"}
    assert found.effects.empty
    found = compute_findings(
        analysis.load(write_study(tmp_path / "b", designs=("pairs",), tasks=("rotation", "simclr")))
    )
    both = found.synergy.query("task == 'rotation' and first != second").iloc[0]
    assert both["synergy"] == pytest.approx(2 * 0.07 - 0.07, abs=0.02)  # as the journal makes it
    assert found.across_tasks.set_index("term").loc["task:cell", "p"] > 0.05


def test_without_an_ablation_its_frames_are_empty_and_keep_their_columns(findings: Findings, tmp_path: Path):
    bare = compute_findings(analysis.load(write_study(tmp_path, tasks=("rotation",))))
    for name in ("effects", "factorial", "synergy", "across_tasks", "rate_changes", "ablated"):
        assert getattr(bare, name).empty
    for name in ("effects", "rate_changes", "rates", "differences"):
        frames = (getattr(found, name) for found in (bare, findings))
        assert len({tuple(frame.dtypes.astype(str).items()) for frame in frames}) == 1
    assert (bare.metrics, bare.margin) == ({}, None)
    assert set(bare.against_untrained["cell"]) == {"chosen"}


def test_an_ablation_that_has_not_ended_is_compared_with_its_base(tmp_path: Path):
    folder = unfinished(write_study(tmp_path, designs=("cures",), until="ablate", tasks=("rotation",)), n_lost=30)
    study = analysis.load(folder)
    assert study.designs.empty
    found = compute_findings(study).effects
    assert set(found["design"]) == {"every cell"}
    assert row_of(found, cell="augmentation_strength=1")["answer"] == "better"


def test_without_labels_the_primary_metric_at_the_last_report_judges(tmp_path: Path):
    found = compute_findings(
        analysis.load(write_study(tmp_path, designs=("cures",), tasks=("rotation",), labeled=False))
    )
    assert tuple(found.metrics["rotation"]) == ("last/val/accuracy", "max")
    last = found.study.curves.query("metric == 'val/accuracy' and step == 200").set_index("trial_id")["value"]
    base = found.ablated.query("cell == 'base'")
    assert row_of(found.effects, cell="n_images=1000")["baseline_mean"] == pytest.approx(
        last.loc[base["trial_id"]].mean()
    )
    assert found.against_untrained.empty


def test_less_of_a_loss_is_better():
    rng, builder = np.random.default_rng(0), FrameBuilder()
    for seed in range(6):
        for cell, end in (("base", 0.3), ("cured", 0.7)):
            made = draw_curve("converged", rng=rng, task="context_encoder", n_queries=0, end=end)
            add_trial(builder, made, seed=seed, phase="ablate", cell=cell)
    found = compute_findings(analysis.Study("a", *builder.build()), margin=0.01)
    row = found.effects.iloc[0]
    assert tuple(found.metrics["context_encoder"]) == ("last/val/loss_fraction", "min")
    assert row["mean_difference"] < 0
    assert (row["answer"], row["mode"]) == ("better", "min")


def test_another_metric_baseline_margin_and_task_can_be_asked_for(folder: Path):
    study = analysis.load(folder)
    asked = compute_findings(study, task="rotation", metric="val/accuracy", baseline="n_images=1000", margin=0.5)
    assert set(asked.effects["task"]) == set(asked.verdicts["task"]) == {"rotation"}
    assert set(asked.effects["metric"]) == {"last/val/accuracy"}
    assert set(asked.effects["cell"]) == set(CELLS["rotation"]) - {"n_images=1000"}
    assert set(asked.effects["baseline"]) == {"n_images=1000"}
    assert row_of(asked.effects, cell="width=12")["answer"] == "equivalent"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "rotatio"}, "no trial of 'rotatio'; did you mean 'rotation'"),
        ({"metric": "nope"}, "no metric 'nope' in these runs; there are: .*probe/shapes/linear"),
        ({"baseline": "nope"}, "rotation: no cell 'nope'; there are 'base'"),
        ({"margin": 0.0}, "margin = 0.0: give the smallest difference that matters"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(folder: Path, asked: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        compute_findings(analysis.load(folder), **asked)  # type: ignore[arg-type]


def test_a_study_without_an_ablation_says_so_when_asked_for_one(tmp_path: Path):
    study = analysis.load(write_study(tmp_path, tasks=("rotation",)))
    with pytest.raises(UserError, match="quick: no ablation was run; name designs under `ablate`"):
        compute_findings(study, baseline="base")


def test_the_tables_are_written_whole_under_the_names_that_mlflow_takes(findings: Findings, tmp_path: Path):
    paths = write_tables(tmp_path, findings)
    assert [path.name for path in paths] == ["verdicts.csv", "effects.csv"]
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()} <= set(STUDY_FILES)
    with (tmp_path / "verdicts.csv").open(encoding="utf-8", newline="") as lines:
        tags = {row["trial_id"]: row["verdict"] for row in csv.DictReader(lines)}
    assert tags == dict(zip(findings.verdicts["trial_id"], findings.verdicts["verdict"], strict=True))
    written = pd.read_csv(tmp_path / "effects.csv", keep_default_na=False, na_values=[""])
    assert len(written) == len(findings.effects) + len(findings.against_untrained) + len(findings.between_tasks)
    np.testing.assert_allclose(written["p_holm"], findings.every_effect["p_holm"])


def test_tables_that_cannot_be_written_leave_nothing_half_written(findings: Findings, tmp_path: Path):
    (tmp_path / "effects.csv").mkdir()
    with pytest.raises(StorageError, match=r"/effects\.csv: Is a directory"):
        write_tables(tmp_path, findings)
    assert not list(tmp_path.glob(".*"))
    assert len(pd.read_csv(tmp_path / "verdicts.csv")) == len(findings.verdicts)


def test_the_tables_of_a_folder_need_no_findings(tmp_path: Path):
    folder = write_study(tmp_path, tasks=("rotation",))
    assert [path.exists() for path in write_tables(folder)] == [True, True]
    with pytest.raises(UserError, match="no such folder"):
        write_tables(tmp_path / "none")
