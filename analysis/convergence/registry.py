"""Registry of verdicts: the order in which rules are tried, and the order in which verdicts are listed.

To add a verdict to this package, write one file like `overfit.py`, and add its import and one line to RULES. Plug-ins
add theirs by `register_verdict`; its rule is tried for the trials of studies that name the plug-in.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from analysis.convergence import at_chance, collapsed, converged, diverged, failed, overfit, still_improving, undecided
from analysis.convergence.curves import Trial
from analysis.convergence.verdict import Finding, Rule, Verdict
from trainables import plugins
from trainables.errors import ConfigError, first_line, suggestion
from trainables.registry import Registry

logger = logging.getLogger(__name__)

Rules = tuple[tuple[Verdict, Rule], ...]

# In the order in which they are tried; the first rule that finds something decides.
RULES: Rules = (
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

# By name, in the order of tables, figures and legends: `failed`, the others in the order of their first rule, and those
# of plug-ins. A trial whose loss exploded before an error ended it has diverged, so `failed` is tried second but listed
# first.
CATALOG: Registry[Verdict] = Registry(
    "verdict", {verdict.name: verdict for verdict in (failed.VERDICT, *(row[0] for row in RULES))}
)
VERDICTS = CATALOG.built_in

# Verdicts that the report has sentences for.
AT_CHANCE, STILL_IMPROVING = at_chance.VERDICT.name, still_improving.VERDICT.name
CONVERGED, UNDECIDED = converged.VERDICT.name, undecided.VERDICT.name


@dataclass(frozen=True, kw_only=True)
class AddedVerdict(Verdict):
    """A verdict of a plug-in.

    Attributes:
        rule: The rule that finds it.
        before: Verdict of this package whose first rule is tried next.
    """

    rule: Rule
    before: str


def register_verdict(verdict: Verdict, *, before: str) -> Callable[[Rule], Rule]:
    """Return a decorator that makes a function the rule of a further verdict.

    ```python
    @register_verdict(Verdict("restless", ..., letter="R", color="#8844cc"), before="converged")
    def find(trial: Trial) -> Finding | None: ...
    ```

    Args:
        verdict: The verdict; its letter must be one that no other verdict has.
        before: Verdict of this package before whose first rule this one is tried. Everything that a rule after it would
            have found, too, has this verdict.

    Raises:
        ConfigError: The name or the letter is taken, or `before` or the color does not exist.
    """
    where = f"verdict {verdict.name!r}"
    if before not in CATALOG.built_in:
        raise ConfigError(f"{where}: before = {before!r}: no such verdict; {suggestion(before, CATALOG.built_in)}")
    taken = {each.letter: name for name, each in CATALOG.items() if name != verdict.name}
    if len(verdict.letter) != 1 or verdict.letter in taken:
        of = f"belongs to {taken[verdict.letter]}" if verdict.letter in taken else "must be one character"
        raise ConfigError(f"{where}: letter {verdict.letter!r} {of}; taken are {', '.join(sorted(taken))}")
    if not re.fullmatch("#[0-9a-fA-F]{6}", verdict.color):
        raise ConfigError(f"{where}: color {verdict.color!r}: must be written as #rrggbb")
    return CATALOG.decorator(verdict.name, lambda rule: AddedVerdict(**vars(verdict), rule=rule, before=before))


def rules_with(plugin_names: Collection[str] = ()) -> Rules:
    """Return the rules of this package and of some plug-ins, in the order in which they are tried.

    Args:
        plugin_names: Names of the plug-ins of a study, `Study.plugins`. Those that are not loaded have no rules.
    """
    rules = list(RULES)
    for _, verdict in plugins.items_of(CATALOG, plugin_names):
        assert isinstance(verdict, AddedVerdict)
        place = next(index for index, (known, _) in enumerate(rules) if known.name == verdict.before)
        rules.insert(place, _guarded(verdict))
    return tuple(rules)


def _guarded(verdict: AddedVerdict) -> tuple[Verdict, Rule]:
    """Return a plug-in's verdict and rule, which advise and find nothing where its code fails and end no study."""

    def rule(trial: Trial) -> Finding | None:
        try:
            return verdict.rule(trial)
        except Exception as error:  # noqa: BLE001 (code of a plug-in may raise anything)
            _warn(verdict, "rule", trial, error)
            return None

    def remedies(finding: Finding, trial: Trial) -> list[str]:
        try:
            return list(verdict.remedies(finding, trial))
        except Exception as error:  # noqa: BLE001
            _warn(verdict, "remedies", trial, error)
            return ["none known: the code of this verdict failed, see the log"]

    return dataclasses.replace(verdict, remedies=remedies), rule


def _warn(verdict: Verdict, part: str, trial: Trial, error: Exception) -> None:
    what = f"{type(error).__name__}: {first_line(error)}"
    logger.warning("verdict %r: its %s failed on trial %s: %s", verdict.name, part, trial.row["trial_id"], what)
