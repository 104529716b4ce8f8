"""The plan: which trials each phase runs, what the journal says is done, and what is left."""
