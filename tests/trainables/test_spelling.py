"""Former names are replaced where a name of an op, an option or a cell is, and nowhere else."""

from __future__ import annotations

from trainables.spelling import with_current_names, with_former_names

FORMER = {
    "name": "grey",
    "dataset": "folder:/photos/grey",
    "defaults": {"rotation": {"augmentation": {"grey": 0.5}}},
    "search": {"space": {"augmentation/grey": [0.1]}, "metric": "grey"},
    "cells": [{"cell": "no grey", "baseline": "grey=1", "comment": "grey"}],
}
CURRENT = {
    "name": "grey",
    "dataset": "folder:/photos/grey",
    "defaults": {"rotation": {"augmentation": {"gray": 0.5}}},
    "search": {"space": {"augmentation/gray": [0.1]}, "metric": "grey"},
    "cells": [{"cell": "no gray", "baseline": "gray=1", "comment": "grey"}],
}


def test_names_below_the_keys_that_name_ops_and_cells_are_replaced_in_both_directions():
    assert with_current_names(FORMER) == with_current_names(CURRENT) == CURRENT
    assert with_former_names(CURRENT) == with_former_names(FORMER) == FORMER
