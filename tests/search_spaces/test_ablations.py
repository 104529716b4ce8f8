"""Ablation designs: each yields the cells that it promises, once each, with no other difference."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, ClassVar

import numpy as np
import pytest

from search_spaces import SPECS
from search_spaces.ablations import DESIGNS, POLICY_DESIGNS, READ_BY, Levels, ablation, changed, default_cures
from search_spaces.cell_names import BASE, FACTORS, NO_AUGMENTATION
from trainables.errors import ConfigError
from trainables.tasks import TASKS
from trainables.trial import TrialConfig

POLICY = {"color_jitter": 0.5, "crop_resize": 0.8, "flip": 1.0, "gray": 0.2}


def trial(task: str = "rotation", **changes) -> TrialConfig:
    return TrialConfig("ablate", task, **{**SPECS[task].defaults, "augmentation": POLICY, **changes})


def cells_of(base: TrialConfig, *designs: str, **levels) -> dict[str, TrialConfig]:
    cells, _ = ablation(base, designs, Levels(**levels))
    assert len({cell.cell for cell in cells}) == len(cells)
    return {cell.cell: cell for cell in cells}


def baselines_of(base: TrialConfig, design: str, **levels) -> dict[str, str]:
    _, rows = ablation(base, [design], Levels(**levels))
    assert {row.design for row in rows} == {design}
    assert {row.task for row in rows} == {base.task}
    return {row.cell: row.baseline for row in rows}


def on(cell: TrialConfig) -> set[str]:
    return {op for op, magnitude in dict(cell.augmentation).items() if magnitude > 0}


def test_every_task_has_its_cures():
    assert set(SPECS) == set(TASKS)


def test_leave_one_out_takes_each_op_away_once_and_compares_with_the_whole_policy():
    cells = cells_of(trial(), "leave_one_out")
    assert {frozenset(on(cell)) for cell in cells.values()} == {
        frozenset(POLICY), *(frozenset(POLICY) - {op} for op in POLICY)
    }  # fmt: skip
    assert set(baselines_of(trial(), "leave_one_out").values()) == {BASE}
    assert cells["augmentation/flip=0"].replace(augmentation=POLICY, cell=BASE) == cells[BASE]


def test_add_one_in_has_each_op_alone_at_the_policys_magnitude_against_none():
    cells = cells_of(trial(), "add_one_in")
    assert {name: dict(cell.augmentation).get("color_jitter") for name, cell in cells.items()} == {
        NO_AUGMENTATION: 0.0, "only color_jitter": 0.5, "only crop_resize": 0.0, "only flip": 0.0, "only gray": 0.0
    }  # fmt: skip
    assert set(baselines_of(trial(), "add_one_in").values()) == {NO_AUGMENTATION}


def test_pairs_has_every_two_ops_each_one_and_none():
    ops = {name: on(cell) for name, cell in cells_of(trial(), "pairs").items()}
    wanted = [set(), *({op} for op in POLICY), *map(set, itertools.combinations(POLICY, 2))]
    assert sorted(map(sorted, ops.values())) == sorted(map(sorted, wanted))


@pytest.mark.parametrize("design", POLICY_DESIGNS)
def test_no_policy_is_varied_around_a_base_that_does_not_augment(design: str):
    assert ablation(trial(augmentation_strength=0.0), [design], Levels()) == ([], [])


@pytest.mark.parametrize("factor", ["workers", "dataset", "weights"])
def test_what_all_cells_of_a_study_share_is_no_factor(factor: str):
    with pytest.raises(ConfigError, match=f"^{factor}: no such factor"):
        changed(trial(), {factor: getattr(trial(), factor)})


def test_ops_that_the_policy_lacks_can_be_added():
    cells = cells_of(trial(), "add_one_in", ops=["blur", "flip"])
    assert on(cells["only blur"]) == {"blur"}
    assert on(cells["only flip"]) == {"flip"}


def test_data_size_by_strength_compares_within_each_size():
    found = baselines_of(trial(augmentation_strength=0.0, n_images=200), "size_by_strength", sizes=[200, None])
    assert found == {
        BASE: BASE,
        "augmentation_strength=0.5": BASE,
        "augmentation_strength=1": BASE,
        "n_images=all": "n_images=all",
        "n_images=all, augmentation_strength=0.5": "n_images=all",
        "n_images=all, augmentation_strength=1": "n_images=all",
    }


def test_steps_by_strength_compares_at_matched_steps():
    base = trial(augmentation_strength=0.0, budget_steps=72)
    found = baselines_of(base, "steps_by_strength", steps=[72, 720], strengths=[0.0, 1.0])
    assert found == {
        BASE: BASE,
        "augmentation_strength=1": BASE,
        "budget_steps=720": "budget_steps=720",
        "augmentation_strength=1, budget_steps=720": "budget_steps=720",
    }


def test_steps_by_strength_without_steps_says_what_is_missing():
    with pytest.raises(ConfigError, match=r"steps_by_strength needs ablate\.steps"):
        cells_of(trial(), "steps_by_strength")


def test_a_strength_sweep_has_every_strength_against_the_first():
    found = baselines_of(trial(augmentation_strength=0.5), "strength", strengths=[0.0, 0.5, 1.0])
    assert found == {
        "augmentation_strength=0": "augmentation_strength=0",
        BASE: "augmentation_strength=0",
        "augmentation_strength=1": "augmentation_strength=0",
    }


def test_a_factorial_has_all_combinations_and_no_single_comparison():
    factors = {"lr": [0.001, 0.01], "option/head_hidden": [0, 64], "augmentation/flip": [0.0, 0.5, 1.0]}
    cells = cells_of(trial(), "factorial", factors=factors)
    points = {
        (cell.lr, dict(cell.options)["head_hidden"], dict(cell.augmentation)["flip"])
        for name, cell in cells.items()
        if name != BASE
    }
    assert len(points) == len(cells) == 12
    assert set(baselines_of(trial(), "factorial", factors=factors).values()) == {""}


@pytest.mark.parametrize("n_factors", [1, 2, 3, 4, 5, 8])
def test_a_screening_is_balanced_and_no_main_effect_is_mixed_up_with_a_pair(n_factors: int):
    names = ["lr", "weight_decay", "batch_size", "width", "warmup_fraction", "n_images", "budget_steps", "report_every"]
    levels = [(1, 1e-2), (0.0, 1e-2), (32, 64), (8, 16), (0.0, 0.1), (100, 200), (10, 20), (5, 10)]
    factors = {name: list(pair) for name, pair in list(zip(names, levels, strict=True))[:n_factors]}
    cells = cells_of(trial(), "screening", factors=factors)
    signs = np.array(
        [[1 if getattr(cell, name) == low else -1 for name, (low, _) in factors.items()] for cell in cells.values()]
    )
    assert len(cells) <= 2**n_factors
    assert (signs.sum(axis=0) == 0).all()
    assert (signs.T @ signs == len(cells) * np.eye(n_factors)).all()
    for first, second in itertools.combinations(range(n_factors), 2):
        assert (signs.T @ (signs[:, first] * signs[:, second]) == 0).all()


def test_together_is_one_cell_with_the_last_value_of_every_cure():
    base = trial("context_prediction", augmentation_strength=0.0, options={"pairs_per_image": 1})
    cures = {"option/pairs_per_image": [8, 40], "budget_steps": [720], "augmentation_strength": [0.5, 1.0], "lr": []}
    cells = cells_of(base, "cures", "together", cures=cures)
    (name,) = [name for name in cells if "," in name]
    assert cells[name] == base.replace(
        cell=name, budget_steps=720, augmentation_strength=1.0, options={"pairs_per_image": 40}
    )
    assert baselines_of(base, "together", cures=cures) == {BASE: BASE, name: BASE}


def test_every_cure_changes_one_thing_of_the_base():
    base = trial("context_prediction", augmentation_strength=0.0, n_images=200, options={"pairs_per_image": 1})
    cells = cells_of(base, "cures")
    assert {"option/pairs_per_image=8", "option/pairs_per_image=40", "n_images=all", f"width={base.width // 2}"} <= set(
        cells
    )
    assert all(cell == BASE or "," not in cell for cell in cells)
    assert set(baselines_of(base, "cures").values()) == {BASE}


def test_the_encoder_of_given_weights_does_not_vary():
    base = trial("rotation").replace(weights="0123456789abcdef")
    assert not [name for name in cells_of(base, "cures") if name.startswith("width=")]
    for name, value in (("width", 8), ("encoder", "resnet18")):
        with pytest.raises(ConfigError, match=f"ablate: {name} cannot vary"):
            cells_of(base, "cures", cures={name: [value]})


@pytest.mark.parametrize("task", list(TASKS))
def test_the_default_cures_are_values_that_the_task_allows(task: str):
    base = trial(task, n_images=200, augmentation_strength=0.0)
    assert len(cells_of(base, "cures")) >= len(default_cures(base))


class ReadLevels(Levels):
    """Levels that record which of them are read."""

    read: ClassVar[set[str]] = set()

    def __getattribute__(self, name: str) -> Any:
        if name in READ_BY:
            ReadLevels.read.add(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("design", DESIGNS.built_in)
def test_the_levels_that_a_design_reads_are_listed(design: str):
    levels = ReadLevels(factors={"lr": [0.1, 0.2]}, steps=[10])
    ReadLevels.read.clear()
    ablation(trial(), [design], levels)
    assert {name for name, designs in READ_BY.items() if design in designs} == ReadLevels.read
    assert {field.name for field in dataclasses.fields(Levels)} == set(READ_BY)


def test_what_two_designs_ask_for_is_one_cell():
    base = trial(augmentation_strength=0.0, n_images=200)
    cells, rows = ablation(base, ["strength", "size_by_strength", "cures"], Levels(sizes=[200, None]))
    names = [cell.cell for cell in cells]
    assert len(names) == len(set(names))
    assert len({cell.replace(cell="") for cell in cells}) == len(cells)
    assert {row.cell for row in rows} == set(names)
    assert {row.design for row in rows if row.cell == "augmentation_strength=0.5"} == {
        "strength", "size_by_strength", "cures"
    }  # fmt: skip


def test_a_default_that_is_written_out_is_the_base_itself():
    cells = cells_of(
        trial("simclr"), "cures", cures={"option/temperature": [0.5, 0.2], "lr": [SPECS["simclr"].defaults["lr"]]}
    )
    assert set(cells) == {BASE, "option/temperature=0.2"}
    assert cells[BASE] == trial("simclr").replace(cell=BASE)


def test_a_magnitude_that_is_not_the_policys_is_named_with_its_value():
    cells = cells_of(trial(augmentation={"flip": 1.0}), "factorial", factors={"augmentation/blur": [0.3, 0.6]})
    assert set(cells) == {"augmentation/blur=0.3", "augmentation/blur=0.6"}


def test_a_design_without_anything_to_vary_has_no_rows():
    assert ablation(trial(augmentation={}), ["leave_one_out"], Levels()) == ([], [])


@pytest.mark.parametrize(
    ("design", "levels", "message"),
    [
        ("leave_one_in", {}, "ablate.designs: no design 'leave_one_in'; did you mean 'leave_one_out'"),
        ("cures", {"cures": {"learning_rate": [1]}}, "learning_rate: no such factor; .*known: .*lr"),
        ("cures", {"cures": {"seed": [1]}}, "seed: no such factor"),
        ("cures", {"cures": {"lr": [-1]}}, "trial.lr = -1.0: must be in"),
        ("cures", {"cures": {"option/tau": [1]}}, "task_options.rotation.tau: no such option"),
        ("cures", {"cures": {"augmentation/flop": [1]}}, "flop"),
        ("factorial", {}, "factorial needs ablate.factors"),
        ("factorial", {"factors": {"lr": [1e-3]}}, r"ablate.factors.lr = \[0.001\]: factorial needs at least two"),
        ("screening", {"factors": {"lr": [1, 2, 3]}}, "screening needs exactly two values"),
        ("strength", {"strengths": [0.5]}, "strength needs at least two"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_its_name(design: str, levels: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        ablation(trial(), [design], Levels(**levels))


def test_any_field_of_a_trial_is_a_factor_but_those_that_name_the_trial():
    assert {"lr", "batch_size", "n_images", "width", "encoder", "budget_steps", "optimizer"} <= set(FACTORS)
    assert not {"seed", "cell", "phase", "task", "data_seed", "init_from"} & set(FACTORS)
