"""Reference recipes: trainings whose results are published, or known from another library, to check the trainers by."""
