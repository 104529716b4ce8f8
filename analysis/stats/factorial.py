"""Factorial models: main effects, two-factor interactions, and their aliases in a design."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

_TOLERANCE = 1e-8  # share of a column's norm; a smaller remainder is a combination of the columns before it
_MEAN_LABEL = "the mean"


class Term(NamedTuple):
    """A main effect between two levels of a factor, or its difference between two levels of another factor.

    Attributes:
        name: Factor, or `FIRST:SECOND` for an interaction.
        levels: The compared levels: `0 to 1`, or `0 to 1, 0.001 to 0.01` for an interaction.
        column: Column of the model matrix, float64 [cells].
    """

    name: str
    levels: str
    column: np.ndarray


def terms(design: pd.DataFrame) -> list[Term]:
    """Return the main effects and two-factor interactions of a design.

    A level's column is 1 - 1/L where a cell has it and -1/L elsewhere, with L levels; an interaction's is the product
    of two such columns. Coefficients are therefore differences from the lowest level, in the response's units: for a
    main effect, of means over all levels of the other factors; for an interaction, of a factor's effects.

    Args:
        design: One row per cell, one column per factor; the factors are ordered categories.
    """
    mains = [_main_effects(design[name]) for name in design]
    pairs = [
        Term(f"{first.name}:{second.name}", f"{first.levels}, {second.levels}", first.column * second.column)
        for some, others in itertools.combinations(mains, 2)
        for first, second in itertools.product(some, others)
    ]
    return [*itertools.chain.from_iterable(mains), *pairs]


def fit(terms: Sequence[Term], responses: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Fit each column of `responses` by least squares and find the aliases of each term.

    A term whose column is a combination of the columns before it (the mean, then the terms in order) is aliased with
    them: its coefficients are NaN, and theirs estimate sums, by the alias matrix of Box and Wilson 1951.

    Args:
        terms: Terms of the design.
        responses: float64 [cells, seeds].

    Returns:
        Coefficients, float64 [terms, seeds], and for each term the aliased terms joined by ", ", each with its
        coefficient in the alias matrix if that is not 1; empty without an alias.
    """
    n_cells = len(responses)
    columns = [np.ones(n_cells), *(term.column for term in terms)]
    fitted = _independent(columns)
    dependent = [index for index in range(len(columns)) if index not in fitted]
    inverse = np.linalg.pinv(np.column_stack([columns[index] for index in fitted]))
    coefficients = np.full((len(columns), responses.shape[1]), np.nan)
    coefficients[fitted] = inverse @ responses
    labels = [_MEAN_LABEL, *_labels(terms)]
    aliases: list[list[str]] = [[] for _ in columns]
    for hidden in dependent:
        for estimated, weight in zip(fitted, inverse @ columns[hidden], strict=True):
            if abs(weight) > _TOLERANCE:
                aliases[estimated].append(_scaled(weight, labels[hidden]))
                aliases[hidden].append(labels[estimated])
    return coefficients[1:], [", ".join(names) for names in aliases[1:]]


def _main_effects(factor: pd.Series) -> list[Term]:
    lowest, *others = factor.cat.categories
    n_levels = len(others) + 1
    return [
        Term(str(factor.name), f"{lowest} to {level}", (factor == level).to_numpy(np.float64) - 1 / n_levels)
        for level in others
    ]


def _independent(columns: Sequence[np.ndarray]) -> list[int]:
    """Return the indices of the columns that are linearly independent of the columns before them."""
    kept: list[int] = []
    basis = np.empty((len(columns[0]), 0))
    for index, column in enumerate(columns):
        rest = column - basis @ (basis.T @ column)
        if np.linalg.norm(rest) > _TOLERANCE * np.linalg.norm(column):
            basis = np.column_stack([basis, rest / np.linalg.norm(rest)])
            kept.append(index)
    return kept


def _labels(terms: Sequence[Term]) -> list[str]:
    """Return the terms' names, with their levels if several terms share a name."""
    names = [term.name for term in terms]
    return [term.name if names.count(term.name) == 1 else f"{term.name} ({term.levels})" for term in terms]


def _scaled(weight: float, label: str) -> str:
    if np.isclose(abs(weight), 1):
        return label if weight > 0 else f"-{label}"
    return f"{weight:.3g} {label}"
