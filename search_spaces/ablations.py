"""Ablation designs: the cells around a base configuration, and the cell that each is compared with.

A design is a function that takes the base and the levels to try and yields arms: the values that a cell changes, and
the values of the cell that it is compared with. Cells are enumerated, not searched. A cell is named after its changes
rather than its design, so designs share cells.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import hadamard

from search_spaces import SPECS
from trainables.augmentation import validate_policy
from trainables.encoders import check_encoder
from trainables.errors import ConfigError, suggestion
from trainables.tasks import TASKS, build_options, check_ops
from trainables.trial import NON_TRAINING_FIELDS, TrialConfig

Values = Mapping[str, Any]

BASE, NO_AUGMENTATION = "base", "no augmentation"
FIXED = (*NON_TRAINING_FIELDS, "augmentation")
FACTORS = tuple(field.name for field in dataclasses.fields(TrialConfig) if field.name not in (*FIXED, "options"))
DEFAULT_MAGNITUDE = 1.0  # magnitude of an op that is not in the base's policy


class Arm(NamedTuple):
    """Values that a cell changes, and the values of its baseline; None where main effects are fitted instead."""

    values: Values
    baseline: Values | None


class Comparison(NamedTuple):
    """One row of the `designs` frame.

    Attributes:
        task: Pretext task.
        design: Name of the design.
        cell: Name of the cell.
        baseline: Name of the cell that it is compared with: its own name for a reference, empty where the design is
            analyzed by main effects.
    """

    task: str
    design: str
    cell: str
    baseline: str


@dataclass(frozen=True)
class Levels:
    """Levels that the designs vary.

    Attributes:
        strengths: Augmentation strengths; the first is the reference.
        sizes: Numbers of training images, None for all.
        ops: Augmentation ops to add or pair; None for the ops in the base's policy.
        factors: Values of each named factor, for the factorial and the screening design.
        cures: Values of each candidate cure; None for `default_cures`.
        steps: Budgets of optimizer steps.
    """

    strengths: Sequence[float] = (0.0, 0.5, 1.0)
    sizes: Sequence[int | None] = (None,)
    ops: Sequence[str] | None = None
    factors: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    cures: Mapping[str, Sequence[Any]] | None = None
    steps: Sequence[int] = ()


def leave_one_out(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Yield the policy without each of its ops, compared with the whole policy."""
    for op in _active(base):
        yield Arm({f"augmentation/{op}": 0.0}, {})


def add_one_in(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Yield each op alone, compared with no augmentation."""
    for op in _ops(base, levels):
        yield Arm(_only(base, op), _only(base))


def pairs(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Yield each op alone and each pair, compared with no augmentation (Chen 2020, 2002.05709, figure 5)."""
    yield from add_one_in(base, levels)
    for first, second in itertools.combinations(_ops(base, levels), 2):
        yield Arm(_only(base, first, second), _only(base))


def strength(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Yield every augmentation strength, compared with the first."""
    for value in levels.strengths[1:]:
        yield Arm({"augmentation_strength": value}, {"augmentation_strength": levels.strengths[0]})


def size_by_strength(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Yield every augmentation strength at every number of images, compared with the first strength at that number."""
    for size in levels.sizes:
        for arm in strength(base, levels):
            yield Arm({"n_images": size, **arm.values}, {"n_images": size, **(arm.baseline or {})})


def steps_by_strength(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Yield every augmentation strength at every budget, compared with the first strength at that budget."""
    for steps in levels.steps:
        for arm in strength(base, levels):
            yield Arm({"budget_steps": steps, **arm.values}, {"budget_steps": steps, **(arm.baseline or {})})


def factorial(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Yield all combinations of the factors' values."""
    for values in itertools.product(*levels.factors.values()):
        yield Arm(dict(zip(levels.factors, values, strict=True)), None)


def screening(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Yield a fraction of all combinations of two-level factors that confounds no main effect with an interaction.

    The rows are a Hadamard matrix stacked on its negative (fold-over, Box and Wilson 1951), which has resolution IV for
    as many factors as the matrix has columns. Two-factor interactions are confounded with each other.
    """
    order = 1 << max(len(levels.factors) - 1, 0).bit_length()
    signs = hadamard(order, dtype=np.int64)[:, : len(levels.factors)]
    for row in np.vstack([signs, -signs]):
        chosen = {name: values[int(sign < 0)] for (name, values), sign in zip(levels.factors.items(), row, strict=True)}
        yield Arm(chosen, None)


def cures(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Yield every candidate cure by itself, compared with the base."""
    for name, values in _candidate_cures(base, levels).items():
        for value in values:
            yield Arm({name: value}, {})


def together(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Yield all candidate cures at once, each at the last of its values, compared with the base."""
    yield Arm({name: values[-1] for name, values in _candidate_cures(base, levels).items() if values}, {})


DESIGNS: dict[str, Callable[[TrialConfig, Levels], Iterator[Arm]]] = {
    design.__name__: design
    for design in (
        *(leave_one_out, add_one_in, pairs, strength, size_by_strength, steps_by_strength),
        *(factorial, screening, cures, together),
    )
}

POLICY_DESIGNS = ("leave_one_out", "add_one_in", "pairs")  # need an augmentation strength above 0


def default_cures(base: TrialConfig) -> dict[str, tuple[Any, ...]]:
    """Return the possible cures of a flat run: augmentation, steps, images, a smaller encoder, and the task's own.

    The cure of more steps deliberately breaks the rule of matched budgets.
    """
    general: dict[str, tuple[Any, ...]] = {
        "augmentation_strength": (0.5, 1.0),
        "budget_steps": (4 * base.budget_steps,),
        "n_images": (None,),
    }
    if base.encoder == "conv4":
        general["width"] = (max(1, base.width // 2),)
    return {**general, **SPECS[base.task].cures}


def ablation(base: TrialConfig, designs: Sequence[str], levels: Levels) -> tuple[list[TrialConfig], list[Comparison]]:
    """Return the distinct cells of some designs around `base`, and the rows of the `designs` frame.

    A cell differs from `base` only in its name and in the changes that its name lists. Setting a factor to the base's
    own value gives the base itself.

    Args:
        base: Configuration that the cells vary.
        designs: Names in DESIGNS. A design with nothing to vary has no rows.
        levels: Levels that the designs vary.

    Raises:
        ConfigError: A design or a factor is unknown, or a value is not allowed.
    """
    cells: dict[str, TrialConfig] = {}
    rows: dict[Comparison, None] = {}

    def name_of(values: Values) -> str:
        trial = changed(base, values)
        name = _name(base, trial)
        cells.setdefault(name, (base if name == BASE else trial).replace(cell=name))
        return name

    for design in designs:
        if design not in DESIGNS:
            raise ConfigError(f"ablate.designs: no design {design!r}; {suggestion(design, list(DESIGNS))}")
        _check_levels(design, levels)
        for arm in DESIGNS[design](base, levels):
            if arm.baseline is None:
                rows[Comparison(base.task, design, name_of(arm.values), "")] = None
                continue
            reference = name_of(arm.baseline)
            rows[Comparison(base.task, design, reference, reference)] = None
            rows[Comparison(base.task, design, name_of(arm.values), reference)] = None
    return list(cells.values()), list(rows)


def changed(base: TrialConfig, values: Values) -> TrialConfig:
    """Return `base` with some factors changed.

    Args:
        base: Configuration to change.
        values: New values by factor: a field of TrialConfig, `option/NAME` or `augmentation/OP`.

    Raises:
        ConfigError: A factor is unknown, or a value is not allowed.
    """
    for name in values:
        kind, _, inner = name.partition("/")
        if not (kind in ("option", "augmentation") and inner) and name not in FACTORS:
            known = [*FACTORS, "option/NAME", "augmentation/OP"]
            raise ConfigError(f"{name}: no such factor; {suggestion(name, known)}")
    trial = base.with_values(values)
    validate_policy(dict(trial.augmentation))
    check_ops(TASKS[trial.task], dict(trial.augmentation))
    check_encoder(trial.encoder)
    return trial


def _check_levels(design: str, levels: Levels) -> None:
    if design in ("factorial", "screening"):
        if not levels.factors:
            raise ConfigError(f"ablate.designs: {design} needs ablate.factors, for example {{lr: [0.001, 0.01]}}")
        for name, values in levels.factors.items():
            if len(values) < 2 or (design == "screening" and len(values) != 2):
                wanted = "exactly two" if design == "screening" else "at least two"
                raise ConfigError(f"ablate.factors.{name} = {list(values)}: {design} needs {wanted} values")
    if design == "steps_by_strength" and not levels.steps:
        raise ConfigError("ablate.designs: steps_by_strength needs ablate.steps, for example [300, 1200]")
    if design in ("strength", "size_by_strength", "steps_by_strength") and len(levels.strengths) < 2:
        raise ConfigError(f"ablate.strengths = {list(levels.strengths)}: {design} needs at least two")


def _candidate_cures(base: TrialConfig, levels: Levels) -> Mapping[str, Sequence[Any]]:
    return default_cures(base) if levels.cures is None else levels.cures


def _active(base: TrialConfig) -> list[str]:
    return [op for op, magnitude in dict(base.augmentation).items() if magnitude > 0]


def _ops(base: TrialConfig, levels: Levels) -> list[str]:
    return _active(base) if levels.ops is None else list(levels.ops)


def _only(base: TrialConfig, *ops: str) -> dict[str, float]:
    """Return the changes that leave only `ops` in the policy, at the base's magnitudes."""
    policy = dict(base.augmentation)
    off = {f"augmentation/{op}": 0.0 for op in policy if op not in ops}
    return off | {f"augmentation/{op}": policy.get(op) or DEFAULT_MAGNITUDE for op in ops}


def _name(base: TrialConfig, trial: TrialConfig) -> str:
    """Return a cell's name: its differences from the base. Two names are equal if and only if the training is equal."""
    before, after = _levels_of(base), _levels_of(trial)
    changes = {name: after.get(name, 0.0) for name in before | after if after.get(name, 0.0) != before.get(name, 0.0)}
    policy = {name: changes.pop(name) for name in list(changes) if name.startswith("augmentation/")}
    words = [f"{name}={_text(value)}" for name, value in changes.items()]
    if policy:
        words += _policy_words(base, trial) or [f"{name}={_text(value)}" for name, value in policy.items()]
    return ", ".join(words) or BASE


def _policy_words(base: TrialConfig, trial: TrialConfig) -> list[str]:
    """Return words for a policy of at most two ops at their usual magnitudes, or an empty list for any other policy."""
    usual, left = dict(base.augmentation), _active(trial)
    if not left:
        return [NO_AUGMENTATION]
    if len(left) <= 2 and all(dict(trial.augmentation)[op] == (usual.get(op) or DEFAULT_MAGNITUDE) for op in left):
        return ["only " + " + ".join(left)]
    return []


def _levels_of(trial: TrialConfig) -> dict[str, Any]:
    """Return every factor's value by name, with the task's defaults for its options and without ops that are off."""
    policy = {f"augmentation/{op}": magnitude for op, magnitude in dict(trial.augmentation).items() if magnitude > 0}
    options = vars(build_options(TASKS[trial.task], dict(trial.options)))
    own = {name: getattr(trial, name) for name in FACTORS}
    return own | {f"option/{name}": value for name, value in options.items()} | policy


def _text(value: Any) -> str:
    """Return a level in words; None means all, as in `n_images`."""
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
