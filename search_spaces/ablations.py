"""Ablation designs: which cells stand around a base configuration, and what each is compared with.

A design is a function of the base and the levels to try, which yields arms: the values that a cell changes, and those
of the cell it is compared with. Cells are enumerated, not searched. What two designs both ask for is one cell, since a
cell is named after what it changes and not after who asked.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import hadamard

from search_spaces import context_encoder, context_prediction, rotation, simclr
from trainables.augmentation import validate_policy
from trainables.errors import ConfigError, suggestion
from trainables.tasks import TASKS, build_options
from trainables.trial import NON_TRAINING_FIELDS, TrialConfig

Values = Mapping[str, Any]

BASE, NO_AUGMENTATION = "base", "no augmentation"
FIXED = (*NON_TRAINING_FIELDS, "augmentation")
FACTORS = tuple(field.name for field in dataclasses.fields(TrialConfig) if field.name not in (*FIXED, "options"))
MAGNITUDE = 1.0  # of an op that neither the base's policy nor the list of levels gives one

CURES: dict[str, dict[str, tuple[Any, ...]]] = {
    "rotation": rotation.CURES,
    "context_encoder": context_encoder.CURES,
    "simclr": simclr.CURES,
    "context_prediction": context_prediction.CURES,
}


class Arm(NamedTuple):
    """Values that a cell changes, and those of the cell it is compared with; None where main effects are fitted."""

    values: Values
    baseline: Values | None


class Comparison(NamedTuple):
    """One row of the `designs` frame: a cell of a design and the cell it is compared with, itself for a reference.

    baseline: empty where the design is analyzed by main effects.
    """

    task: str
    design: str
    cell: str
    baseline: str


@dataclass(frozen=True)
class Levels:
    """What the designs vary.

    strengths: augmentation strengths, the first of them the reference.
    sizes: numbers of training images, None for all.
    ops: augmentation ops to add or pair; None for those of the base's policy.
    factors: values of each named factor, for the factorial and the screening design.
    cures: values of each rival cure; None for `default_cures`.
    steps: budgets of optimizer steps.
    """

    strengths: Sequence[float] = (0.0, 0.5, 1.0)
    sizes: Sequence[int | None] = (None,)
    ops: Sequence[str] | None = None
    factors: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    cures: Mapping[str, Sequence[Any]] | None = None
    steps: Sequence[int] = ()


def leave_one_out(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """The policy without each of its ops, against the whole policy."""
    for op in _active(base):
        yield Arm({f"augmentation/{op}": 0.0}, {})


def add_one_in(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Each op alone, against no augmentation."""
    for op in _ops(base, levels):
        yield Arm(_only(base, op), _only(base))


def pairs(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Each op alone and each two together, against no augmentation: figure 5 of SimCLR (Chen 2020, 2002.05709)."""
    yield from add_one_in(base, levels)
    for first, second in itertools.combinations(_ops(base, levels), 2):
        yield Arm(_only(base, first, second), _only(base))


def strength(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Every augmentation strength, against the first."""
    for value in levels.strengths[1:]:
        yield Arm({"augmentation_strength": value}, {"augmentation_strength": levels.strengths[0]})


def size_by_strength(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Every augmentation strength at every number of images, against the first strength at the same number."""
    for size in levels.sizes:
        for arm in strength(base, levels):
            yield Arm({"n_images": size, **arm.values}, {"n_images": size, **(arm.baseline or {})})


def steps_by_strength(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Every augmentation strength at every budget, against the first strength at the same budget."""
    for steps in levels.steps:
        for arm in strength(base, levels):
            yield Arm({"budget_steps": steps, **arm.values}, {"budget_steps": steps, **(arm.baseline or {})})


def factorial(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """All combinations of the factors' values."""
    for values in itertools.product(*levels.factors.values()):
        yield Arm(dict(zip(levels.factors, values, strict=True)), None)


def screening(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """A fraction of all combinations of two-level factors in which no main effect is mixed up with a pair's.

    The columns of a Hadamard matrix and, below it, the same with all signs changed: resolution IV for as many factors
    as the matrix has columns (Box and Wilson 1951, fold-over). Pairs are mixed up with other pairs.
    """
    order = 1 << max(len(levels.factors) - 1, 0).bit_length()
    signs = hadamard(order, dtype=np.int64)[:, : len(levels.factors)]
    for row in np.vstack([signs, -signs]):
        chosen = {name: values[int(sign < 0)] for (name, values), sign in zip(levels.factors.items(), row, strict=True)}
        yield Arm(chosen, None)


def cures(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """Every rival cure by itself, against the base."""
    for name, values in _rivals(base, levels).items():
        for value in values:
            yield Arm({name: value}, {})


def together(base: TrialConfig, levels: Levels) -> Iterator[Arm]:
    """All rival cures at once, each at the last of its values, against the base."""
    yield Arm({name: values[-1] for name, values in _rivals(base, levels).items() if values}, {})


DESIGNS: dict[str, Callable[[TrialConfig, Levels], Iterator[Arm]]] = {
    design.__name__: design
    for design in (
        *(leave_one_out, add_one_in, pairs, strength, size_by_strength, steps_by_strength),
        *(factorial, screening, cures, together),
    )
}


POLICY_DESIGNS = ("leave_one_out", "add_one_in", "pairs")  # need a policy that is applied


def default_cures(base: TrialConfig) -> dict[str, tuple[Any, ...]]:
    """Return what may cure a flat run: augmentation, steps, images, a smaller encoder, and what the task has itself.

    More steps break the rule of matched budgets, which is what they are there for.
    """
    general: dict[str, tuple[Any, ...]] = {
        "augmentation_strength": (0.5, 1.0),
        "budget_steps": (4 * base.budget_steps,),
        "n_images": (None,),
    }
    if base.encoder == "conv4":
        general["width"] = (max(1, base.width // 2),)
    return general | CURES[base.task]


def ablation(base: TrialConfig, designs: Sequence[str], levels: Levels) -> tuple[list[TrialConfig], list[Comparison]]:
    """Return the cells of the designs around `base`, each once and named, and the rows of the `designs` frame.

    A change to the value that the base has is the base itself. The cells differ from `base` in what their name says
    and in the name. A design that finds nothing to vary has no rows. Raises ConfigError for an unknown design or
    factor, and for a value that a trial does not allow.
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
    """Return `base` with some factors changed. Raises ConfigError for a name or a value that a trial does not have."""
    for name in values:
        kind, _, inner = name.partition("/")
        if not (kind in ("option", "augmentation") and inner) and name not in FACTORS:
            known = [*FACTORS, "option/NAME", "augmentation/OP"]
            raise ConfigError(f"{name}: no such factor; {suggestion(name, known)}")
    trial = base.with_values(values)
    validate_policy(dict(trial.augmentation))
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


def _rivals(base: TrialConfig, levels: Levels) -> Mapping[str, Sequence[Any]]:
    return default_cures(base) if levels.cures is None else levels.cures


def _active(base: TrialConfig) -> list[str]:
    return [op for op, magnitude in dict(base.augmentation).items() if magnitude > 0]


def _ops(base: TrialConfig, levels: Levels) -> list[str]:
    return _active(base) if levels.ops is None else list(levels.ops)


def _only(base: TrialConfig, *ops: str) -> dict[str, float]:
    """Return the changes that leave `ops` alone in the policy, at the base's magnitudes."""
    policy = dict(base.augmentation)
    off = {f"augmentation/{op}": 0.0 for op in policy if op not in ops}
    return off | {f"augmentation/{op}": policy.get(op) or MAGNITUDE for op in ops}


def _name(base: TrialConfig, trial: TrialConfig) -> str:
    """Return a cell's name: what differs from the base. Equal names, equal training, and the other way round."""
    before, after = _levels_of(base), _levels_of(trial)
    changed = {name: after.get(name, 0.0) for name in before | after if after.get(name, 0.0) != before.get(name, 0.0)}
    policy = {name: changed.pop(name) for name in list(changed) if name.startswith("augmentation/")}
    words = [f"{name}={_text(value)}" for name, value in changed.items()]
    if policy:
        words += _policy_words(base, trial) or [f"{name}={_text(value)}" for name, value in policy.items()]
    return ", ".join(words) or BASE


def _policy_words(base: TrialConfig, trial: TrialConfig) -> list[str]:
    """Return words for a whole policy of at most two ops at their usual magnitudes, none for any other."""
    usual, left = dict(base.augmentation), _active(trial)
    if not left:
        return [NO_AUGMENTATION]
    if len(left) <= 2 and all(dict(trial.augmentation)[op] == (usual.get(op) or MAGNITUDE) for op in left):
        return ["only " + " + ".join(left)]
    return []


def _levels_of(trial: TrialConfig) -> dict[str, Any]:
    """Return every factor's value by name, with the task's defaults for its options and without ops that are off."""
    policy = {f"augmentation/{op}": magnitude for op, magnitude in dict(trial.augmentation).items() if magnitude > 0}
    options = vars(build_options(TASKS[trial.task], dict(trial.options)))
    own = {name: getattr(trial, name) for name in FACTORS}
    return own | {f"option/{name}": value for name, value in options.items()} | policy


def _text(value: Any) -> str:
    """Return a level in words; a field that is None is without limit, as `n_images` is."""
    return "all" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
