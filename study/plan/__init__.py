"""The plan: which trials each phase runs, what the journal has finished, and what is left to run."""
