"""Phases of a study, by the names that the journal, the frames and MLflow use."""

BASELINES, SEARCH, CONFIRM, ABLATE, EVALUATE = "baselines", "search", "confirm", "ablate", "evaluate"
PHASES = (BASELINES, SEARCH, CONFIRM, ABLATE, EVALUATE)  # in the order in which they run
FRESH_SEEDS = 2**20  # first seed of the confirm phase at study seed 0; above every seed that a study may have

CUT = "cut"  # key of a phase's outcome: time was over before all of its trials had ended
OUTCOME_FILE = "outcome.json"  # artifact of a phase's MLflow run with the phase's outcome


def short_seed(seed: int) -> int:
    """Return a seed as it is shown: a fresh seed without FRESH_SEEDS, for example 3 instead of 1048579."""
    return int(seed) % FRESH_SEEDS
