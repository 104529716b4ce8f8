"""The original report, built again: its reading follows from the numbers, and chance cannot pass for weak transfer."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from analysis.__main__ import app
from analysis.findings import queries
from analysis.findings.inputs import images_of
from analysis.pages.cause import TASK, cause, matched, refitted
from analysis.pages.original_report import original_report
from analysis.pages.parts import Part
from analysis.pages.series import is_series, read_parts, write_page
from analysis.report.blocks import Section
from study.series import load_series
from tests.analysis.report.pages import Page, texts
from tests.analysis.simulated_studies import simulate_series
from trainables.errors import UserError

pytestmark = [pytest.mark.core, pytest.mark.slow]

STEPS, PAIRS, STRENGTH = "budget_steps=720", "option/pairs_per_image=8", "augmentation_strength=1"
BOTH = f"{STRENGTH}, {STEPS}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preset's own series on simulated trials, its first part cut down to two tasks."""
    series = load_series("report", ["pretext.tasks=[rotation, simclr]"]).simulated()
    return simulate_series(series, tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="module")
def parts(folder: Path) -> dict[str, Part]:
    return read_parts(folder)


def learned_in(cures: Part, cells: Collection[str], gain: float = 0.3, noise: float = 0.004) -> Part:
    """Return the cures as if these cells, and no others, left chance and converged above it."""
    study, curves = cures.study, cures.study.curves.copy()
    runs = study.runs.query(f"phase == 'ablate' and task == {TASK!r}").set_index("trial_id")
    own = (curves["metric"] == "val/accuracy") & curves["trial_id"].isin(runs.index)
    rng = np.random.default_rng(0)
    curves.loc[own, "value"] = 0.125 + rng.normal(0, noise, own.sum())
    helped = own & curves["trial_id"].map(runs["cell"]).isin(cells)
    share = curves.loc[helped, "step"] / curves.loc[helped, "trial_id"].map(runs["budget_steps"]).astype(float)
    curves.loc[helped, "value"] += gain * (1 - np.exp(-8 * share))
    return Part(cures.name, dataclasses.replace(study, curves=curves))


def test_a_probe_on_a_folder_is_found_by_the_name_of_its_data_set(monkeypatch: pytest.MonkeyPatch):
    folder, row = "folder:/home/me/photos", object()
    found = SimpleNamespace(row=row)
    monkeypatch.setattr(queries, "against_untrained", lambda _, task, name: found if name == folder else None)
    case = SimpleNamespace(study=SimpleNamespace(runs=[f"probe/{folder}/linear"]), findings=None)
    assert refitted(case) == (folder, row)  # type: ignore[arg-type]


def all_cures(part: Part) -> str:
    return str(part.study.designs.query("design == 'together' and cell != baseline")["cell"].iloc[0])


def words(sections: list[Section], name: str) -> str:
    return "\n".join(texts(next(section for section in sections if section.id == name).blocks))


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    """The page, as the command line writes it again from the folder alone."""
    answer = CliRunner().invoke(app, ["report", str(folder)])
    assert (answer.exit_code, answer.stdout.strip()) == (0, str(folder / "report.html"))
    return Page(folder / "report.html")


def test_the_page_has_every_figure_of_the_original_and_ends_with_the_cause(folder: Path, page: Page):
    assert page.unclosed == []
    wanted = ["pretext-accuracy", "as-seen", "transfer", "patches", "training", "cause", "glossary", "reproduce"]
    assert page.sections == ["summary", *wanted]
    sources = [image["alt"] or "" for image in page.images]
    assert len(sources) == len(set(sources)) >= 6
    assert "ln 8 + ln 10 = 4.382" in page.section("training")
    assert (folder / "figures" / "bars-fashion_mnist.png").is_file()


def test_the_script_of_the_page_names_what_it_draws_from(page: Page, parts: dict[str, Part]):
    script = page.section("reproduce")
    for name in parts:
        assert f"{name} = parts['{name}']" in script
    assert "accuracy_bars(pretext.study.tested" in script


def test_a_part_that_has_not_begun_is_said_to_be_missing(parts: dict[str, Part]):
    summary, sections = original_report({"case": parts["case"]})
    assert summary == ["**Not known yet**: the case and its cures have not run."]
    assert "not been probed on cifar10 yet" in words(sections, "pretext-accuracy")
    assert "not been tried yet" in words(sections, "training")


def test_the_transfer_names_the_tasks_that_beat_an_untrained_encoder_and_what_the_originals_bars_are(
    parts: dict[str, Part],
):
    _, sections = original_report(parts)
    text = words(sections, "transfer")
    assert "has the highest validation mean on cifar10**. On fashion_mnist: linear probe " in text
    for task in ("rotation", "simclr"):
        assert f"{task}|chosen|linear probe on fashion_mnist|better|" in text
    assert "They are at chance, 10% and 50% for ten classes" in text
    [chance] = [line for line in text.splitlines() if line.startswith("chance|")]
    assert set(chance.split("|")[1:]) == {"0.100"}


def test_both_heads_of_the_run_get_a_verdict_of_their_own(parts: dict[str, Part]):
    _, sections = original_report(parts)
    text = words(sections, "training")
    assert "As chosen, it is undecided (2 of 5 seeds; 3 at chance)" in text
    lead = "**No pretext task is shown to beat an untrained encoder on cifar10** (test split): "
    assert f"{lead}context_prediction" in text
    assert re.search(r"^chance\|0\.100(\||$)", text, re.MULTILINE)
    cause_of_it = words(sections, "cause")
    assert re.search(
        r"refitted on cifar10 scores 0\.\d{3} on the test split with its features and 0\.\d{3} with untrained",
        cause_of_it,
    )


@pytest.mark.parametrize(
    ("cell", "reason"), [(STEPS, "too few optimizer steps"), (PAIRS, "too few pairs of each image")]
)
def test_the_cause_is_the_change_that_cures_and_no_other(parts: dict[str, Part], cell: str, reason: str):
    cures = learned_in(parts["cures"], {cell, all_cures(parts["cures"])})
    text = cause(parts["case"], cures)
    assert f"**The cause was {reason}**" in text
    assert text.count("The cause was") == 1
    assert re.search(rf"with `{re.escape(cell)}` it (converges|is still improving at the end|is undecided) \(", text)
    assert re.search(r"\*\*Augmentation by itself\*\* (did not cure it|is not shown to cure it)", text)


def test_where_nothing_helps_no_cause_is_named(parts: dict[str, Part]):
    text = cause(parts["case"], learned_in(parts["cures"], ()))
    assert "**No single change is shown to be what it lacked**" in text
    assert "The cause was" not in text


def test_a_change_that_is_better_and_still_at_chance_is_no_cause(parts: dict[str, Part]):
    study = parts["cures"].study
    strict = dataclasses.replace(study, config=study.config | {"ablate": study.config["ablate"] | {"margin": 0.001}})
    cures = learned_in(Part("cures", strict), {PAIRS}, gain=0.012, noise=0.001)
    rows = queries.ranked(cures.findings, TASK).set_index("cell")
    assert rows.loc[PAIRS, "answer"] == "better"
    assert "The cause was" not in cause(parts["case"], cures)


def test_what_is_better_and_still_at_chance_beside_a_cause_is_not_called_without_help(parts: dict[str, Part]):
    cures = learned_in(parts["cures"], {STEPS})
    effects = cures.findings.effects
    better = (effects["cell"] == PAIRS) & (effects["baseline"] == "base")
    findings = dataclasses.replace(
        cures.findings, effects=effects.assign(answer=effects["answer"].mask(better, "better"))
    )
    changed = dataclasses.replace(cures)
    vars(changed)["findings"] = findings  # a cached property
    text = cause(parts["case"], changed)
    assert f"Better, but not shown to leave chance at 72 steps: `{PAIRS}`" in text
    assert PAIRS not in text.partition("Not shown to help alone")[2].partition(".\n")[0]


def test_augmentation_is_judged_at_matched_steps_and_not_by_what_more_steps_did(parts: dict[str, Part]):
    cures = learned_in(parts["cures"], {STEPS, BOTH})
    found = matched(cures.findings).set_index("budget_steps")
    assert list(found.index) == [72, 720]
    assert set(found["answer"]) <= {"equivalent", "inconclusive"}, "with it and without it, more steps did the same"
    cures = learned_in(parts["cures"], {BOTH})
    assert matched(cures.findings).set_index("budget_steps")["answer"].to_dict()[720] == "better"
    assert "better at 720 steps" in cause(parts["case"], cures)


def test_steps_and_augmentation_that_help_only_together_are_reported_as_one_cause(parts: dict[str, Part]):
    text = cause(parts["case"], learned_in(parts["cures"], {BOTH}))
    assert "**It lacked two things at once, optimizer steps and augmentation**" in text
    assert f"with `{STEPS}` alone it stays at chance" in text
    for learned in ((), {STEPS, BOTH}, {PAIRS}):
        assert "two things at once" not in cause(parts["case"], learned_in(parts["cures"], learned))


def test_every_cell_is_compared_with_the_base_once(parts: dict[str, Part]):
    found = queries.ranked(parts["cures"].findings, TASK)
    assert not found["cell"].duplicated().any()
    assert {STEPS, PAIRS, STRENGTH, all_cures(parts["cures"])} <= set(found["cell"])
    assert parts["cures"].probed == "probe/cifar10/linear"


def test_simulated_images_are_not_drawn_as_if_they_were_real(parts: dict[str, Part]):
    with pytest.raises(UserError, match="was simulated: it has no images"):
        images_of(parts["pretext"].study, "fashion_mnist")


def test_a_folder_without_a_series_is_refused(tmp_path: Path):
    assert not is_series(tmp_path)
    with pytest.raises(UserError, match="does not hold a series of studies"):
        write_page(tmp_path)


@pytest.mark.parametrize(
    "content", ["parts: [", "[]", "{name: a, page: none, parts: {}}", "{name: a, page: original_report}"]
)
def test_a_broken_series_file_is_refused_by_its_path(tmp_path: Path, content: str):
    (tmp_path / "series.yaml").write_text(content)
    with pytest.raises(UserError, match=r"series\.yaml"):
        write_page(tmp_path)
