"""Field types of the schema; allowed names are taken from the registries that define them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from search_spaces.ablations import DESIGNS
from trainables.augmentation import OPS
from trainables.encoders import ENCODERS
from trainables.tasks import TASKS


def _one_of(names: Iterable[str]) -> BeforeValidator:
    """Return a validator that accepts these names only, with the message of a pydantic `Literal`."""
    allowed = tuple(names)
    expected = f"{', '.join(map(repr, allowed[:-1]))} or {allowed[-1]!r}"

    def check(value: Any) -> Any:
        if value not in allowed:
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
        return value

    return BeforeValidator(check)


TaskName = Annotated[str, _one_of(TASKS)]
DesignName = Annotated[str, _one_of(DESIGNS)]
EncoderName = Annotated[str, _one_of(ENCODERS)]
OpName = Annotated[str, _one_of(OPS)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Positive = Annotated[int, Field(ge=1)]

# Fields of a trial that a study may set for a whole task or search over.
TUNABLE = ("optimizer", "lr", "weight_decay", "warmup_fraction", "batch_size", "augmentation_strength")
