"""Sections "What to use" and "Did it converge?" of the report."""

from __future__ import annotations

import copy
import dataclasses
import html
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

import analysis
from analysis.findings import Findings, compute_findings
from analysis.pages.series import _reproduce as _series_reproduce
from analysis.records import Facts, Report, TrialStarted
from analysis.report.blocks import pictures_in
from analysis.report.page import _reproduce as _page_reproduce
from analysis.report.sections.recommendation import what_to_use
from analysis.report.sections.verdicts import _above_chance_untrained, did_it_converge
from analysis.report.sources import Sources
from study.execution.journal import Journal
from tests.analysis.journals import TRUTH, write_study
from tests.analysis.report.pages import Page, section, texts
from trainables.trial import TrialConfig


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
        assert (
            f"Mean probe/linear {choice['mean']:.3f} over 3 fresh seeds, the best of 2 candidates on these" in page.text
        )
        assert ", ".join(f"{value:.3f}" for value in choice["values"]) in page.text


def test_a_recommended_study_is_shown_verbatim_with_the_command_that_runs_it(folder: Path, page: Page):
    assert f"python study/run.py {folder.as_posix()}/recommended.yaml" in page.text
    assert "name: again\nbudget_steps: 7  # <steps>" in page.text


def test_commands_are_of_folders_whose_names_may_have_spaces(findings: Findings, tmp_path: Path):
    folder = tmp_path / "my study"
    folder.mkdir()
    (folder / "recommended.yaml").touch()
    said = "\n".join(texts(what_to_use(findings, folder).blocks))
    assert f"python study/run.py '{folder.as_posix()}/recommended.yaml'" in said
    for made in (_page_reproduce(findings, str(folder), []), _series_reproduce(folder, {}, [])):
        assert f"python -m analysis report '{folder.as_posix()}'" in "\n".join(texts(made.blocks))


def test_an_ablation_of_another_case_is_not_mistaken_for_one_about_the_choice(page: Page):
    assert "The ablation is about another case, on 200 images without augmentation" in page.text
    assert "The ablation found better" not in page.text


def test_what_the_ablation_found_better_than_what_was_chosen_is_reported_next_to_it(findings: Findings):
    choices = copy.deepcopy(findings.study.outcomes["confirm"]["chosen"])
    choices["rotation"]["config"] |= {"n_images": 200, "augmentation_strength": 0.0}
    outcomes = {**findings.study.outcomes, "confirm": {"chosen": choices}}
    study = dataclasses.replace(findings.study, outcomes=outcomes)
    text = section(dataclasses.replace(findings, study=study), "what-to-use")
    assert "**The ablation found better**: `augmentation_strength=1` (+0.07" in text


def test_verdicts_are_counted_and_shown_with_evidence_and_cure(findings: Findings, page: Page):
    text = page.section("did-it-converge")
    base = findings.cell_verdicts.query("phase == 'ablate' and task == 'rotation' and cell == 'base'")
    assert f"Evidence: {base['evidence'].iloc[0]}." in text
    assert f"Cure: {base['cure'].iloc[0]}." in text
    assert "As the ablation's base, it overfits (5 of 5 seeds). Cure:" in text
    assert "As the ablation's base. P(converged) 0.00 [0.00, 0.52]. Evidence:" in text
    assert "As chosen, it is undecided (3 of 3 seeds). What would decide it: " in text
    assert "As chosen. Evidence: at_chance or still_improving" in text
    counts = findings.verdicts.query("phase == 'ablate' and task == 'rotation'")["verdict"].value_counts()
    shown = [counts.get(name, "–") for name in ("failed", "at_chance", "overfit", "still_improving", "converged")]
    shown.append(counts.get("undecided", "–"))
    row = "|".join(map(str, ["ablate", "rotation", *shown, counts.sum()]))
    assert row in section(findings, "did-it-converge").splitlines()


def test_each_configuration_is_shown_with_its_chance_level(page: Page):
    assert "context_prediction: at least one configuration has no seed that is shown to beat chance" in page.text
    assert "rotation: there is a configuration" not in page.text
    assert page.text.count("learning_curves(") == 2 * len(
        [i for i in page.images if "optimizer steps of" in str(i["alt"])]
    )


@pytest.mark.parametrize(("n_early", "named"), [(1, False), (2, True)])
def test_a_task_is_early_only_if_most_of_its_untrained_networks_are(n_early: int, named: bool):
    values = [0.9] * n_early + [0.25] * (3 - n_early)
    compared = pd.DataFrame({"task": "simclr", "metric": "val/accuracy", "untrained": values, "chance": 0.25})
    assert _above_chance_untrained(compared.assign(n_validation=500)) == (["simclr"] if named else [])


def test_a_task_that_beats_chance_untrained_is_called_by_name(tmp_path: Path):
    folder = write_study(tmp_path, until="baselines", tasks=("simclr",))
    trial = TrialConfig("confirm", "simclr")
    facts = {"primary_metric": "val/accuracy", "primary_mode": "max", "chance": {"val/accuracy": 0.004}}
    journal = Journal(folder)
    journal.append(TrialStarted.of(trial))
    journal.append(Facts(trial_id=trial.trial_id, n_validation=500, **facts))
    for step, value in ((0, 0.04), (25, 0.05)):
        journal.append(Report(trial_id=trial.trial_id, step=step, metrics={"val/accuracy": value}))
    journal.close()
    assert "simclr: above chance before the first step" in section(
        compute_findings(analysis.load(folder)), "did-it-converge"
    )


def test_captions_say_what_a_row_is_and_explain_only_lines_that_are_drawn(findings: Findings):
    def captions(found: Findings) -> dict[str, str]:
        return {each.name: each.caption for each in pictures_in(did_it_converge(found, Sources(found)).blocks)}

    known = captions(findings)
    assert known["verdicts-search"].endswith("A row of one color means that all configurations ended alike.")
    assert known["verdicts-confirm"].endswith("A row of one color means that the seeds agree.")
    line = "The untrained line is of the final probe, which uses all images."
    assert known["curves-rotation-confirm-probe_linear"].endswith(line)
    trained = findings.study.runs.query("phase != 'baselines'")
    without = dataclasses.replace(findings, study=dataclasses.replace(findings.study, runs=trained))
    assert "untrained line" not in captions(without)["curves-rotation-confirm-probe_linear"]
