"""YAML as plain data: no tag runs code, no key is given twice, and 1e-3 is a number as in YAML 1.2."""

from __future__ import annotations

import re
from typing import Any

import yaml

from trainables.errors import ConfigError

_FLOAT_TAG = "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")  # PyYAML wants a dot and a sign in it


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    pass


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(_FLOAT_TAG, _EXPONENT, list("-+.0123456789"))


def load(text: str) -> Any:
    """Return what the text says: None, bool, int, float, str, date, list and dict. Raises ConfigError, in one line."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        # PyYAML's own constructors let what `!!int x` or the date 2020-13-40 raise pass through.
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error


def dump(content: Any) -> str:
    """Return plain data as YAML that `load` reads back, keys in their order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False)
