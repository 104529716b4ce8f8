"""Glossary: the words of the report, embedded in every page and repeated in docs/statistics.md."""

from __future__ import annotations

from analysis.report.blocks import Section, Terms

GLOSSARY = {
    "ablation": "Trials that change one thing at a time, to measure what each change does.",
    "balanced accuracy": (
        "Mean over classes of the accuracy within each class. With rare classes, plain accuracy can be high for a "
        "probe that ignores them; balanced accuracy cannot."
    ),
    "base": "The configuration that an ablation changes.",
    "baseline": "What a cell is compared with: the base, the cell without the change, or an untrained encoder.",
    "better, worse": (
        "Holm p is at most 0.05, the difference is not shown to be within the margin, and the better side failed at "
        "no seed at which the other did not. The interval shows how large it is."
    ),
    "cell": "One configuration of an ablation, trained with several seeds.",
    "chance": (
        "What a model that has learned nothing reaches on average: 1 / number of classes for the accuracy on "
        "balanced classes."
    ),
    "detectable": "The smallest true difference that this many seeds, with this spread, find with probability 0.8.",
    "encoder": "The network whose features are kept after pre-training. Probes use it frozen.",
    "equivalent": (
        "Both ends of the 95% interval are within the margin, and one-sided tests confirm it. There may be a "
        "difference, but it is too small to matter."
    ),
    "Holm p": (
        "p-value after Holm's correction for all comparisons of one family, usually the cells of a design. If no "
        "cell differed, any p of the family would be at most 0.05 in 5% of studies."
    ),
    "inconclusive": "Neither a difference nor equivalence is shown. This does not mean that there is no difference.",
    "interval": "[low, high]: a range that contains the true difference in 95% of studies.",
    "largest class": "Share of the images of the most frequent class: the accuracy of always predicting it.",
    "linear probe": "Accuracy of a linear classifier fitted to the frozen features with labels.",
    "kNN probe": "Accuracy of classifying each image like its nearest neighbors in feature space.",
    "margin": "The smallest difference that matters, `ablate.margin` in the study's YAML.",
    "McNemar's test": (
        "Test of whether more seeds converge with a change than without. It counts only seeds whose outcome "
        "differs, so it needs many seeds."
    ),
    "mIoU": "Mean over classes of the overlap of predicted and true masks, intersection over union.",
    "not shown": "The data rule out neither an effect nor its absence.",
    "raw pixels": "A probe of the images themselves, without an encoder.",
    "runner-up": (
        "The other task with the highest mean among those not told apart from the leading one, if there are any."
    ),
    "seed": (
        "Number that determines all random choices of a trial. Results over several seeds show how much luck matters."
    ),
    "seeds needed": "Number of seeds with which a difference as large as the margin is found with probability 0.8.",
    "split": (
        "Part of the images. Configurations are chosen on the validation split; the test split is used once, at "
        "the end."
    ),
    "told apart": "The difference between two tasks is shown: `better` or `worse`.",
    "too few seeds": (
        "Fewer than 5 seeds have a value of both, so nothing is tested. The only comparison of a task in its family "
        "needs 3, if the study kept the results of every image."
    ),
    "untrained encoder": (
        "The same network with its random initial weights (`random_init`), with the same probe. It is often far "
        "above chance, so it is what pre-training has to beat."
    ),
    "verdict": "How a trial ended, for example `converged` or `at_chance`, with the evidence for it.",
}


def glossary() -> Section:
    """Return the section that explains the words of the report."""
    return Section("glossary", "Words of this report", [Terms(GLOSSARY)], f"{len(GLOSSARY)} words, explained.")
