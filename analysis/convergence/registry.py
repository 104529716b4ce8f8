"""Registry of verdicts: the order in which rules are tried, and the order in which verdicts are listed.

To add a verdict, write one file like `overfit.py`, and add its import and one line to RULES.
"""

from __future__ import annotations

from collections.abc import Mapping

from analysis.convergence import at_chance, collapsed, converged, diverged, failed, overfit, still_improving, undecided
from analysis.convergence.verdict import Rule, Verdict

# In the order in which they are tried; the first rule that finds something decides.
RULES: tuple[tuple[Verdict, Rule], ...] = (
    (diverged.VERDICT, diverged.find_explosion),
    (failed.VERDICT, failed.find),
    (collapsed.VERDICT, collapsed.find),
    (at_chance.VERDICT, at_chance.find),
    (diverged.VERDICT, diverged.find_forgetting),
    (overfit.VERDICT, overfit.find),
    (still_improving.VERDICT, still_improving.find),
    (converged.VERDICT, converged.find),
    (undecided.VERDICT, undecided.find),
)

# By name, in the order of tables, figures and legends: `failed`, and then the others in the order of their first rule.
# A trial whose loss exploded before an error ended it has diverged, so `failed` is tried second but listed first.
CATALOG: Mapping[str, Verdict] = {verdict.name: verdict for verdict in (failed.VERDICT, *(row[0] for row in RULES))}
VERDICTS: tuple[str, ...] = tuple(CATALOG)

# Verdicts that the report has sentences for.
AT_CHANCE, STILL_IMPROVING = at_chance.VERDICT.name, still_improving.VERDICT.name
CONVERGED, UNDECIDED = converged.VERDICT.name, undecided.VERDICT.name
