"""Names of metrics, params and models in MLflow, which refuses some characters and lengths, and the way back.

A name that MLflow accepts stays as it is. In others, each refused character becomes `_xHHHH_` with its hexadecimal code
point, as in XML names of the .NET libraries. A name that is too long then keeps its ends and is cut in the middle; the
run has the whole name in a tag.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from analysis.data.tables import is_final_result

LONGEST_NAME, LONGEST_DATASET = 250, 500  # characters that MLflow allows in names of metrics and params, and data sets
WHOLE_NAME = "pretext.name."  # prefix of the tags with the whole names
CHANCE_ENDING = "_chance"  # `val/accuracy_chance` is the chance level of `val/accuracy`
# MLflow sorts charts by the names of their metrics; validation comes before the health of the validation features.
_HEALTH, _HEALTH_IN_MLFLOW = "health/", "val_health/"
# Besides refused characters: slashes and dots that would change the path, and what looks like an escape.
_REFUSED = re.compile(r"[^/\w.\- :]|(?<![^/])/|/$|^\.(?=\.)|(?:(?<=/)|^)\.(?=\.?(?:/|$))|_(?=x[0-9A-F]{4})")
_REFUSED_IN_MODELS = re.compile(r"[/:.%\"']|_(?=x[0-9A-F]{4})")
_ESCAPED = re.compile(r"_x([0-9A-F]{4,6})_")
_DIGEST, _TAIL = 12, 60  # hexadecimal digits, and characters after the cut


def in_mlflow(name: str) -> str:
    """Return the name in MLflow of a metric or a param."""
    return shortened(_escaped(name), LONGEST_NAME)


def from_mlflow(name: str, tags: Mapping[str, str]) -> str:
    """Return the metric or param that has a name in MLflow; earlier versions used the same name in both.

    Args:
        name: Name in MLflow.
        tags: Tags of the run, with `whole_names` among them.
    """
    whole = tags.get(WHOLE_NAME + name[-_DIGEST:], name) if len(name) == LONGEST_NAME else name
    if whole.startswith(_HEALTH_IN_MLFLOW):
        whole = f"{_HEALTH}{whole.removeprefix(_HEALTH_IN_MLFLOW)}"
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), whole)


def whole_names(names: Iterable[str]) -> dict[str, str]:
    """Return the tags with which a run keeps the whole names of the metrics or params whose names are cut."""
    return {WHOLE_NAME + _digest(whole): whole for whole in map(_escaped, names) if len(whole) > LONGEST_NAME}


def model_in_mlflow(name: str) -> str:
    """Return the name of a logged model, which must not contain dots, unlike the name of a registered model."""
    return _REFUSED_IN_MODELS.sub(_escape, name)


def shortened(text: str, length: int) -> str:
    """Return a text of at most `length` characters; a longer one is cut in the middle and ends with its digest."""
    if len(text) <= length:
        return text
    head = length - len("____") - _TAIL - _DIGEST
    return f"{text[:head]}__{text[-_TAIL:]}__{_digest(text)}"


def is_chance_level(name: str) -> bool:
    """Whether a metric in MLflow is the chance level of another one of the curves."""
    return name.endswith(CHANCE_ENDING) and not is_final_result(name)


def _escaped(name: str) -> str:
    if name.startswith(_HEALTH):
        name = f"{_HEALTH_IN_MLFLOW}{name.removeprefix(_HEALTH)}"
    return _REFUSED.sub(_escape, name)


def _escape(found: re.Match[str]) -> str:
    return f"_x{ord(found[0]):04X}_"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
