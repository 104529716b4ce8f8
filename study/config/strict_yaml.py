"""Strict YAML: plain data only, no duplicate keys, and 1e-3 is a number as in YAML 1.2.

Tags cannot run code, aliases cannot expand to billions of values, and a value cannot contain itself.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from trainables.errors import ConfigError

_INT_TAG, _FLOAT_TAG = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_EXPONENT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")  # PyYAML requires a dot and a sign
_INVALID_CHARACTER = re.compile("[\0\ud800-\udfff]")  # NUL is illegal in file names, lone surrogates in UTF-8 files
_LARGEST_INT = 2**63
# PyYAML's own constructors do not catch what `!!int x` or the date 2020-13-40 raise.
_ERRORS = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
_MAX_VALUES = 100_000  # per document, with its aliases expanded


def load(text: str) -> Any:
    """Parse YAML into None, bool, int, float, str, date, list and dict.

    Raises:
        ConfigError: The text is not valid YAML, in one line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader that refuses more
    except _ERRORS as error:
        raise ConfigError(f"not valid YAML: {' '.join(str(error).split())}") from error


def dump(content: Any) -> str:
    """Return plain data as YAML that `load` reads back, keys in their order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False)


def inline(content: Mapping[str, Any]) -> str:
    """Return a mapping of plain data as YAML in one line, as a command line or a message needs it."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=math.inf).strip()


class _Loader(yaml.SafeLoader):
    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _check_size(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name, count in names.items():
            if count > 1:
                raise _error_at(node, f"{name!r} is given twice")
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if isinstance(node.value, str) and _INVALID_CHARACTER.search(node.value):
            raise _error_at(node, f"{node.value!r} contains a code point that is not a character")
        return super().construct_scalar(node)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        value = self.construct_yaml_int(node)
        if abs(value) >= _LARGEST_INT:  # Python refuses even to print an int of 5,000 digits
            raise _error_at(node, "an integer must be below 2**63")
        return value


class _Dumper(yaml.SafeDumper):
    pass


_Loader.add_constructor(_INT_TAG, _Loader.construct_int)
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(_FLOAT_TAG, _EXPONENT, list("-+.0123456789"))


def _check_size(node: yaml.Node, sizes: dict[yaml.Node, int | None]) -> int:
    """Return the number of values in a node with aliases expanded.

    Args:
        node: Root of a subtree.
        sizes: Sizes of the nodes seen so far; None for the ancestors of `node`.
    """
    if node not in sizes:
        sizes[node] = None
        sizes[node] = size = 1 + sum(_check_size(child, sizes) for child in _children(node))
        if size > _MAX_VALUES:
            raise _error_at(node, f"more than {_MAX_VALUES:,} values with aliases expanded")
    known = sizes[node]
    if known is None:
        raise _error_at(node, "a value contains itself")
    return known


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair


def _error_at(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
