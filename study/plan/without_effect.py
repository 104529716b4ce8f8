"""Settings that are accepted, although they have no effect beside the others of a configuration."""

from __future__ import annotations

from collections.abc import Iterator

from search_spaces.ablations import DESIGNS, READ_BY
from study.config.schema import StudyConfig
from study.config.sections import AblateConfig


def lines_without_effect(config: StudyConfig) -> Iterator[str]:
    """Yield one line per setting without effect, with its remedy.

    None of them is an error, since studies of earlier versions have such settings and can be resumed.
    """
    search = config.search
    if search.mode is not None and search.metric == "auto":
        yield (
            f"search.mode = {search.mode!r} has no effect: the metric auto has a direction of its own; name the "
            "search.metric, or leave it out"
        )
    if search.scheduler == "pbt" and search.algorithm == "optuna":
        yield (
            "search.algorithm = 'optuna' has no effect with the scheduler pbt, whose trials begin with random values; "
            "set it to random, or to grid for values that are evenly spaced"
        )
    yield from _unread_levels(config.ablate)


def _unread_levels(settings: AblateConfig) -> Iterator[str]:
    """Yield a line per level that no listed design varies. A plug-in's design may read all of them."""
    if not settings.designs or {*settings.designs} - {*DESIGNS.built_in}:
        return
    for name, designs in READ_BY.items():
        is_set = getattr(settings, name) != getattr(AblateConfig(), name)  # a file of all defaults sets nothing
        if is_set and not {*designs} & {*settings.designs}:
            yield (
                f"ablate.{name} has no effect with ablate.designs = [{', '.join(settings.designs)}]; add "
                f"{' or '.join(designs)} to them, or leave it out"
            )
