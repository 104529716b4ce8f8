"""Phases of a study, by the names that the journal, the frames and MLflow use."""

BASELINES, SEARCH, CONFIRM, ABLATE, EVALUATE = "baselines", "search", "confirm", "ablate", "evaluate"
PHASES = (BASELINES, SEARCH, CONFIRM, ABLATE, EVALUATE)  # in the order in which they run

OUTCOME_FILE = "outcome.json"  # artifact of a phase's MLflow run with the phase's outcome
