"""The modules of the four packages import each other without a cycle; import-linter checks which room imports which."""

from __future__ import annotations

import graphlib

import grimp

PACKAGES = ("study", "analysis", "trainables", "search_spaces")


def test_modules_import_each_other_without_a_cycle():
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)  # includes imports inside functions and for types alone
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(imports).prepare()  # raises CycleError, which names the modules of a cycle
