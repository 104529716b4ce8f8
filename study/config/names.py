"""Field types of the schema; allowed names are taken from the registries that define them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from search_spaces.ablations import DESIGNS
from trainables.augmentation import REGISTRY
from trainables.encoders import ENCODERS
from trainables.encoders.names import TIMM, is_outside
from trainables.tasks import TASKS


def _one_of(names: Collection[str], *, or_outside: bool = False) -> BeforeValidator:
    """Return a validator that accepts these names only, with the message of a pydantic `Literal`.

    Args:
        names: Names; they are read at each validation, since plug-ins add to them.
        or_outside: Whether `timm/NAME` and `module:Class` are accepted, too.
    """

    def check(value: Any) -> Any:
        known = isinstance(value, str) and (value in names or (or_outside and is_outside(value)))
        if not known:
            *others, last = [*map(repr, names), *([f"{TIMM}NAME", "module:Class"] if or_outside else [])]
            expected = f"{', '.join(others)} or {last}"
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
        return value

    return BeforeValidator(check)


TaskName = Annotated[str, _one_of(TASKS)]
DesignName = Annotated[str, _one_of(DESIGNS)]
EncoderName = Annotated[str, _one_of(ENCODERS, or_outside=True)]
OpName = Annotated[str, _one_of(REGISTRY)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Positive = Annotated[int, Field(ge=1)]
MOST_TRIALS = 100_000  # a plan lists its trials and seeds one by one
TrialCount = Annotated[int, Field(ge=1, le=MOST_TRIALS)]

# Fields of a trial that a study may set for a whole task or search over.
TUNABLE = ("optimizer", "lr", "weight_decay", "warmup_fraction", "batch_size", "augmentation_strength")
MUTATED = ("lr", "weight_decay", "augmentation_strength")  # fields that PBT may change while a trial runs
