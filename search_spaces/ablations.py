"""Ablation designs: the cells around a base configuration, and the cell that each is compared with.

A design is a function that takes the base and the levels to try and yields arms: the values that a cell changes, and
the values of the cell that it is compared with. Cells are enumerated, not searched. A cell is named after its changes
rather than its design, so designs share cells.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import hadamard

from search_spaces import SPECS
from search_spaces.cell_names import BASE, DEFAULT_MAGNITUDE, VARIABLE, active_ops, cell_name
from trainables.augmentation import validate_policy
from trainables.encoders import check_encoder
from trainables.errors import ConfigError, first_line, suggestion
from trainables.registry import Registry
from trainables.tasks import TASKS, build_options, check_ops
from trainables.trial import TrialConfig

Values = Mapping[str, Any]


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
    for op in active_ops(base):
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
    """Yield a fraction of all combinations in which no main effect is confounded with a two-factor interaction.

    Each factor has two levels. The rows are a Hadamard matrix stacked on its negative (fold-over, Box and Wilson 1951),
    which has resolution IV for as many factors as the matrix has columns. Two-factor interactions are confounded with
    each other, and main effects with three-factor interactions.
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


Design = Callable[[TrialConfig, Levels], Iterator[Arm]]

DESIGNS: Registry[Design] = Registry(
    "design",
    {
        design.__name__: design
        for design in (
            *(leave_one_out, add_one_in, pairs, strength, size_by_strength, steps_by_strength),
            *(factorial, screening, cures, together),
        )
    },
)

POLICY_DESIGNS = ("leave_one_out", "add_one_in", "pairs")  # need an augmentation strength above 0
# The designs of this package that read each of the levels.
READ_BY: dict[str, tuple[str, ...]] = {
    "strengths": ("strength", "size_by_strength", "steps_by_strength"),
    "sizes": ("size_by_strength",),
    "steps": ("steps_by_strength",),
    "ops": ("add_one_in", "pairs"),
    "factors": ("factorial", "screening"),
    "cures": ("cures", "together"),
}


def register_design(name: str) -> Callable[[Design], Design]:
    """Return a decorator that makes a function an ablation design.

    The function takes the confirmed configuration and the levels to try, and yields an `Arm` for each cell: the values
    that it changes, and those of the cell that it is compared with.

    Args:
        name: Name of the design in `ablate.designs`.

    Raises:
        ConfigError: The name is taken.
    """
    return DESIGNS.decorator(name)


def default_cures(base: TrialConfig) -> dict[str, tuple[Any, ...]]:
    """Return the possible cures of a flat run: augmentation, steps, images, a smaller encoder, and the task's own.

    The cure of more steps deliberately breaks the rule of matched budgets.
    """
    general: dict[str, tuple[Any, ...]] = {
        "augmentation_strength": (0.5, 1.0),
        "budget_steps": (4 * base.budget_steps,),
        "n_images": (None,),
    }
    if base.encoder == "conv4" and not base.weights:
        general["width"] = (max(1, base.width // 2),)
    return {**general, **SPECS[base.task].cures}


def ablation(base: TrialConfig, designs: Sequence[str], levels: Levels) -> tuple[list[TrialConfig], list[Comparison]]:
    """Return the distinct cells of some designs around `base`, and the rows of the `designs` frame.

    A cell differs from `base` only in its name and in the changes that its name lists. Setting a factor to the base's
    own value gives the base itself.

    Args:
        base: Configuration that the cells vary.
        designs: Names in DESIGNS. A design with nothing to vary has no rows, as one in POLICY_DESIGNS around a base
            of augmentation strength 0, whose cells would all be the same training.
        levels: Levels that the designs vary.

    Raises:
        ConfigError: A design or a factor is unknown, or a value is not allowed.
    """
    cells: dict[str, TrialConfig] = {}
    rows: dict[Comparison, None] = {}

    def name_of(values: Values) -> str:
        trial = changed(base, values)
        name = cell_name(base, trial)
        cells.setdefault(name, (base if name == BASE else trial).replace(cell=name))
        return name

    for design in designs:
        if design not in DESIGNS:
            raise ConfigError(f"ablate.designs: no design {design!r}; {suggestion(design, list(DESIGNS))}")
        _check_levels(design, levels)
        if design in POLICY_DESIGNS and not base.augmentation_strength:
            continue
        for arm in _arms(design, base, levels):
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
        if not (kind in ("option", "augmentation") and inner) and name not in VARIABLE:
            known = [*VARIABLE, "option/NAME", "augmentation/OP"]
            raise ConfigError(f"{name}: no such factor; {suggestion(name, known)}")
    trial = base.with_values(values)
    if base.weights and (trial.encoder, trial.width) != (base.encoder, base.width):
        raise ConfigError(
            f"ablate: {', '.join(sorted({'encoder', 'width'} & values.keys()))} cannot vary, since init_weights fits "
            f"{base.encoder} of width {base.width} alone; leave one of them out"
        )
    validate_policy(dict(trial.augmentation))
    check_ops(TASKS[trial.task], dict(trial.augmentation))
    build_options(TASKS[trial.task], dict(trial.options))
    check_encoder(trial.encoder)
    return trial


def _arms(design: str, base: TrialConfig, levels: Levels) -> list[Arm]:
    """Return the arms of a design.

    Raises:
        ConfigError: The code of a plug-in's design fails.
    """
    try:
        return list(DESIGNS[design](base, levels))
    except Exception as error:
        if design in DESIGNS.built_in or isinstance(error, ConfigError):
            raise
        what = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(f"ablate.designs: {design}: its code failed for {base.task}: {what}") from error


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


def _ops(base: TrialConfig, levels: Levels) -> list[str]:
    return active_ops(base) if levels.ops is None else list(levels.ops)


def _only(base: TrialConfig, *ops: str) -> dict[str, float]:
    """Return the changes that leave only `ops` in the policy, at the base's magnitudes."""
    policy = dict(base.augmentation)
    off = {f"augmentation/{op}": 0.0 for op in policy if op not in ops}
    return off | {f"augmentation/{op}": policy.get(op) or DEFAULT_MAGNITUDE for op in ops}
