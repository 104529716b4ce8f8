"""Sentences that claim something: their templates, and the condition under which each may appear.

A claim appears only where its numbers exclude the alternative. What is not excluded is worded as "not shown". The
sections of the report take every such sentence from here, and a sentence refuses rows that do not meet its condition.
docs/statistics.md lists them by name, with their measured error rates. Verdicts are in `analysis.convergence`.
"""

from __future__ import annotations

from collections.abc import Mapping

from analysis.comparisons import BETTER, EQUIVALENT, INCONCLUSIVE, TOO_FEW, WORSE
from analysis.comparisons.interactions import DIFFERENT, NOT_SHOWN
from analysis.comparisons.shortcuts import is_shortcut
from analysis.findings.queries import leads_out_of_chance
from analysis.report.claims import (
    ALWAYS,
    NOT_SIGNIFICANT,
    SIGNIFICANT,
    TESTED,
    UNTESTED,
    Condition,
    Sentence,
    all_are,
    both,
    first_is,
    none_is,
)

# The first screen, in plain words. Rows: `against_untrained` of the tasks named; for `plain_best`, also the comparisons
# of the task with every other one; for `plain_equivalent_tasks`, its comparisons with the others named; for the last
# three, `effects` of the cells named.
PLAIN_BEST = Sentence("plain_best", "**Pre-training with {tasks} helps most.** {numbers}", all_are(BETTER))
PLAIN_HELPS = Sentence("plain_helps", "**Pre-training with {tasks} helps.** {numbers}", all_are(BETTER))
PLAIN_ALSO = Sentence("plain_also", "**Also better than untrained**: {tasks}.", all_are(BETTER))
PLAIN_NOT_SHOWN = Sentence("plain_not_shown", "**Not shown to help**: {tasks}.", none_is(BETTER))
PLAIN_EQUIVALENT_TASKS = Sentence(
    "plain_equivalent_tasks", "On the test split, {task} is equivalent to {others}.", all_are(EQUIVALENT)
)
PLAIN_NONE_HELPS = Sentence(
    "plain_none_helps",
    "**No pretext task helps here.** {first}{numbers}",
    all_are(WORSE, EQUIVALENT),
)
PLAIN_NONE_SHOWN = Sentence(
    "plain_none_shown",
    "**No pretext task is shown to help.** {first}{numbers}",
    none_is(BETTER),
)
PLAIN_CHANGE = Sentence(
    "plain_change", "**{task}** {before}. **With {cell} it {after}**, and {numbers}.", all_are(BETTER)
)
PLAIN_GAIN = Sentence("plain_gain", "**{task}** {words}: **{cell} helps**; with it, {numbers}.", all_are(BETTER))
PLAIN_NO_CHANGE = Sentence(
    "plain_no_change",
    "**No change is shown to be better than the base** for {tasks}: the ablation compared {n} with it.",
    none_is(BETTER),
)
# Pretrained weights. Rows: the best task's comparison with them, on the test split.
PLAIN_BETTER_THAN_WEIGHTS = Sentence(
    "plain_better_than_weights", "**Pre-training here is better than {weights}.** {numbers}", all_are(BETTER)
)
PLAIN_WORSE_THAN_WEIGHTS = Sentence(
    "plain_worse_than_weights", "**Pre-training here is worse than {weights}.** {numbers}", all_are(WORSE)
)
PLAIN_EQUIVALENT_TO_WEIGHTS = Sentence(
    "plain_equivalent_to_weights",
    "**Pre-training here and {weights} are equivalent**, within {margin}. {numbers}",
    all_are(EQUIVALENT),
)
PLAIN_WEIGHTS_NOT_TOLD_APART = Sentence(
    "plain_weights_not_told_apart",
    "**Pre-training here and {weights} are not told apart.** {numbers}",
    all_are(INCONCLUSIVE, TOO_FEW),
)

# Pretext tasks on the test split, compared with each other. Rows: the task named, compared with every other one.
BEST_TASK = Sentence(
    "best_task",
    "**{task} is the best of {n} pretext tasks on {dataset}**: {numbers}. The runner-up, {rival}, is told apart on the "
    "test split ({difference}).",
    all_are(BETTER),
)
LEADING_TASK = Sentence(
    "leading_task",
    "**Of {n} pretext tasks, {task} has the highest {rank}**. On {dataset}: {numbers}. The runner-up, {rival}, is not "
    "told apart on the test split ({difference}).",
    first_is(EQUIVALENT, INCONCLUSIVE, TOO_FEW),
)
OVERTAKEN_TASK = Sentence(
    "overtaken_task",
    "**Of {n} pretext tasks, {task} has the highest {rank}**. On {dataset}: {numbers}. On the test split, {rival} is "
    "better ({difference}).",
    first_is(WORSE),
)

# Pretext tasks compared with untrained encoders of the same seeds. Rows: `against_untrained` of the tasks named.
NO_TASK_BEATS_UNTRAINED = Sentence(
    "no_task_beats_untrained",
    "**No pretext task beats an untrained encoder on {dataset}** (test split; each is worse, or equivalent within "
    "{margin}): {first}{numbers}",
    all_are(WORSE, EQUIVALENT),
)
NO_TASK_SHOWN_TO_BEAT_UNTRAINED = Sentence(
    "no_task_shown_to_beat_untrained",
    "**No pretext task is shown to beat an untrained encoder on {dataset}** (test split): {first}{numbers}",
    none_is(BETTER),
)
NO_BETTER_THAN_UNTRAINED = Sentence(
    "no_better_than_untrained",
    "**No better than an untrained encoder** (test split; worse, or equivalent within {margin}): {numbers}",
    all_are(WORSE, EQUIVALENT),
)
NOT_SHOWN_BETTER_THAN_UNTRAINED = Sentence(
    "not_shown_better_than_untrained",
    "**Not shown to be better than an untrained encoder** (test split): {numbers}",
    none_is(BETTER),
)
FEATURES_WORSE = Sentence("features_worse", "its features are worse than untrained ones ({means})", all_are(WORSE))
FEATURES_EQUIVALENT = Sentence(
    "features_equivalent", "its features are equivalent to untrained ones ({means})", all_are(EQUIVALENT)
)
FEATURES_NOT_SHOWN_BETTER = Sentence(
    "features_not_shown_better",
    "its features are not shown to be better than untrained ones ({means})",
    none_is(BETTER),
)
TRANSFER = Sentence(
    "transfer",
    "**On {dataset}** (test split), an untrained encoder scores {untrained}. {n_better} of {n} pre-trained encoders "
    "are shown to be better. The largest gain: {largest} The largest of several gains tends to look larger than it is; "
    "its interval is not adjusted for that.",
    ALWAYS,
)
BENCHMARK = Sentence(
    "benchmark",
    "**{study}**: of {n} cells, {n_better} are shown to be better than untrained networks of the same seeds, {n_worse} "
    "worse{untested}.",
    ALWAYS,
)

# Studies compared with each other. Rows: one comparison of a study with the first, for one task and metric.
STUDY_BETTER = Sentence(
    "study_better", "**{task}: {study} is better than {baseline}** in {measured}: {numbers}", all_are(BETTER)
)
STUDY_WORSE = Sentence(
    "study_worse", "**{task}: {study} is worse than {baseline}** in {measured}: {numbers}", all_are(WORSE)
)
STUDY_EQUIVALENT = Sentence(
    "study_equivalent",
    "**{task}: {study} and {baseline} are equivalent within {margin}** in {measured}: {numbers}",
    all_are(EQUIVALENT),
)
STUDIES_NOT_TOLD_APART = Sentence(
    "studies_not_told_apart",
    "**{task}: {study} and {baseline} are not told apart** in {measured}: {numbers}",
    all_are(INCONCLUSIVE, TOO_FEW),
)

# Changes of an ablation compared with their baseline. Rows: `effects` of the cells named.
_CONVERGES_NOW = Condition(
    "the base is known not to have converged, and the cell converged",
    lambda rows: bool((rows["base_converged"].eq(False) & rows["converged"].eq(True)).all()),
)
CURES = Sentence(
    "cures",
    "**{cell}** cures it, as it then {ending}: {numbers}{more}",
    both(all_are(BETTER), _CONVERGES_NOW),
)
HELPS = Sentence("helps", "**{cell}** helps, though it {ending}: {numbers}{more}", all_are(BETTER))
DOES_BETTER = Sentence("does_better", "**{cell}** does better: {numbers}{more}", all_are(BETTER))
ALSO_BETTER = Sentence("also_better", "; also better, not compared with it: {cells}", all_are(BETTER))
ABLATION_FOUND_BETTER = Sentence(
    "ablation_found_better",
    "**The ablation found better**: {cells}. Change that in the YAML and confirm it with fresh seeds.",
    all_are(BETTER),
)
BETTER_CELLS = Sentence("better_cells", "Better than {baseline} in {measured}, largest gain first:", all_are(BETTER))
WORSE_CELLS = Sentence("worse_cells", "**Worse** than {baseline}: {cells}.", all_are(WORSE))
EQUIVALENT_CELLS = Sentence(
    "equivalent_cells", "**Equivalent** to {baseline}, within {margin}: {cells}.", all_are(EQUIVALENT)
)
BETTER_ELSEWHERE = Sentence("better_elsewhere", "; better than another cell: {cells}", all_are(BETTER))
NO_CHANGE_BETTER = Sentence(
    "no_change_better", "no change compared with the base is better ({numbers})", all_are(WORSE, EQUIVALENT)
)
NO_CHANGE_SHOWN_BETTER = Sentence(
    "no_change_shown_better",
    "no change is shown to be better than the base: the largest gain that is left open, {largest}, is inconclusive "
    "(differences below {detectable} can be missed)",
    both(none_is(BETTER), first_is(INCONCLUSIVE)),
)
NO_CHANGE_TESTED = Sentence(
    "no_change_tested",
    "no change is shown to be better than the base: the largest gain that is left open is {largest}",
    both(none_is(BETTER), first_is(TOO_FEW)),
)
NOTHING_SHOWN_BETTER = Sentence(
    "nothing_shown_better",
    "No change that the ablation compared with this configuration is shown to be better.",
    none_is(BETTER),
)

# Seeds at which a task leaves chance. Rows: `take_offs` of the change named, or of all changes of the base.
NO_CHANGE_LEFT_CHANCE = Sentence(
    "no_change_left_chance",
    "it left chance at more seeds with none of the changes",
    Condition(
        "every row has seeds at which both are decided, and none has more that left chance",
        lambda rows: bool(((rows["n_pairs"] > 0) & (rows["rate_difference"] <= 0)).all()),
    ),
)
LEAVES_CHANCE = Sentence(
    "leaves_chance", "it leaves chance more often with {cell} ({rate}, Holm {p}){more}", SIGNIFICANT
)
LEFT_CHANCE_TESTED = Sentence(
    "left_chance_tested",
    "it left chance at more seeds with {cell}, which is not shown to be more than luck ({rate}, Holm {p}){more}",
    both(TESTED, NOT_SIGNIFICANT),
)
LEFT_CHANCE_UNTESTED = Sentence(
    "left_chance_untested",
    "it left chance at more seeds with {cell} ({rate}; too few seeds to test: {needed} could show it){more}",
    UNTESTED,
)

# Main effects and interactions. Rows: `factorial` of a task, or one term of `across_tasks`.
FACTORS_SIGNIFICANT = Sentence("factors_significant", "effects shown: {effects}", SIGNIFICANT)
NO_FACTOR_SIGNIFICANT = Sentence(
    "no_factor_significant", "no effect of its factors is shown", both(TESTED, NOT_SIGNIFICANT)
)
FACTORS_UNTESTED = Sentence("factors_untested", "its factors have too few seeds to test", UNTESTED)
CELLS_DIFFER = Sentence("cells_differ", "the cells differ, on average over tasks ({numbers})", all_are(DIFFERENT))
CELLS_NOT_SHOWN_TO_DIFFER = Sentence(
    "cells_not_shown_to_differ",
    "the cells are not shown to differ, on average over tasks ({numbers})",
    all_are(NOT_SHOWN),
)
EFFECT_DEPENDS_ON_TASK = Sentence(
    "effect_depends_on_task", "the effect of a cell depends on the task ({numbers})", all_are(DIFFERENT)
)
EFFECT_NOT_SHOWN_TO_DEPEND = Sentence(
    "effect_not_shown_to_depend",
    "the effect of a cell is not shown to depend on the task ({numbers})",
    all_are(NOT_SHOWN),
)
ACROSS_TASKS_UNTESTED = Sentence("across_tasks_untested", "too few seeds to test {what}", all_are(TOO_FEW))

# Means without a test. Rows: `not_above_baselines`, `against_chance` of a configuration.
MEAN_NOT_ABOVE_BASELINE = Sentence(
    "mean_not_above_baseline",
    "Test-split mean not above an untrained baseline's (means, not a test): {means}.",
    Condition(
        "every row has a mean of at most the baseline's",
        lambda rows: bool((rows["mean"] <= rows["baseline_mean"]).all()),
    ),
)
NO_SEED_BEAT_CHANCE = Sentence(
    "no_seed_beat_chance",
    "**{tasks}: at least one configuration has no seed that is shown to beat chance.** Check whether its probe beats "
    "random initialization before using it.",
    Condition("no row has a bound beyond chance", lambda rows: not rows["beats_chance"].fillna(value=False).any()),
)

# Test images with a near duplicate among the training images. Rows: `comparisons.leaks.leak_effects` of a task.
_WITHOUT = "without them, the accuracy is {without} instead of {accuracy}"
LEAK_FLATTERS = Sentence(
    "leak_flatters",
    "{task} is right more often on them than on the other images ({numbers}): " + _WITHOUT,
    Condition("the interval of the difference is above 0", lambda rows: bool((rows["ci_low"] > 0).all())),
)
LEAK_NOT_SHOWN = Sentence(
    "leak_not_shown",
    "{task} is not shown to be right more often on them ({numbers}): " + _WITHOUT,
    Condition("the interval of the difference reaches 0", lambda rows: bool((rows["ci_low"] <= 0).all())),
)

LEAK_WARNING = Sentence(
    "leak_warning",
    "**{n} of {total} test images of {dataset} have a near duplicate among the training images**{numbers}.",
    Condition("there are such images", lambda rows: bool((rows["n_leaked"] > 0).all())),
)

# A pretext task on images that are reduced to a cue. Rows: `analysis.comparisons.shortcuts` of a task.
SHORTCUT = Sentence(
    "shortcut",
    "**{task} may have learned a shortcut**: its {metric} is {reduced}, and {whole} on whole images (chance {chance}). "
    "Even out the light or cut off the border, or prefer another task.",
    Condition(
        "the task has learned at least half of the way from chance to a perfect score, and the interval on reduced "
        "images is beyond 75% of that",
        lambda rows: bool(is_shortcut(rows).all()),
    ),
)

# More labels or more images. Rows: ci_low and ci_high of the difference of their expected gains, for each task.
_GAINS = (
    "For {task}, {n_labels} labels more than {labels_now} are expected to add {labels} (as chosen, test split), and "
    "{n_images} images more than {images_now} to add {images} (the ablation's base, {split} split): "
)
MORE_LABELS = Sentence(
    "more_labels",
    _GAINS + "labels pay more ({difference}).",
    Condition("the interval of the difference is above 0", lambda rows: bool((rows["ci_low"] > 0).all())),
)
MORE_IMAGES = Sentence(
    "more_images",
    _GAINS + "images pay more ({difference}).",
    Condition("the interval of the difference is below 0", lambda rows: bool((rows["ci_high"] < 0).all())),
)
MORE_OF_EITHER = Sentence(
    "more_of_either",
    _GAINS + "which pays more is not shown ({difference}).",
    Condition(
        "the interval of the difference contains 0",
        lambda rows: bool(((rows["ci_low"] <= 0) & (rows["ci_high"] >= 0)).all()),
    ),
)

# The cause of a flat run. Rows: `effects` of single changes with their ends, `queries.with_ends`.
CAUSE = Sentence(
    "cause",
    "**The cause was {main}**{also}: among single changes, {each}.",
    Condition(
        "every row is `better` and left chance, which its base is not shown to have left",
        lambda rows: bool(leads_out_of_chance(rows).all()),
    ),
)
NO_CAUSE_SHOWN = Sentence(
    "no_cause_shown",
    "**No single change is shown to be what it lacked**: the largest gain is {largest}.",
    Condition(
        "no row is `better` and left chance, which its base is not shown to have left",
        lambda rows: not leads_out_of_chance(rows).any(),
    ),
)
# Augmentation alone. Rows: its comparison with the base.
AUGMENTATION_CURED = Sentence(
    "augmentation_cured",
    "**Augmentation by itself** cured it: the run then {ending}.",
    both(all_are(BETTER), _CONVERGES_NOW),
)
AUGMENTATION_LEFT_IT = Sentence(
    "augmentation_left_it",
    "**Augmentation by itself** did not cure it: the run then {ending}.",
    Condition("the cell is known not to have left chance", lambda rows: bool((rows["learned"] == False).all())),  # noqa: E712
)
AUGMENTATION_NOT_SHOWN = Sentence(
    "augmentation_not_shown",
    "**Augmentation by itself** is not shown to cure it: the run then {ending}.",
    Condition(
        "the condition of `augmentation_cured` is not met", lambda rows: not AUGMENTATION_CURED.condition.met(rows)
    ),
)
_TOGETHER = both(first_is(BETTER), Condition("left chance", lambda rows: bool(rows["learned"].iloc[0])))
LACKED_BOTH = Sentence(
    "lacked_both",
    "**It lacked two things at once, optimizer steps and augmentation**: {each}; with both it {end}, {numbers} "
    "compared with the steps alone.",
    both(
        _TOGETHER,
        Condition(
            "each change alone is `worse` or `equivalent`", lambda rows: all_are(WORSE, EQUIVALENT).met(rows[1:])
        ),
    ),
)
SHOWN_TOGETHER = Sentence(
    "shown_together",
    "**Optimizer steps and augmentation are shown to help together, and neither is shown to help alone**: {each}; with "
    "both it {end}, {numbers} compared with the steps alone.",
    both(_TOGETHER, Condition("no change alone is `better`", lambda rows: none_is(BETTER).met(rows[1:]))),
)

SENTENCES: Mapping[str, Sentence] = {each.name: each for each in list(vars().values()) if isinstance(each, Sentence)}
